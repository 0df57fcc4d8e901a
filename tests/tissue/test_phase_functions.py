"""Laws of scattering: density, sampler and table of each against the others, closed forms and published spheres."""

import subprocess
import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import legendre
from scipy import stats
from scipy.special import roots_legendre, spherical_jn, spherical_yn

from qtwin.core.errors import FieldError, UserError
from qtwin.tissue import mie
from qtwin.tissue.inverse_table import inverse_table, quantile, sample_table, table_density
from qtwin.tissue.mie import Mie
from qtwin.tissue.phase_functions import HenyeyGreenstein, Rayleigh, TwoTerm
from qtwin.tissue.tabulated import Tabulated


def sphere(m, x):
    """A sphere of relative index m and size parameter x, in water at 633 nm."""
    return Mie(x * 633e-9 / (2 * np.pi * 1.33), "633 nm", 1.33 * m, 1.33)


COSINES = np.array([-1, -0.7, -0.1, 0.3, 0.85, 1])
LAWS = {
    "hg_backward": HenyeyGreenstein(-0.5),
    "hg_isotropic": HenyeyGreenstein(0),
    "hg_forward": HenyeyGreenstein(0.9),
    "two_term": TwoTerm(0.95, -0.4, 0.9),
    "two_term_one": TwoTerm(0.8, -0.4, 1),
    "rayleigh": Rayleigh(),
    "mie_small": sphere(1.1, 0.5),
    "mie": sphere(1.55, 5.213),
    "mie_tissue": sphere(1.04, 20),
    "tabulated": Tabulated(COSINES, [3, 0, 0, 1.5, 0.5, 8]),
    "tabulated_hg": Tabulated(
        np.cos(np.radians(np.arange(181.0))), HenyeyGreenstein(0.8).density(np.cos(np.radians(np.arange(181.0))))
    ),
}
each = pytest.mark.parametrize("name", LAWS)
NODES, WEIGHTS = roots_legendre(60)


def integral(f, low=-1.0, high=1.0, panels=400):
    """Gauss rule on panels of equal angle, with the rows of the tables among the edges."""
    edges = np.union1d(-np.cos(np.linspace(0, np.pi, panels + 1)), [*COSINES, *np.cos(np.radians(np.arange(181.0)))])
    edges = np.union1d(np.clip(edges, low, high), [low, high])
    c = edges[:-1, None] + np.diff(edges)[:, None] * (NODES + 1) / 2
    return float(np.sum(np.asarray(f(c)) * WEIGHTS * np.diff(edges)[:, None] / 2))


def bins_of(law, count=40):
    """Edges of equal angle, and the probability of each; those too rare for a chi-square are joined."""
    edges = -np.cos(np.linspace(0, np.pi, count + 1))
    keep, last = [0], 0.0
    for i, f in enumerate(law.cumulative(edges)):
        if f - last > 1e-3 and 1 - f > 1e-3:
            keep.append(i)
            last = f
    edges = edges[[*keep, count]]
    return edges, np.diff(law.cumulative(edges))


def assert_follows(cosines, law):
    """z of mean and mean square, and a chi-square."""
    c = np.asarray(cosines, float)
    for value, expected in (
        (c, integral(lambda x: x * law.density(x))),
        (c**2, integral(lambda x: x**2 * law.density(x))),
    ):
        assert abs(value.mean() - expected) / (value.std() / np.sqrt(c.size)) < 4
    assert chi_square(c, law) > 1e-4


def chi_square(c, law):
    edges, chance = bins_of(law)
    return stats.chisquare(np.histogram(c, edges)[0], chance / chance.sum() * c.size).pvalue


# --- every law -------------------------------------------------------------------------------------------------


@each
def test_density_is_normalised_and_has_the_mean_cosine(name):
    law = LAWS[name]
    assert integral(law.density) == pytest.approx(1, abs=1e-12)
    assert integral(lambda c: c * law.density(c)) == pytest.approx(float(law.mean_cosine()), abs=1e-12)
    assert np.all(np.asarray(law.density(np.linspace(-1, 1, 1001))) >= 0)


@each
def test_cumulative_is_the_integral_of_the_density(name):
    law = LAWS[name]
    edges = np.array([-1, -0.93, -0.2, 0.41, 0.999, 1])
    parts = [integral(law.density, low, high) for low, high in pairwise(edges)]
    np.testing.assert_allclose(law.cumulative(edges), [0, *np.cumsum(parts)], atol=1e-12)


