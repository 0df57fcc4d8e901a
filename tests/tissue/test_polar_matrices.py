"""Polarised light, event by event: the oracle against published tables, one scattering, faces."""

import exact_polarised as exact
import jax
import numpy as np
import pytest
from numba import njit
from polarised_cases import BINS, ELLIPTIC, ONE, amplitudes, slab, sphere, z

from qtwin.tissue import Rayleigh, polar_walk
from qtwin.tissue.polar_tables import cells_of, table
from qtwin.tissue.polarised import polarised as carry

# --- the oracle ------------------------------------------------------------------------------------------------

# Natraj, Li & Yung, Astrophys. J. 691, 1909 (2009), electronic tables: Rayleigh, tau = 1, black ground, flux pi.
# Their Q, as Coulson's, has the other sign: I_r - I_l.
NATRAJ_NORMAL = {  # mu: I up, Q up, I down, Q down; mu0 = 1
    0.10: (0.36135319, 0.24282326, 0.23500677, 0.12992360),
    0.28: (0.36012000, 0.20247847, 0.27736228, 0.13814010),
    0.52: (0.34121268, 0.13236943, 0.28971932, 0.10513055),
    0.84: (0.33370932, 0.04195855, 0.29827193, 0.03621039),
    1.00: (0.33854762, 0.00000000, 0.30690689, 0.00000000),
}
NATRAJ_SLANT = {  # (mu, phi): the same, mu0 = 0.4
    (0.10, 30): (0.42227743, -0.03490718, 0.14770412, -0.01962132),
    (0.52, 60): (0.21075647, -0.05639788, 0.17332927, -0.06255980),
    (0.84, 120): (0.18234510, -0.06290967, 0.11854364, -0.02189721),
    (1.00, 0): (0.14009955, 0.06642419, 0.11460347, 0.05044352),
}


def test_oracle_gives_the_published_tables_at_normal_incidence():
    one = exact.Slab(ONE, 0, seen=list(NATRAJ_NORMAL))
    up, down = (light[one.seen].real for light in one.light([np.pi, 0, 0, 0]))
    ours = np.stack([up[:, 0], -up[:, 1], down[:, 0], -down[:, 1]], axis=1)
    np.testing.assert_allclose(ours, list(NATRAJ_NORMAL.values()), atol=6e-7)


def test_oracle_gives_the_published_tables_at_slant_incidence():
    """Azimuth too; at mu = 1 this is, by reciprocity, the answer to linear light at normal incidence."""
    mu, phi = np.array(list(NATRAJ_SLANT)).T
    up, down = np.zeros((2, len(mu), 4))
    for m in range(3):
        one = exact.Slab(ONE, m, 0.4, seen=mu)
        wave = (2 if m else 1) * np.exp(1j * m * np.radians(phi))[:, None]
        more = [(light[one.seen] * wave).real for light in one.light([np.pi, 0, 0, 0])]
        up, down = up + more[0], down + more[1]
    ours = np.stack([up[:, 0], -up[:, 1], down[:, 0], -down[:, 1]], axis=1)
    np.testing.assert_allclose(ours, list(NATRAJ_SLANT.values()), atol=6e-7)


def test_oracle_is_reciprocal_for_linear_light():
    """Q sent in along the normal and I seen at mu, against I sent in at mu and Q seen along the normal (the table)."""
    one = exact.Slab(ONE, 2, seen=[0.4])
    up, _ = one.light([0, np.pi, 0, 0])
    assert 2 * up[one.seen][0, 0].real == pytest.approx(-0.06642419 / 0.4, rel=1e-5)


def test_oracle_of_a_half_space_gives_chandrasekhars_h_matrices():
    mu = np.array([0.1, 0.5, 0.9])
    deep = exact.Slab([(exact.rayleigh, 64.0, 0.9)], 0, seen=mu)
    up = deep.light([np.pi, 0, 0, 0])[0][deep.seen].real
    h = exact.semi_infinite(mu, 1.0, 0.9, rounds=100) @ [0.5, 0.5]
    np.testing.assert_allclose(up[:, :2], np.stack([h.sum(axis=1), h[:, 0] - h[:, 1]], axis=1), rtol=1e-5)


