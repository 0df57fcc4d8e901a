"""Tissues of skin, breast and head as compositions: field -> (value, where it comes from).

Scalp, skull, grey and white matter are no compositions but published tables, in `data/media`.
"""

_JACQUES_LIST = "S. L. Jacques, tissue list of mcxyz (omlc.org, 2013), a model value"
_TABLE_1 = "Salomatina et al. 2006 in Jacques, Phys. Med. Biol. 58, R37 (2013), Table 1"
_TABLE_2 = "Jacques 2013, Table 2, mean of fatty tissue"
_PARK_5 = "Park et al., J. Biomed. Opt. 28, 066002 (2023), Table 5"
_PARK_6 = "Park et al. 2023, Table 6"
_DENG = "Deng et al., Biomed. Opt. Express 6, 2366 (2015), table of the DigiBreast phantom"
_SKIN_G = "0.62 + 0.29 l/um at 810 nm (van Gemert et al., IEEE Trans. Biomed. Eng. 36, 1146 (1989)); 0.75 at 450 nm"
_BASELINE = "all but blood and melanin: Jacques, Skin optics, omlc.org (1998)"
_MAMMARY = "declared assumption after the mammary gland of Woodard & White, Br. J. Radiol. 59, 1209 (1986)"
_POWER = f"{_DENG}, mu_s' at 690 and 830 nm"

PRESETS: dict[str, dict[str, tuple[float | str, str]]] = {
    "epidermis": {
        "a": ("66.7 1/cm", _TABLE_1),
        "f_ray": (0.29, _TABLE_1),
        "b_mie": (0.689, _TABLE_1),
        "g": (0.855, _SKIN_G),
        "n": (1.37, f"{_PARK_6}, skin"),
        "water": (0.75, _JACQUES_LIST),
        "melanin": (0.03, f"{_JACQUES_LIST}; light skin has 1.3 to 6.3 % (Jacques, Skin optics, omlc.org, 1998)"),
        "skin_baseline": (0.97, _BASELINE),
    },
    "dermis": {
        "a": ("43.6 1/cm", _TABLE_1),
        "f_ray": (0.41, _TABLE_1),
        "b_mie": (0.69, _TABLE_1),
        "g": (0.855, _SKIN_G),
        "n": (1.37, f"{_PARK_6}, skin"),
        "blood": (0.002, _JACQUES_LIST),
        "saturation": (0.67, _JACQUES_LIST),
        "water": (0.65, _JACQUES_LIST),
        "skin_baseline": (0.998, _BASELINE),
    },
    "subcutaneous_fat": {
        "a": ("19.3 1/cm", _TABLE_2),
        "f_ray": (0.174, _TABLE_2),
        "b_mie": (0.447, _TABLE_2),
        "g": (0.9, "mean anisotropy of soft tissue in Jacques 2013"),
        "n": (1.44, f"{_PARK_6}, fat"),
        "blood": (0.0115, f"{_PARK_5}, fat of the breast"),
        "saturation": (0.742, f"{_DENG}, adipose"),
        "water": (0.17, f"{_PARK_5}, fat of the breast, middle of 14 to 20 %"),
        "fat": (0.8185, f"{_PARK_5}, what blood and water leave"),
    },
    "breast_adipose": {
        "a": ("1.159 1/mm", f"{_POWER}: 0.851 and 0.713 /mm"),
        "b_mie": (0.958, f"{_POWER}: 0.851 and 0.713 /mm"),
        "g": (0.98, f"{_PARK_6}, fat"),
        "n": (1.44, f"{_PARK_6}, fat"),
        "blood": (0.00802, f"{_DENG}: 18.65 uM of haemoglobin, over 150 g/L in blood"),
        "saturation": (0.742, f"{_DENG}: 13.84 of 18.65 uM"),
        "water": (0.17, f"{_PARK_5}, fat, middle of 14 to 20 %"),
        "fat": (0.822, f"{_PARK_5}, what blood and water leave"),
    },
    "breast_fibroglandular": {
        "a": ("1.259 1/mm", f"{_POWER}: 0.925 and 0.775 /mm"),
        "b_mie": (0.958, f"{_POWER}: 0.925 and 0.775 /mm"),
        "g": (0.96, f"{_PARK_6}, glandular"),
        "n": (1.36, f"{_PARK_6}, glandular"),
        "blood": (0.01093, f"{_DENG}: 25.43 uM of haemoglobin, over 150 g/L in blood"),
        "saturation": (0.746, f"{_DENG}: 18.96 of 25.43 uM"),
        "water": (0.514, f"{_MAMMARY}, mean"),
        "fat": (0.309, f"{_MAMMARY}, mean, by mass"),
    },
    "breast_tumour": {
        "a": ("1.303 1/mm", f"{_POWER}: 0.957 and 0.801 /mm"),
        "b_mie": (0.958, f"{_POWER}: 0.957 and 0.801 /mm"),
        "g": (0.955, f"{_PARK_6}, viable tumour cells"),
        "n": (1.39, f"{_PARK_6}, viable tumour cells"),
        "blood": (0.01175, f"{_DENG}: 27.32 uM of haemoglobin, over 150 g/L in blood"),
        "saturation": (0.754, f"{_DENG}: 20.60 of 27.32 uM"),
        "water": (0.4767, f"{_PARK_5}, viable tumour cells"),
        "fat": (0.5116, f"{_PARK_5}, what blood and water leave"),
    },
    "csf": {
        "a": ("0.01 1/mm", "Cassano et al., Neurophotonics 6, 015004 (2019), Table 1: mu_s' from 670 to 1064 nm"),
        "b_mie": (0.0, "Cassano et al. 2019, Table 1: the same mu_s' at every wavelength"),
        "g": (0.89, "Cassano et al. 2019, Table 1, caption"),
        "n": (1.33, "water"),
        "water": (
            1.0,
            "absorbs like water; within a quarter of Cassano et al. 2019 at 670, 810, 980 and 1064 nm",
        ),
    },
}
