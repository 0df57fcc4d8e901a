"""First-order optics of rays, pairs and beams against wave optics on grids, draws and textbook laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes

from qtwin.core.errors import FieldError
from qtwin.optics.abcd import (
    Misalignment,
    beam_radius,
    carry,
    carry_beam,
    carry_pairs,
    chain,
    circular_aperture,
    displaced,
    far_field,
    free_space,
    gaussian_aperture,
    gaussian_aperture_pairs,
    ghost_image,
    in_wave_vectors,
    klyshko,
    numerical_aperture,
    relay,
    system,
    thin_lens,
    waist_beam,
    wavefront_curvature,
)
from qtwin.source.biphoton import DoubleGaussian, Moments, Rays
from qtwin.source.collection import aperture_collection

SIGNAL, IDLER = 780e-9, 1 / (1 / 405e-9 - 1 / 780e-9)
COUNT = 100_000


def source(**changes):
    values = {
        "signal_wavelength": SIGNAL,
        "idler_wavelength": IDLER,
        "signal_index": 1.66,
        "idler_index": 1.64,
        "crystal_length": 2e-3,
        "waist": 60e-6,
    }
    return DoubleGaussian(**(values | changes))


def rays(x, theta, wavelength=SIGNAL):
    x, theta = jnp.asarray(x, float), jnp.asarray(theta, float)
    return Rays(x, theta * 2 * jnp.pi / wavelength, jnp.asarray(wavelength), jnp.ones(x.shape[:-1]))


def angles(r):
    return np.asarray(r.k) * float(r.wavelength) / (2 * np.pi)


# --- systems ---------------------------------------------------------------------------------------------------------


def test_matrices_of_the_textbook():
    f1, f2 = 0.05, 0.12
    np.testing.assert_allclose(relay(f1, f2).matrix, [[-f2 / f1, 0], [0, -f1 / f2]], atol=1e-15)
    two_f = chain(free_space(f1), thin_lens(f1), free_space(f1))
    np.testing.assert_allclose(two_f.matrix, far_field(f1).matrix, atol=1e-15)
    image = chain(free_space(0.08), thin_lens(f1), free_space(1 / (1 / f1 - 1 / 0.08)))
    assert float(image.matrix[0, 1]) == pytest.approx(0, abs=1e-15)
    assert float(image.matrix[0, 0]) == pytest.approx(-f1 / (0.08 - f1))
    assert np.linalg.det(chain(image, relay(f1, f2), system(0.7, 0.02, 1.0, (1 + 0.02) / 0.7)).matrix) == pytest.approx(
        1
    )


def test_angle_of_a_ray_belongs_to_its_wavelength():
    """Equal and opposite wave vectors through one lens: positions f lambda k/2 pi, apart by the wavelengths."""
    k = jnp.array([[2e4, -1e4]])
    one = carry(far_field(0.1), Rays(jnp.zeros((1, 2)), k, jnp.asarray(SIGNAL), jnp.ones(1)))
    two = carry(far_field(0.1), Rays(jnp.zeros((1, 2)), -k, jnp.asarray(IDLER), jnp.ones(1)))
    np.testing.assert_allclose(one.x, 0.1 * SIGNAL * k / (2 * np.pi), rtol=1e-12)
    np.testing.assert_allclose(two.x, -one.x * IDLER / SIGNAL, rtol=1e-12)


def test_order_of_a_chain_is_the_order_of_the_light():
    r = rays([[1e-3, -2e-3]], [[4e-3, 1e-3]])
    step = carry(free_space(0.2), carry(thin_lens(0.1), carry(free_space(0.03), r)))
    whole = carry(chain(free_space(0.03), thin_lens(0.1), free_space(0.2)), r)
    np.testing.assert_allclose(whole.x, step.x, rtol=1e-12)
    np.testing.assert_allclose(whole.k, step.k, rtol=1e-12)


def test_a_shifted_lens_kicks_and_a_tilted_one_does_nothing():
    r = rays([[1e-3, -2e-3]], [[4e-3, 1e-3]])
    shift, zero = jnp.array([3e-4, -1e-4]), jnp.zeros(2)
    moved = carry(displaced(thin_lens(0.1), shift, zero), r)
    np.testing.assert_allclose(angles(moved), angles(carry(thin_lens(0.1), r)) + shift[None] / 0.1, rtol=1e-12)
    tilted = carry(displaced(thin_lens(0.1), zero, jnp.array([0.02, 0.01])), r)
    np.testing.assert_allclose(tilted.k, carry(thin_lens(0.1), r).k, rtol=1e-12)


def test_a_displaced_relay_shifts_its_image():
    """4f of magnification -1 on an axis moved by s: x -> 2 s - x; on one tilted by a about its entrance: + length a."""
    f, shift, tilt = 0.1, jnp.array([2e-4, 0.0]), jnp.array([0.0, 1e-3])
    moved = carry(displaced(relay(f, f), shift, tilt, 4 * f), rays([[5e-4, 1e-4]], [[0.0, 0.0]]))
    np.testing.assert_allclose(moved.x, [[2 * 2e-4 - 5e-4, -1e-4 + 4 * f * 1e-3]], rtol=1e-12)
    # its own axis stays a straight line
    own = carry(displaced(relay(f, f), shift, tilt, 4 * f), rays(shift[None], tilt[None]))
    np.testing.assert_allclose(own.x, shift[None] + 4 * f * tilt[None], rtol=1e-12)
    np.testing.assert_allclose(angles(own), tilt[None], rtol=1e-12)


FAULTS = {
    "shift_x": 3e-5,
    "shift_y": -1e-5,
    "tilt_x": 2e-4,
    "tilt_y": -1e-4,
    "defocus": 1.5e-3,
    "drift_x": 1e-7,
    "drift_y": 2e-7,
    "tilt_drift_x": 3e-6,
    "tilt_drift_y": -1e-6,
}


def test_misalignment_and_its_drift():
    time, r = 40.0, rays([[1e-3, -2e-3]], [[4e-3, 1e-3]])
    got = carry(Misalignment(**FAULTS).system(jnp.asarray(time)), r)
    shift = np.array([3e-5 + 4e-6, -1e-5 + 8e-6])
    tilt = np.array([2e-4 + 1.2e-4, -1e-4 - 4e-5])
    np.testing.assert_allclose(got.x, np.array([[1e-3, -2e-3]]) + 1.5e-3 * np.array([[4e-3, 1e-3]]) + shift, rtol=1e-12)
    np.testing.assert_allclose(angles(got), np.array([[4e-3, 1e-3]]) + tilt, rtol=1e-12)
    aligned = Misalignment().system(jnp.asarray(1e9))
    np.testing.assert_allclose(aligned.matrix, np.eye(2))
    np.testing.assert_allclose(aligned.offset, np.zeros((2, 2)))
    assert str(Misalignment(tilt_x="1 mrad")).splitlines()[3].strip() == "tilt_x = 1 mrad"
    with pytest.raises(FieldError, match="defocus"):
        Misalignment(defocus="1 s")


# --- the law of pairs ------------------------------------------------------------------------------------------------


def arms():
    """Asymmetric, misaligned: signal into a far field, idler through a lens to a plane that is none of its images."""
    signal = chain(free_space(0.01), far_field(0.08), displaced(thin_lens(0.3), jnp.array([1e-4, 0.0]), jnp.zeros(2)))
    fault = Misalignment(shift_x=4e-5, tilt_y=2e-4, defocus=2e-3).system(jnp.asarray(0.0))
    return signal, chain(fault, free_space(0.05), thin_lens(0.03), free_space(0.04))


@jax.jit
def draw(b, key):
    return b.sample(COUNT, key=key)


move = jax.jit(carry)


def columns(signal, idler):
    return np.stack([np.asarray(a, float) for a in (signal.x, signal.k, idler.x, idler.k)])


def test_rays_agree_with_the_law_in_every_moment():
    """z-scores of means and all ten covariances in both axes after misaligned arms."""
    b = source()
    law = carry_pairs(*arms(), b.moments(), b.signal_wavelength, b.idler_wavelength)
    drawn = draw(b, jax.random.key(17))
    drawn = columns(*(move(arm, r) for arm, r in zip(arms(), drawn, strict=True)))  # [4, n, 2]
    v, mean = np.asarray(law.covariance), np.asarray(law.mean)
    z = (drawn.mean(1) - mean) / np.sqrt(np.diag(v) / COUNT)[:, None]
    assert np.abs(z).max() < 4
    error = np.sqrt((np.outer(np.diag(v), np.diag(v)) + v**2) / COUNT)
    for axis in range(2):
        centred = drawn[:, :, axis] - mean[:, axis, None]
        assert np.abs((centred @ centred.T / COUNT - v) / error).max() < 4.5


def test_near_and_far_field_come_from_one_sample():
    """Positions correlate in an image of the crystal, wave vectors anticorrelate in its far field: the same pairs."""
    b = source(signal_wavelength=810e-9, idler_wavelength=810e-9, idler_index=1.66)
    signal, idler = draw(b, jax.random.key(2))
    near = np.asarray(move(relay(0.1, 0.2), signal).x - move(relay(0.1, 0.2), idler).x)
    far = np.asarray(move(far_field(0.1), signal).x + move(far_field(0.1), idler).x)
    for sample, width in ((near, 2 * b.separation_width()), (far, 0.1 * 810e-9 / (2 * np.pi) * b.sum_width())):
        assert abs(np.mean(sample**2) / float(width) ** 2 - 1) / np.sqrt(2 / sample.size) < 4


def gauss_on_grid(b, x):
    """psi(x_s, x_i) of one axis on the grid x."""
    m_s, m_i = (float(m) for m in b.shares())
    centre, apart = m_s * x[:, None] + m_i * x[None, :], x[:, None] - x[None, :]
    return np.exp(-((centre / float(b.waist)) ** 2) - (apart / (2 * float(b.separation_width()))) ** 2)


def propagated(psi, x, distance, wavelength, axis):
    """Fresnel propagation along one axis by the angular spectrum."""
    k = 2 * np.pi * np.fft.fftfreq(len(x), x[1] - x[0])
    phase = np.exp(-1j * distance * wavelength * k**2 / (4 * np.pi))
    shape = [1, 1]
    shape[axis] = len(x)
    return np.fft.ifft(np.fft.fft(psi, axis=axis) * phase.reshape(shape), axis=axis)


def lens(x, f, wavelength):
    return np.exp(-1j * np.pi * x**2 / (wavelength * f))


def measured(psi, x):
    """Second moments of both positions, and the total power."""
    p = np.abs(psi) ** 2
    total = p.sum()
    s, i = p.sum(1) / total, p.sum(0) / total
    return np.array([s @ x**2, i @ x**2, x @ p @ x / total]), total


def test_pairs_against_wave_optics():
    """Fresnel propagation of psi(x_s, x_i): free space, lens and a Gaussian aperture of the signal, unlike arms.

    The aperture kicks the momentum by a normal of std 1/w; without the kick the widths beyond it are wrong.
    """
    b = source(waist=40e-6, crystal_length=20e-3)
    x = (np.arange(1024) - 512) * 0.9e-6
    w = 45e-6
    psi = gauss_on_grid(b, x)
    psi = propagated(psi, x, 4e-3, SIGNAL, 0) * (np.exp(-((x / w) ** 2)) * lens(x, 9e-3, SIGNAL))[:, None]
    before = np.sum(np.abs(gauss_on_grid(b, x)) ** 2)
    psi = propagated(propagated(psi, x, 5e-3, SIGNAL, 0), x, 3e-3, IDLER, 1)
    (s, i, c), power = measured(psi, x)

    def law(kick):
        here = carry_pairs(free_space(4e-3), free_space(0.0), b.moments(), b.signal_wavelength, b.idler_wavelength)
        here = gaussian_aperture_pairs(here, w, 0)
        if not kick:
            here = here._replace(covariance=here.covariance.at[1, 1].add(-1 / w**2))
        rest = chain(thin_lens(9e-3), free_space(5e-3)), free_space(3e-3)
        return carry_pairs(*rest, here, b.signal_wavelength, b.idler_wavelength)

    v = np.asarray(law(True).covariance)
    assert [v[0, 0], v[2, 2], v[0, 2]] == pytest.approx([s, i, c], rel=1e-6)
    assert float(law(True).weight) == pytest.approx((power / before) ** 2, rel=1e-9)  # both axes
    assert abs(float(law(False).covariance[0, 0]) / s - 1) > 0.05


def test_a_gaussian_beam_through_an_aperture_off_its_axis():
    """Rays, law and wave optics: a tilted, curved beam beside the middle of a Gaussian aperture, then free space."""
    x = (np.arange(4096) - 2048) * 0.5e-6
    w0, shift, tilt, w, z = 80e-6, 30e-6, 1.5e-3, 60e-6, 20e-3
    field = np.exp(-(((x - shift) / w0) ** 2) + 2j * np.pi / SIGNAL * tilt * x) * lens(x, 0.05, SIGNAL)
    start = np.sum(np.abs(field) ** 2)
    field = field * np.exp(-((x / w) ** 2))
    k = 2 * np.pi * np.fft.fftfreq(len(x), x[1] - x[0])
    field = np.fft.ifft(np.fft.fft(field) * np.exp(-1j * z * SIGNAL * k**2 / (4 * np.pi)))
    p = np.abs(field) ** 2
    mean = p @ x / p.sum()
    variance = p @ (x - mean) ** 2 / p.sum()

    covariance = jnp.diag(jnp.array([w0**2 / 4, 1 / w0**2, 1.0, 1.0]))
    middle = jnp.zeros((4, 2)).at[0, 0].set(shift).at[1, 0].set(2 * np.pi / SIGNAL * tilt)
    one, two = jnp.asarray(SIGNAL), jnp.asarray(IDLER)
    law = carry_pairs(thin_lens(0.05), free_space(0.0), Moments(middle, covariance, jnp.ones(())), one, two)
    law = carry_pairs(free_space(z), free_space(0.0), gaussian_aperture_pairs(law, w, 0), one, two)
    # the other axis is centred and loses sqrt(s) as well
    other = (w**2 / 4 / (w**2 / 4 + w0**2 / 4)) ** 0.5
    assert float(law.mean[0, 0]) == pytest.approx(mean, rel=1e-8)
    assert float(law.covariance[0, 0]) == pytest.approx(variance, rel=1e-8)
    assert float(law.weight) == pytest.approx(p.sum() / start * other, rel=1e-8)

    keys = jax.random.split(jax.random.key(6), 3)
    draw = jax.random.normal(keys[0], (2, COUNT, 2))
    r = Rays(draw[0] * w0 / 2 + middle[:1], draw[1] / w0 + middle[1:2], one, jnp.ones(COUNT))
    r = move(free_space(z), jax.jit(gaussian_aperture)(move(thin_lens(0.05), r), w, key=keys[1]))
    weight = np.asarray(r.weight)
    assert abs(weight.mean() - float(law.weight)) / (weight.std() / np.sqrt(COUNT)) < 4
    kept = np.asarray(r.x)[np.asarray(jax.random.uniform(keys[2], (COUNT,))) < weight]
    assert abs(kept[:, 0].mean() - mean) / np.sqrt(variance / len(kept)) < 4
    assert abs(kept[:, 0].var() / variance - 1) / np.sqrt(2 / len(kept)) < 4


def test_hard_apertures_pass_the_right_power():
    """Rays in discs of both arms against the quadrature of `aperture_collection`."""
    b = source()
    one, two = far_field(0.1), relay(0.05, 0.1)
    signal, idler = draw(b, jax.random.key(30))
    signal, idler = circular_aperture(move(one, signal), 2e-3), circular_aperture(move(two, idler), 6e-5)
    law = carry_pairs(one, two, b.moments(), b.signal_wavelength, b.idler_wavelength)
    got = aperture_collection(law, jnp.asarray(2e-3), jnp.asarray(6e-5))
    s, i = np.asarray(signal.weight), np.asarray(idler.weight)
    for p, hits in ((got.signal, s), (got.idler, i), (got.pair, s * i)):
        assert 0.05 < float(p) < 0.95
        assert abs(hits.mean() - float(p)) / np.sqrt(float(p) * (1 - float(p)) / COUNT) < 4


def test_numerical_aperture_is_a_disc_in_the_far_field():
    b = source()
    signal, _ = draw(b, jax.random.key(31))
    by_angle = numerical_aperture(signal, 0.01).weight
    by_place = circular_aperture(move(far_field(0.1), signal), 0.001).weight
    assert 0.1 < float(by_angle.mean()) < 0.9
    np.testing.assert_array_equal(by_angle, by_place)


# --- ghost imaging and beams -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signal", "idler"), [(810e-9, 810e-9), (SIGNAL, IDLER), (1550e-9, 548e-9)])
def test_klyshko_image_of_unlike_wavelengths(signal, idler):
    """1/(d_lens + d_object l_s/l_i) + 1/d_image = 1/f, and the image is where the unfolded system says."""
    image, magnification = ghost_image(0.12, 0.2, 0.15, signal, idler)
    path = chain(free_space(0.2), thin_lens(0.15), free_space(image))
    k = klyshko(free_space(0.12), path, jnp.asarray(signal), jnp.asarray(idler))
    assert float(k[0, 1]) * 2 * np.pi / signal == pytest.approx(0, abs=1e-12)
    assert float(k[0, 0]) == pytest.approx(magnification, rel=1e-12)


def test_partners_of_a_wide_pump_meet_at_the_klyshko_image():
    """Var(x_i | x_s) is smallest at the distance of the law, and the slope of x_i is the magnification."""
    b = source(waist=3e-3)
    arm = chain(free_space(0.05), thin_lens(0.4), free_space(0.07))
    distance, magnification = ghost_image(0.12, 0.2, 0.15, SIGNAL, IDLER)

    def regression(signal, image):
        idler = chain(free_space(0.2), thin_lens(0.15), free_space(image))
        v = carry_pairs(signal, idler, b.moments(), b.signal_wavelength, b.idler_wavelength).covariance
        return float(v[0, 2] / v[0, 0]), float(v[2, 2] - v[0, 2] ** 2 / v[0, 0])

    slope, spread = regression(free_space(0.12), distance)
    assert slope == pytest.approx(magnification, rel=2e-3)
    assert spread < min(regression(free_space(0.12), distance * d)[1] for d in (0.98, 1.02)) / 3
    # with a lens in the signal arm: the image is where the unfolded matrix has no B
    one, two = jnp.asarray(SIGNAL), jnp.asarray(IDLER)
    near, far = (
        klyshko(arm, chain(free_space(0.2), thin_lens(0.15), free_space(d)), one, two)[0, 1] for d in (0.0, 1.0)
    )
    there = float(near / (near - far))
    assert regression(arm, there)[1] < min(regression(arm, there * d)[1] for d in (0.98, 1.02)) / 3


def test_gaussian_beam():
    """w(z) = w0 sqrt(1 + (z/z_R)^2), R = z + z_R^2/z; a lens at f from a waist makes one at f of radius f l/(pi w0)."""
    w0, f = jnp.asarray(50e-6), 0.1
    rayleigh = np.pi * 50e-6**2 / SIGNAL
    q = carry_beam(free_space(0.03), waist_beam(w0, SIGNAL))
    assert float(beam_radius(q, SIGNAL)) == pytest.approx(50e-6 * np.sqrt(1 + (0.03 / rayleigh) ** 2), rel=1e-12)
    assert 1 / float(wavefront_curvature(q)) == pytest.approx(0.03 + rayleigh**2 / 0.03, rel=1e-12)
    q = carry_beam(far_field(f), waist_beam(w0, SIGNAL))
    assert float(beam_radius(q, SIGNAL)) == pytest.approx(f * SIGNAL / (np.pi * 50e-6), rel=1e-12)
    assert float(wavefront_curvature(q)) == pytest.approx(0, abs=1e-9)


def test_beam_and_rays_widen_alike():
    """A Gaussian beam is a normal law of x and k: std(x) = w/2, std(k) = 1/w at the waist, after any system."""
    path = chain(free_space(0.02), thin_lens(0.05), free_space(0.07))
    m = np.asarray(in_wave_vectors(path, jnp.asarray(SIGNAL)).matrix)
    v = m @ np.diag([(50e-6 / 2) ** 2, 50e-6**-2]) @ m.T
    q = carry_beam(path, waist_beam(jnp.asarray(50e-6), SIGNAL))
    assert float(beam_radius(q, SIGNAL)) == pytest.approx(2 * np.sqrt(v[0, 0]), rel=1e-12)


# --- derivatives -----------------------------------------------------------------------------------------------------


def test_slopes_of_faults_lenses_and_apertures():
    """Where the mean of a pair lands and how wide, by all nine faults, focal length, distances and aperture."""
    b = source()

    def read(x):
        fault = Misalignment(*(x[:9] * jnp.array([*FAULTS.values()]))).system(jnp.asarray(30.0))
        idler = chain(free_space(0.1), fault, thin_lens(0.05 * x[9]), free_space(0.06 * x[10]))
        here = gaussian_aperture_pairs(b.moments(), 1e-4 * x[11], 1)
        out = carry_pairs(far_field(0.1 * x[12]), idler, here, b.signal_wavelength, b.idler_wavelength)
        image, magnification = ghost_image(0.1 * x[10], 0.2, 0.05 * x[9], b.signal_wavelength, b.idler_wavelength)
        beam = beam_radius(carry_beam(idler, waist_beam(1e-4 * x[11], IDLER)), IDLER)
        rest = jnp.stack([out.covariance[2, 2] * 1e8, out.weight, image, magnification, beam * 1e4])
        return jnp.concatenate([out.mean.ravel() * 1e4, out.covariance[0] * 1e6, rest])

    x = jnp.linspace(1.0, 1.1, 13)
    check_slopes(read, x, rtol=1e-6, atol=1e-5)