def test_oracle_of_a_conservative_half_space_polarises_its_limb_by_chandrasekhars_11_71_percent():
    """Light that has crossed a very thick slab leaves as in Milne's problem; the number is quoted from memory."""
    deep = exact.Slab([(exact.rayleigh, 16.0, 1.0)], 0, seen=[1e-4])
    down = deep.light([np.pi, 0, 0, 0])[1][deep.seen].real
    assert -down[0, 1] / down[0, 0] == pytest.approx(0.1171, abs=1e-4)


@pytest.mark.parametrize("law", ["rayleigh", "mie"])
def test_oracle_of_a_thin_slab_scatters_once(law):
    """S = tau/mu M(phi) S_0/(4 pi) in the meridian plane, linear and circular light."""
    tau, mu = 1e-6, np.array([0.3, 0.8])
    amplitude = exact.rayleigh if law == "rayleigh" else amplitudes(sphere())
    phi = 0.7
    up, down = np.zeros((2, 2, 4))
    for m in range(3):
        one = exact.Slab([(amplitude, tau, 1.0)], m, seen=mu)
        more = [(light[one.seen] * (2 if m else 1) * np.exp(1j * m * phi)).real for light in one.light(ELLIPTIC)]
        up, down = up + more[0], down + more[1]
    c2, s2 = np.cos(2 * phi), np.sin(2 * phi)
    turned = np.array([1.0, 0.5 * c2 - 0.4 * s2, -0.4 * c2 - 0.5 * s2, 0.6])
    for sign, light in ((-1, up), (1, down)):
        s1, s2_ = amplitude(sign * mu)
        a, b, w = (abs(s2_) ** 2 + abs(s1) ** 2) / 2, (abs(s2_) ** 2 - abs(s1) ** 2) / 2, s2_ * np.conj(s1)
        both = w * (turned[2] + 1j * turned[3])
        once = np.stack([a + b * turned[1], b + a * turned[1], both.real, both.imag], axis=1)
        np.testing.assert_allclose(light, tau / mu[:, None] * once / (4 * np.pi), rtol=1e-4, atol=1e-12)


# --- one scattering --------------------------------------------------------------------------------------------


@njit
def _scatterings(rows, words, frame, q, u, v, frames, stokes):
    for i in range(len(words)):
        e = frames[i]
        e[:] = frame
        stokes[i] = polar_walk._scatter(rows, words[i, 0], words[i, 1], words[i, 2], e, q, u, v)


@pytest.fixture(scope="module")
def scattered_light():
    """(law, amplitudes, electric vector, frame, frames after, Stokes vectors after) of 2e5 scatterings, two laws."""
    rng = np.random.default_rng(3)
    words = rng.integers(0, 2**32, (200_000, 3), dtype=np.uint32)
    frame, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    frame = frame if np.linalg.det(frame) > 0 else frame[[1, 0, 2]]
    field = np.array([0.8, 0.3 - 0.52j])
    field /= np.linalg.norm(field)
    found = []
    for law, amplitude in ((Rayleigh(), exact.rayleigh), (sphere(), amplitudes(sphere()))):
        rows, frames, stokes = table(law, cells_of(law)), np.empty((len(words), 3, 3)), np.empty((len(words), 3))
        _scatterings(rows, words, frame, *exact.stokes_of(field)[1:], frames, stokes)
        found.append((law, amplitude, field, frame, frames, stokes))
    return found


def test_dipole_radiates_the_part_of_the_field_across_its_direction(scattered_light):
    """E' = E - (E k') k' in space, in the new frame: no angle, no rotation of Stokes vectors."""
    _, _, field, frame, frames, stokes = scattered_light[0]
    electric = field @ frame[:2]
    after = np.einsum("nai,i->na", frames[:, :2], electric)  # the projection drops k'
    truth = exact.stokes_of(after)
    np.testing.assert_allclose(stokes.T, truth[1:] / truth[0], atol=2e-3 / 4)