@each
def test_sampled_cosines_follow_the_density(name):
    u = np.random.default_rng(81).random(50_000)
    c = LAWS[name].sample(u)
    assert_follows(c, LAWS[name])
    assert chi_square(np.asarray(c), HenyeyGreenstein(0.3)) < 1e-6


@each
def test_quantile_inverts_the_cumulative(name):
    law, u = LAWS[name], np.linspace(0, 1, 1001)
    c = quantile(law, u)
    np.testing.assert_allclose(law.cumulative(c), u, atol=1e-11)
    assert c[0] == -1 and c[-1] == 1 and np.all(np.diff(c) > 0)


@each
def test_table_keeps_the_moments(name):
    law = LAWS[name]
    table = law.table()
    assert table.dtype == np.float32 and table.shape == (law.table_size + 1,)
    assert table[0] == -1 and table[-1] == 1 and np.all(np.diff(table) >= 0)
    low, high = table[:-1].astype(float), table[1:].astype(float)
    assert np.mean(low + high) / 2 == pytest.approx(float(law.mean_cosine()), abs=1e-8)
    second = integral(lambda c: c**2 * law.density(c))
    assert np.mean(low * low + low * high + high * high) / 3 == pytest.approx(
        second, abs=2e-5 if name == "tabulated" else 2e-6
    )  # a gap with p = 0 is one cell


@each
def test_density_of_the_table_is_that_of_the_law(name):
    """In single cells, where float32 resolves them and p hardly changes within; and by blocks of 64 cells, in all."""
    law = LAWS[name]
    table = law.table().astype(float)
    width = np.diff(table)
    centre = (table[1:] + table[:-1])[(width > 2e-5) & (width < 2e-3)] / 2
    ratio = table_density(table, centre) / np.asarray(law.density(centre))
    assert len(centre) > 1000 and np.quantile(np.abs(ratio - 1), 0.99) < 0.02
    assert np.abs(np.mean(ratio - 1)) < 1e-3
    share = np.diff(law.cumulative(table[::64])) * law.table_size / 64
    assert np.abs(share - 1).max() < 0.02


@each
def test_cosines_from_the_table_follow_the_density(name):
    law = LAWS[name]
    u = jnp.asarray(np.random.default_rng(82).random(200_000), jnp.float32)
    c = jax.jit(sample_table)(jnp.asarray(law.table()), u)
    assert c.dtype == jnp.float32 and c.min() >= -1 and c.max() <= 1
    assert_follows(c, law)


def test_table_of_a_strong_forward_peak():
    """g = 0.9945: at 4096 entries the mean still holds; a handful of entries is refused."""
    law = sphere(1.04, 60)
    table = inverse_table(law, 4096).astype(float)
    assert law.mean_cosine() > 0.994
    assert np.mean(table[1:] + table[:-1]) / 2 == pytest.approx(law.mean_cosine(), abs=1e-8)
    with pytest.raises(FieldError, match=r"size: got 64, too coarse"):
        law.table(64)


def test_table_density_where_float32_joins_nodes():
    """HG of g = 0.999: most nodes of the peak share a float32 cosine, and no probability is lost."""
    table = inverse_table(HenyeyGreenstein(0.999), 16384)
    nodes = np.unique(table).astype(float)
    density = table_density(table, (nodes[1:] + nodes[:-1]) / 2)
    assert len(nodes) < 5000 and np.all(np.isfinite(density))
    assert np.sum(density * np.diff(nodes)) == pytest.approx(1, abs=1e-12)


# --- closed forms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", range(6))
def test_legendre_moments(degree):
    """g^l; f g^l + (1 - f) g'^l; of Rayleigh 1, 0, 1/10, 0, ..."""
    polynomial = legendre.Legendre.basis(degree)

    def moment(law):
        return integral(lambda c: polynomial(c) * law.density(c))

    assert moment(LAWS["hg_forward"]) == pytest.approx(0.9**degree, abs=1e-11)
    assert moment(LAWS["two_term"]) == pytest.approx(0.9 * 0.95**degree + 0.1 * (-0.4) ** degree, abs=1e-11)
    assert moment(LAWS["rayleigh"]) == pytest.approx([1, 0, 0.1, 0, 0, 0][degree], abs=1e-12)


def test_rayleigh_is_inverted_exactly():
    u = np.linspace(0, 1, 101)
    c = Rayleigh().sample(u)
    np.testing.assert_allclose(Rayleigh().cumulative(c), u, atol=1e-15)
    np.testing.assert_allclose(c, -c[::-1], atol=1e-15)


