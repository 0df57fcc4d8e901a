"""`${optical:mu_a,${.media},${wavelength}}` in a YAML: optical properties by name and wavelength."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from qtwin.core.errors import FieldError, UserError
from qtwin.core.units import parse
from qtwin.tissue.media import Optical
from qtwin.tissue.media import optical as properties


def optical(field, media, wavelength, *, parent: DictConfig, root: DictConfig):
    """The value of one field for one medium, or the list for a list of them; SI, rounded to 6 digits.

    A mistake is a FieldError that names the key where it was written: `media` beside the asking key, or the wavelength.
    """
    if field not in Optical._fields:
        raise UserError(f"'optical' got {field!r}, accepted are {', '.join(Optical._fields)}")
    try:
        metres = parse(wavelength, "m")
        if not metres > 0:
            raise UserError(f"got {wavelength!r}, accepted is a wavelength greater than 0")
    except UserError as error:
        raise FieldError(_holder(root, wavelength), str(error)) from error
    several = OmegaConf.is_list(media)
    try:
        values = [
            float(f"{float(getattr(properties(medium, metres), field)):.6g}")
            for medium in (media if several else [media])
        ]
    except UserError as error:
        raise FieldError(parent._get_full_key("media"), str(error)) from error
    return ListConfig(values) if several else values[0]


def _holder(root: DictConfig, wavelength) -> str:
    """The key where the wavelength was written, which `wavelength` itself may only follow."""
    parts: Any = OmegaConf.to_container(root, resolve=False)
    rows = [("wavelength", parts.get("wavelength"))]
    for part, node in parts.items():
        rows += [(f"{part}.{key}", value) for key, value in node.items()] if isinstance(node, dict) else []
    return next((key for key, value in rows if key.endswith("wavelength") and value == wavelength), "wavelength")
