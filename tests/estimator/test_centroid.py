"""Centroids of N photons: widths and rates against draws, information against scores, and what it is worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from slopes import gradient_error

from qtwin.core.errors import FieldError
from qtwin.estimator.centroid import (
    Centroid,
    arrival,
    centroid_transfer,
    centroid_width,
    grating_gain,
    position_gain,
    separation_gain,
    separation_gain_of_all,
    separation_information,
    separation_limit,
)
from qtwin.optics.point_spread import incoherent_transfer

STD = 1.7e-6
COUNT = 100_000


def drawn(state, separation=0.0):
    """Means and drawn states of three photons."""
    made = Centroid(STD, 0.8, 0.9, separation, "9 um", photons=3, state=state)
    return made.expect(), made.sample(COUNT, key=jax.random.key(3))


@pytest.mark.parametrize(("state", "root"), [("independent", 0.5), ("position", 0.5), ("momentum", 1.0)])
def test_centroids_are_narrowed(state, root):
    """sqrt N for photons that pass a pupil on their own, N for equal momenta; (T eta)^N of the states are complete."""
    expected, arrivals = drawn(state)
    x = arrivals.centroids()
    std = STD / 3**root
    assert float(expected.width) == pytest.approx(std, rel=1e-12)
    assert abs(x.std() / std - 1) * np.sqrt(2 * len(x)) < 4 and abs(x.mean()) * np.sqrt(len(x)) / std < 4
    assert abs(x.std() / (1.03 * std) - 1) * np.sqrt(2 * len(x)) > 5
    rate = 0.72**3
    assert float(expected.rate) == pytest.approx(rate, rel=1e-12)
    assert abs(len(x) - rate * COUNT) / np.sqrt(COUNT * rate * (1 - rate)) < 4
    assert float(expected.information) == pytest.approx(rate / std**2 / 3, rel=1e-12)


def test_equal_momenta_hide_where_a_single_photon_is():
    """Each of them is anywhere within the span; the others are correlated with it so that the mean is sharp."""
    place = np.asarray(drawn("momentum")[1].place)
    assert abs(place.std() / np.sqrt(81e-12 * 2 / 3 + STD**2 / 9) - 1) < 4 / np.sqrt(4 * COUNT)
    assert -0.5 < np.corrcoef(place.T)[0, 1] < -0.49
    place = np.asarray(drawn("position")[1].place)
    assert abs(np.corrcoef(place.T)[0, 1]) * np.sqrt(COUNT) < 4


def test_photons_of_a_state_come_from_the_same_point():
    """Two points 5 um apart: all photons are at one of them, independent photons at either."""
    for state, joint in (("position", 1.0), ("independent", 0.0)):
        place = np.asarray(drawn(state, 5e-6)[1].place)[:, :2]
        covariance = np.cov(place.T)
        error = np.prod(place.std(axis=0)) / np.sqrt(COUNT) * np.sqrt(1 + joint)
        assert abs(covariance[0, 1] - joint * 6.25e-12) < 4 * error
        assert covariance[0, 0] == pytest.approx(STD**2 + 6.25e-12, rel=0.02)


def test_the_place_of_a_point_gains_nothing():
    """Variance of the mean of all centroids, at equal photons on the sample, over that of single photons: 1/gain."""
    for state in ("position", "independent", "momentum"):
        x = drawn(state)[1].centroids()
        information = len(x) / x.var() / (3 * COUNT)  # per photon on the sample
        plain = 0.72 / STD**2
        gain = float(position_gain(0.72, 3, state))
        assert abs(information / plain / gain - 1) < 4 * np.sqrt(2 / len(x) + (1 - len(x) / COUNT) / len(x))
        assert gain <= 1 or state == "momentum"
    assert float(position_gain(1.0, 5, "position")) == 1.0
    for found, wins in ((0.49, False), (0.51, True)):  # equal momenta, N = 2: tau > 1/2
        assert (float(position_gain(found, 2, "momentum")) > 1) == wins


def by_quadrature(d, s):
    """Integral of (dp/dd)^2/p for the two points."""

    def density(x, d):
        return sum(np.exp(-((x - p * d / 2) ** 2) / (2 * s**2)) for p in (1, -1)) / (2 * s * np.sqrt(2 * np.pi))

    def integrand(x):
        h = 1e-4 * s
        slope = (density(x, d + h) - density(x, d - h)) / (2 * h)
        return slope**2 / density(x, d)

    return 2 * quad(integrand, 0, d / 2 + 12 * s, limit=400, epsabs=0, epsrel=1e-9)[0]


@pytest.mark.parametrize("d", [0.05, 0.7, 2.0, 4.0, 9.0])
def test_information_about_a_separation(d):
    assert float(separation_information(d * STD, STD)) == pytest.approx(by_quadrature(d, 1.0) / STD**2, rel=2e-5)


def test_limits_of_the_separation():
    """Rayleigh's curse d^2/(8 s^4) for close points, what a mode sorter reaches for far ones; zero at zero."""
    close, far = (float(separation_information(d * STD, STD)) for d in (1e-3, 20.0))
    assert close == pytest.approx(1e-6 / (8 * STD**2), rel=1e-5)
    assert far == pytest.approx(float(separation_limit(STD)), rel=1e-9)
    assert float(separation_information(0.0, STD)) == 0.0