def test_two_term_of_one_term_is_henyey_greenstein():
    c, u = np.linspace(-1, 1, 21), np.linspace(0.01, 0.99, 21)
    one, plain = TwoTerm(0.8, -0.4, 1), HenyeyGreenstein(0.8)
    for other in (one, TwoTerm(-0.4, 0.8, 0), TwoTerm(0.8, 0.8, 0.3)):
        np.testing.assert_allclose(other.density(c), plain.density(c), rtol=1e-14)
    np.testing.assert_allclose(one.sample(u), plain.sample(u), rtol=1e-14)


@pytest.mark.parametrize("name", ["hg_forward", "two_term", "rayleigh"])
def test_closed_laws_run_in_jit_in_the_type_of_their_argument(name):
    law = LAWS[name]
    u = jnp.linspace(0.01, 0.99, 7, dtype=jnp.float32)
    for method in ("sample", "density"):
        got = jax.jit(lambda law, x, method=method: getattr(law, method)(x))(law, u)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, getattr(law, method)(np.asarray(u, float)), rtol=2e-4, atol=2e-6)


def test_gradients_of_the_two_terms():
    def f(a, b, part):
        return jnp.log(TwoTerm(a, b, part).density(0.3))

    at, h = (0.9, -0.4, 0.7), 1e-6
    for i, slope in enumerate(jax.grad(f, (0, 1, 2))(*map(jnp.asarray, at))):
        up, down = ([x + s * h * (i == j) for j, x in enumerate(at)] for s in (1, -1))
        assert float(slope) == pytest.approx(float(f(*up) - f(*down)) / (2 * h), rel=1e-6)


# --- spheres ---------------------------------------------------------------------------------------------------


def series(m, x):
    """a_n and b_n from the spherical Bessel functions themselves: Bohren & Huffman (4.53)."""
    n = np.arange(1, int(x + 4.05 * np.cbrt(x) + 2) + 1)
    j, dj = (lambda z: z * spherical_jn(n, z)), (lambda z: spherical_jn(n, z) + z * spherical_jn(n, z, True))
    h = x * (spherical_jn(n, x) + 1j * spherical_yn(n, x))
    dh = h / x + x * (spherical_jn(n, x, True) + 1j * spherical_yn(n, x, True))
    a = (m * j(m * x) * dj(x) - j(x) * dj(m * x)) / (m * j(m * x) * dh - h * dj(m * x))
    b = (j(m * x) * dj(x) - m * j(x) * dj(m * x)) / (j(m * x) * dh - m * h * dj(m * x))
    return n, a, b


@pytest.mark.parametrize(("m", "x"), [(1.02, 0.3), (1.04, 20.0), (0.9, 3.0), (1.55, 5.213), (1.2, 50.0)])
def test_cross_section_and_mean_cosine_of_the_series(m, x):
    """Q = 2/x^2 sum (2n+1)(|a|^2 + |b|^2) and g from products of neighbours: Bohren & Huffman (4.61), section 4.5."""
    law = Mie(x * 633e-9 / (2 * np.pi * 1.45), 633e-9, 1.45 * m, 1.45)
    n, a, b = series(m, x)
    q = 2 / x**2 * np.sum((2 * n + 1) * (np.abs(a) ** 2 + np.abs(b) ** 2))
    assert law.cross_section() == pytest.approx(q * np.pi * float(law.radius) ** 2, rel=1e-7)
    k = n[:-1]
    cross = k * (k + 2) / (k + 1) * np.real(a[:-1] * np.conj(a[1:]) + b[:-1] * np.conj(b[1:]))
    g = 4 / (q * x**2) * (np.sum(cross) + np.sum((2 * n + 1) / (n * (n + 1)) * np.real(a * np.conj(b))))
    assert law.mean_cosine() == pytest.approx(g, abs=1e-7)


@pytest.mark.parametrize(("m", "x"), [(1.04, 20.0), (0.9, 3.0), (1.55, 5.213)])
def test_normalisation_of_miepython_is_understood(m, x):
    """Its Q, g and intensities per steradian (norm "one"), from amplitudes of its own."""
    import miepython

    law = Mie(x * 633e-9 / (2 * np.pi * 1.45), 633e-9, 1.45 * m, 1.45)
    _, q, _, g = miepython.efficiencies_mx(m, x)
    assert law.cross_section() == pytest.approx(q * np.pi * float(law.radius) ** 2, rel=1e-9)
    assert law.mean_cosine() == pytest.approx(g, abs=1e-9)
    c = np.linspace(-1, 1, 31)
    np.testing.assert_allclose(law.density(c), 2 * np.pi * miepython.i_unpolarized(m, x, c, norm="one"), rtol=1e-8)