def test_sphere_scatters_by_its_amplitudes(scattered_light):
    _, amplitude, field, frame, frames, stokes = scattered_light[1]
    jones = exact.scattered(amplitude, frames, np.broadcast_to(frame, frames.shape))
    truth = exact.stokes_of(jones @ field)
    np.testing.assert_allclose(stokes.T, truth[1:] / truth[0], atol=1e-3)
    assert np.abs(stokes[:, 2]).max() > 0.5


def test_frames_stay_right_handed(scattered_light):
    for *_, frames, _ in scattered_light:
        np.testing.assert_allclose(np.einsum("nai,nbi->nab", frames, frames), np.eye(3) + 0 * frames, atol=1e-13)
        np.testing.assert_allclose(np.linalg.det(frames), 1, atol=1e-13)


@pytest.mark.parametrize("case", [0, 1])
def test_angles_follow_the_joint_density(scattered_light, case):
    """Moments of the direction, against quadrature over the sphere of the intensity that the field radiates."""
    _, amplitude, field, frame, frames, _ = scattered_light[case]
    c, w = np.polynomial.legendre.leggauss(40)
    phi = 2 * np.pi * np.arange(32) / 32
    local = exact.directions(c[:, None], phi[None, :])
    into = np.broadcast_to(np.eye(3), local.shape)
    intensity = exact.stokes_of(exact.scattered(amplitude, local, into) @ field)[0] * w[:, None] / 64
    assert intensity.sum() == pytest.approx(1, rel=1e-9)
    k, ours = local[..., 2, :], frames[:, 2] @ frame.T
    for power in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (1, 1, 0), (0, 2, 0), (2, 0, 1), (1, 1, 1), (2, 2, 0)):
        sample, truth = np.prod(ours**power, axis=1), np.sum(intensity * np.prod(k**power, axis=-1))
        assert abs(sample.mean() - truth) < 4.5 * sample.std() / np.sqrt(len(sample)), power


def test_table_keeps_the_mean_cosine_of_a_forward_sphere():
    mie = sphere(radius=3e-6)
    rows = table(mie, cells_of(mie))
    masses = -np.diff(mie.cumulative(rows[:, 0]))
    assert np.sum(masses * (rows[1:, 0] + rows[:-1, 0]) / 2) == pytest.approx(mie.mean_cosine(), abs=2e-6)
    kept, alias = rows[:-1, 6], rows[:-1, 7].astype(int)
    drawn = (kept + np.bincount(alias, 1 - kept, len(kept))) / len(kept)
    np.testing.assert_allclose(drawn, masses / masses.sum(), atol=1e-15)


# --- faces -----------------------------------------------------------------------------------------------------


def test_face_at_brewsters_angle_reflects_s_alone():
    n = 1.5
    r_s, r_p, _, _ = polar_walk.face(np.cos(np.arctan(n)), 1.0, n)
    assert r_p < 1e-30 and r_s == pytest.approx(((n**2 - 1) / (n**2 + 1)) ** 2, rel=1e-12)


def test_face_beyond_the_critical_angle_shifts_the_phase():
    """tan(delta/2) = cos a sqrt(sin^2 a - n^2)/sin^2 a, delta = delta_s - delta_p: Born & Wolf (1.5.4), n = 1/1.5."""
    a, n = np.radians(55.0), 1 / 1.5
    r_s, r_p, phase, _ = polar_walk.face(np.cos(a), 1.5, 1.0)
    half = np.arctan(np.cos(a) * np.sqrt(np.sin(a) ** 2 - n**2) / np.sin(a) ** 2)
    assert r_s == r_p == 1 and phase == pytest.approx(np.exp(-2j * half), abs=1e-14)