@pytest.mark.parametrize("photons", [2, 3])
def test_close_points_gain_from_photons_that_come_together(photons):
    """N tau^(N - 1) for complete states, 1 + (N - 1) tau for all; far apart tau^(N - 1) and 1."""
    for tau in (0.3, 0.72):
        close = [float(gain(1e-3 * STD, STD, tau, photons)) for gain in (separation_gain, separation_gain_of_all)]
        far = [float(gain(30 * STD, STD, tau, photons)) for gain in (separation_gain, separation_gain_of_all)]
        np.testing.assert_allclose(close, [photons * tau ** (photons - 1), 1 + (photons - 1) * tau], rtol=1e-4)
        np.testing.assert_allclose(far, [tau ** (photons - 1), 1], rtol=1e-9)


def test_scores_of_drawn_centroids_have_the_information():
    """<(d ln p/dd)^2> over complete states of two points, per photon: the gain over single photons is as told."""
    d, s = 1.5 * STD, STD / np.sqrt(3)
    x = drawn("position", d)[1].centroids()
    score = (x / (2 * s**2)) * np.tanh(x * d / (2 * s**2)) - d / (4 * s**2)
    told = len(x) * np.mean(score**2) / (3 * COUNT)
    plain = 0.72 * by_quadrature(1.5, 1.0) / STD**2
    error = np.std(score**2) / np.mean(score**2) / np.sqrt(len(x)) + np.sqrt((1 - 0.72**3) / len(x))
    gain = float(separation_gain(d, STD, 0.72, 3))
    assert abs(told / plain / gain - 1) < 4 * error and error < 0.02


def test_gratings_beyond_the_limit_of_the_lens():
    """H(f/N)^N of a circular pupil: 1 at f = 0, ends at 2 N NA/l; N tau^(N - 1) at low and infinite gain at high f."""
    wave, aperture, tau = 810e-9, 0.4, 0.6
    f = jnp.asarray([0.0, 0.3, 0.9, 1.2, 2.1]) * (2 * aperture / wave)
    two, half = centroid_transfer(f, 2, wave, aperture), incoherent_transfer(f / 2, wave, aperture)
    np.testing.assert_allclose(two, np.asarray(half) ** 2, rtol=1e-12)
    assert two[0] == 1 and two[3] > 0.05 and two[4] == 0
    gain, none = (np.asarray(grating_gain(f, tau, n, wave, aperture)) for n in (2, 1))
    assert gain[0] == pytest.approx(2 * tau) and np.all(np.diff(gain[:3]) > 0) and np.isinf(gain[3])
    np.testing.assert_allclose(none[:3], 1, rtol=1e-12)


def test_gaussian_image_of_centroids_is_the_square_of_the_point_spread():
    """Two photons found at the same place see h^2, of std s/sqrt 2: as wide as the centroid's law of any two."""
    assert float(centroid_width(STD, 2, "position")) == pytest.approx(STD / 2**0.5)
    assert float(centroid_width(STD, 1, "momentum")) == pytest.approx(STD) and float(arrival(0.5, 3)) == 0.125


def test_gradients():
    def read(x):
        made = Centroid(STD * x[0], 0.8 * x[1], 0.9 * x[2], photons=3)
        told = made.expect()
        gains = separation_gain(STD * x[3], STD * x[0], 0.7 * x[1], 2) * 2
        gains = gains + separation_gain_of_all(STD * x[3], STD * x[0], 0.7 * x[1], 3)
        gains = gains + grating_gain(6e5 * x[4], 0.6 * x[1], 2, 810e-9 * x[5], 0.4 * x[6])
        return (
            jnp.log(told.information)
            + told.rate
            + jnp.log(told.width)
            + gains
            + position_gain(0.7 * x[2], 3, "momentum")
        )

    assert gradient_error(read, np.ones(7), np.array([1.1, 0.9, 0.8, 2.0, 0.5, 1.0, 1.1])) < 1e-6


def test_bad_input_is_refused():
    for make in (
        lambda: Centroid(STD, 0.8, 0.9, photons=0),
        lambda: Centroid(STD, 0.8, 0.9, photons=2.5),
        lambda: centroid_width(STD, 65, "position"),
    ):
        with pytest.raises(FieldError, match="photons: got"):
            make()
    for make in (lambda: Centroid(STD, 0.8, 0.9, state="both"), lambda: position_gain(0.5, 2, "both")):
        with pytest.raises(FieldError, match="state: got 'both', accepted are independent, position, momentum"):
            make()
    for field, make in (
        ("found", lambda: arrival(1.2, 2)),
        ("separation", lambda: separation_gain(0.0, STD, 0.5, 2)),
        ("width", lambda: separation_limit(0.0)),
        ("frequency", lambda: centroid_transfer(-1.0, 2, 810e-9, 0.4)),
    ):
        with pytest.raises(FieldError, match=field):
            make()