@pytest.mark.parametrize(
    ("m", "x", "q", "g"),
    [
        (0.75, 10, 2.232265, 0.896473),
        (1.5, 10, 2.881999, 0.742913),
        (1.5, 100, 2.094388, 0.818246),
    ],
)
def test_spheres_of_wiscombe(m, x, q, g):
    """Wiscombe, NCAR Technical Note TN-140+STR (1979): scattering efficiency and asymmetry."""
    law = Mie(x * 633e-9 / (2 * np.pi * 1.5), 633e-9, 1.5 * m, 1.5)
    assert law.cross_section() / (np.pi * float(law.radius) ** 2) == pytest.approx(q, abs=2e-6)
    assert law.mean_cosine() == pytest.approx(g, abs=2e-6)


def test_mueller_elements_of_bohren_and_huffman():
    """Listing of appendix A, radius 0.525 um at 0.6328 um, m = 1.55: S11/S11(0), -S12/S11, S33/S11, S34/S11."""
    angle, s11, pol, s33, s34 = np.array(
        [
            [0, 1.0, 0, 1, 0],
            [9, 0.785390, -0.00459811, 0.999400, 0.0343261],
            [27, 0.0766119, -0.364744, 0.843603, 0.394076],
            [36, 0.0355355, -0.534997, 0.686967, -0.491787],
            [90, 0.0124601, 0.230462, 0.937497, 0.260742],
            [108, 0.00954239, -0.756255, -0.0394748, -0.653085],
        ]
    ).T
    law = Mie(0.525e-6, 0.6328e-6, 1.55, 1)
    c = np.cos(np.radians(angle))
    rows = law.mueller(c)
    np.testing.assert_allclose(rows[0] / rows[0][0], s11, rtol=2e-6)
    for row, expected in zip(rows[1:], (-pol, s33, s34), strict=True):
        np.testing.assert_allclose(row / rows[0], expected, atol=1e-6)
    np.testing.assert_array_equal(rows[0], law.density(c))


@pytest.mark.parametrize("name", ["rayleigh", "mie", "mie_tissue"])
def test_a_single_sphere_keeps_light_fully_polarised(name):
    """S11^2 = S12^2 + S33^2 + S34^2; forward and backward S12 = 0 and S33 = +-S11."""
    c = np.linspace(-1, 1, 41)
    s11, s12, s33, s34 = (np.asarray(row) for row in LAWS[name].mueller(c))
    np.testing.assert_allclose(s12**2 + s33**2 + s34**2, s11**2, rtol=1e-9)
    np.testing.assert_allclose(s12[[0, -1]] / s11[[0, -1]], 0, atol=1e-9)
    np.testing.assert_allclose(s33[[0, -1]], s11[[0, -1]] * [-1, 1], rtol=1e-9)
    np.testing.assert_allclose(s11, LAWS[name].density(c), rtol=1e-14)


def test_small_spheres_scatter_as_rayleigh_says():
    """Density and Mueller elements to order x^2; C = (8/3) pi k^4 r^6 ((m^2 - 1)/(m^2 + 2))^2."""
    c, limit, m = np.linspace(-1, 1, 11), Rayleigh(), 1.2
    off = []
    for x in (0.04, 0.02):
        law = sphere(m, x)
        off.append(np.abs(law.density(c) - limit.density(c)).max())
        r = float(law.radius)
        rayleigh = 8 / 3 * np.pi * x**4 * r**2 * ((m**2 - 1) / (m**2 + 2)) ** 2
        assert law.cross_section() == pytest.approx(rayleigh, rel=2 * x**2)
        for row, expected in zip(law.mueller(c), limit.mueller(c), strict=True):
            np.testing.assert_allclose(row, expected, atol=x**2)
    assert off[0] / off[1] == pytest.approx(4, rel=0.02) and off[1] < 4e-4


def test_sphere_sizes_at_the_ends_of_the_range():
    np.testing.assert_allclose(sphere(1.1, 1.01e-4).density(COSINES), Rayleigh().density(COSINES), rtol=1e-6)
    large = sphere(1.04, 300.0)
    assert integral(large.density, panels=2000) == pytest.approx(1, abs=1e-9)