@pytest.mark.parametrize("cosine", [0.05, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("n", [(1.0, 1.4), (1.4, 1.0), (1.33, 1.5)])
def test_face_is_the_mueller_matrix_of_its_amplitudes_and_loses_nothing(cosine, n):
    one, part = exact.Slab.__new__(exact.Slab), ELLIPTIC[1:]
    one.n = n[0] / n[1]
    jones, passing = one.faces(np.array([cosine]))
    back, through = polar_walk.reflected(cosine, *n, *part), polar_walk.refracted(cosine, *n, *part)
    np.testing.assert_allclose(back, exact.mueller(jones)[0] @ ELLIPTIC, atol=1e-13)
    np.testing.assert_allclose(through, passing[0] @ ELLIPTIC, atol=1e-13)
    assert back[0] + through[0] == pytest.approx(1, abs=1e-14)


def test_mirror_turns_the_handedness():
    back = np.array(polar_walk.reflected(1.0, 1.0, 1.5, *ELLIPTIC[1:]))
    np.testing.assert_allclose(back / 0.04, ELLIPTIC * [1, 1, -1, -1], rtol=1e-12)


def test_clear_plate_reflects_and_transmits_polarised_light_as_many_times_as_it_must():
    """sum over k of T_1 M^k T_2, p and s apart, and the product of both for U and V; slanted, 55 degrees."""
    plate = slab(mu_s=0.0, mu_a=200.0, n=1.5)
    angle, n = np.radians(55.0), 1.5
    found = carry(plate, None, ELLIPTIC, key=jax.random.key(1), photons=400_000, angle=angle, bins=BINS)
    inside = np.sqrt(1 - (np.sin(angle) / n) ** 2)
    loss = np.exp(-200 * 1e-3 / inside)
    r = [np.sqrt(x) for x in polar_walk.face(np.cos(angle), 1.0, n)[:2]]
    sign = np.sign(polar_walk.face(inside, n, 1.0)[2].real)

    def sums(a, b):
        """Light reflected and transmitted after entering, for amplitudes a, b of one face (a = b: s or p)."""
        both, through = a * b, np.sqrt((1 - a * a) * (1 - b * b))
        return through * both * loss**2 * through / (1 - both**2 * loss**2), through**2 * loss / (1 - both**2 * loss**2)

    (s_up, s_down), (p_up, p_down), (up, down) = sums(r[0], r[0]), sums(r[1], r[1]), sums(r[0] * sign, r[1])
    for measured, s, p, uv in ((found.reflected, s_up, p_up, up), (found.transmitted, s_down, p_down, down)):
        truth = [(p + s) / 2 + (p - s) / 2 * 0.5, (p - s) / 2 + (p + s) / 2 * 0.5, -0.4 * uv, 0.6 * uv]
        assert np.abs(z(measured, truth)).max() < 4.5
    assert np.all(found.reflected.stderr < 2e-3 * found.reflected.value[0] + 1e-4)


def test_light_along_the_normal_stands_in_the_harmonics_as_a_narrow_cone():
    """Light reflected inside a clear plate: at every azimuth its Fourier series is its field in the meridian frame."""
    found = carry(slab(mu_s=0.0, n=1.5), None, ELLIPTIC, key=jax.random.key(4), photons=50_000, bins=BINS)
    solid = 2 * np.pi * (1 - np.cos(np.pi / 8))
    for axis, measured, lab in (
        (-1.0, found.angle_reflected, found.reflected.value),
        (1.0, found.angle_transmitted, found.transmitted.value - found.ballistic),
    ):
        for phi in (0.0, 0.4, 2.0):
            frame = exact.directions(np.float64(axis), np.float64(phi))[:2]
            jones = np.stack([[1.0, 0, 0], [0, axis, 0]], axis=1)  # x and k x x
            waves = np.array([1, np.cos(phi), np.sin(phi), np.cos(2 * phi), np.sin(2 * phi)])
            truth = exact.mueller(frame @ jones) @ lab / solid
            np.testing.assert_allclose(waves @ measured.value[0], truth, atol=1e-12)