def test_missing_library_says_what_to_install(monkeypatch):
    mie._sphere.cache_clear()
    monkeypatch.setitem(sys.modules, "miepython", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[mie\]'"):
        sphere(1.1, 2.0).mean_cosine()


def test_library_is_imported_only_when_used():
    code = "import sys, qtwin.tissue.mie as m; m.Mie(1e-6, 1e-6, 1.5, 1.3); assert 'miepython' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- tables of the user ----------------------------------------------------------------------------------------

GOOD = "# measured by hand\n{header}\n{units}\n{rows}\n"


@pytest.mark.parametrize(
    ("header", "units", "rows"),
    [
        ("cos,p", "1,1", "-1,3\n0.5,1\n1,8"),
        ("p,cos", "1/sr,1", "8,1\n1,0.5\n3,-1"),
        ("angle,p", "deg,1", "0,16\n60,2\n180,6"),
        ("angle,p", "rad,1", f"{np.pi},6\n{np.pi / 3},2\n0,16"),
    ],
)
def test_files_of_all_forms(tmp_path, header, units, rows):
    file = tmp_path / "law.csv"
    file.write_text(GOOD.format(header=header, units=units, rows=rows))
    total = 1.5 * 2 + 0.5 * 4.5
    np.testing.assert_allclose(
        Tabulated.read(str(file)).density([-1.0, -0.25, 0.5, 1.0]), np.array([3, 2, 1, 8]) / total, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds 0 lines"),
        ("cos,p\n1,1\n", "holds 2 lines"),
        ("cos,p\n1,1\n0,1\n", "1 cosines"),
        ("cos,q\n1,1\n-1,1\n1,1\n", "line 1: got cos,q"),
        ("angle,p\n1,1\n0,1\n180,1\n", "line 2: got 1,1"),
        ("cos,p\n1,1\n-1,1\n1,1,1\n", "line 4: got 3 values"),
        ("cos,p\n1,1\n-1,1\n1,x\n", "line 4: got 1,x"),
        ("cos,p\n1,1\n-1,nan\n1,1\n", "line 3: got -1,nan"),
        ("cos,p\n1,1\n-1,1\n0,-1\n1,1\n", "densities from -1 to 1"),
        ("cos,p\n1,1\n-1,0\n1,0\n", "not all 0"),
        ("cos,p\n1,1\n-1,1\n0.5,1\n0,1\n1,1\n", "not in order"),
        ("cos,p\n1,1\n-1,1\n0.9,1\n", "from -1 to 0.9"),
        ("angle,p\ndeg,1\n0,1\n190,1\n", "angles from 0 to 190"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, text, message):
    file = tmp_path / "law.csv"
    file.write_text(text)
    with pytest.raises(FieldError, match=r"^file: '.*law\.csv': ") as caught:
        Tabulated.read(str(file))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FieldError, match=r"nowhere\.csv': is not there"):
        Tabulated.read(str(tmp_path / "nowhere.csv"))
    with pytest.raises(FieldError, match="cannot be read"):
        Tabulated.read(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HenyeyGreenstein(1), "g: got 1"),
        (lambda: HenyeyGreenstein(-1), "g: got -1"),
        (lambda: HenyeyGreenstein(float("nan")), "g: got"),
        (lambda: TwoTerm(0.9, -1, 0.5), "g_backward: got -1"),
        (lambda: TwoTerm(0.9, -0.5, 1.1), "fraction: got 1.1"),
        (lambda: Mie("1 um", 0, 1.5, 1.3), "wavelength: got 0"),
        (lambda: Mie("-1 um", "633 nm", 1.5, 1.3), "radius: got"),
        (lambda: Mie("1 Hz", "633 nm", 1.5, 1.3), "radius: "),
        (lambda: Mie(1.0, "633 nm", 1.5, 1.3), "size parameter 1.29e+07"),
        (lambda: Mie("1 um", "633 nm", 1.3, 1.3), "nothing scatters"),
        (lambda: Tabulated([-1, 1], [1, float("nan")]), "p: holds NaN"),
        (lambda: Tabulated([-1, 1], ["a", 1]), "p: holds something"),
        (lambda: Tabulated([-1, 0, 1], [1, 1]), "3 cosines and 2 densities"),
        (lambda: Tabulated([-1], [1]), "1 cosines"),
        (lambda: Tabulated([[-1, 1]], [1, 1]), "cosine: got an array of shape"),
        (lambda: Rayleigh().table(1), "size: got 1,"),
        (lambda: Rayleigh().table(4096.0), "size: got 4096.0"),
    ],
)
def test_bad_values_name_the_field(make, message):
    with pytest.raises(FieldError) as caught:
        make()
    assert message in str(caught.value)


def test_a_table_cannot_be_made_of_a_traced_law():
    with pytest.raises(FieldError, match="g: got a traced value"):
        jax.jit(lambda g: HenyeyGreenstein(g).table())(0.5)
    with pytest.raises(FieldError, match="radius: got a traced value"):
        jax.jit(lambda r: Mie(r, 1e-6, 1.5, 1.3).mean_cosine())(1e-6)
