"""Figures of twin beams, heralded photons, NOON and Bell states: closed limits, number laws, published values."""

import numpy as np
import pytest
from scipy.stats import nbinom

from qtwin.core.errors import FieldError
from qtwin.modes.counts import counts, difference_noise
from qtwin.modes.gaussian import two_mode_squeezed
from qtwin.modes.noon import best_noon
from qtwin.modes.operations import loss
from qtwin.modes.polarisation import chsh, chsh_most, concurrence, fringe_visibility, werner
from qtwin.source.entangled import NOON, Bell, HeraldedPhoton, TwoModeSqueezed

WAVE = "810 nm"


def figures(state) -> dict:
    return {f.name: float(f.value) for f in state.figures()}


# --- twin beams ----------------------------------------------------------------------------------------------------


def test_one_mode_of_twin_beams_is_the_gaussian_state():
    """mu = sinh^2 r behind two losses: moments, noise reduction factor, cross-correlation 2 + 1/mu."""
    r, arms = np.arcsinh(np.sqrt(0.7)), np.array([0.8, 0.55])
    state = TwoModeSqueezed(WAVE, 0.7, 1.0, *arms)
    mean, covariance = counts(loss(two_mode_squeezed(r), arms))
    for got, want in zip(state.expect(), (mean, covariance), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    found = figures(state)
    assert found["squeezing parameter"] == pytest.approx(r, rel=1e-12)
    assert found["noise reduction factor"] == pytest.approx(float(difference_noise(mean, covariance)), rel=1e-12)
    assert found["g11 of signal and idler"] == pytest.approx(2 + 1 / 0.7, rel=1e-12)
    assert found["g2 of the signal"] == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize(("mu", "e_s", "e_i", "factor"), [(0.1, 0.8, 0.8, 0.2), (1.0, 0.8, 0.6, 0.342857)])
def test_noise_reduction_factor_with_and_without_background(mu, e_s, e_i, factor):
    """Poisson background b in both arms adds 2 b to numerator and denominator."""
    m = 7.0
    found = figures(TwoModeSqueezed(WAVE, mu, m, e_s, e_i, 0.3, 0.3))
    assert found["noise reduction factor, no background"] == pytest.approx(factor, abs=5e-7)
    light = m * mu * (e_s + e_i)
    exact = 1 - (2 * e_s * e_i - mu * (e_s - e_i) ** 2) / (e_s + e_i)
    assert found["noise reduction factor"] == pytest.approx((exact * light + 0.6) / (light + 0.6), rel=1e-12)


def test_epr_squeezing_and_its_loss():
    """e^-2r without loss, 1 - eta + eta e^-2r with equal losses; 10 dB at eta = 0.8 leaves 5.53 dB."""
    mu = np.sinh(np.log(10) / 2) ** 2
    found = figures(TwoModeSqueezed(WAVE, mu, 3.0, 0.8, 0.8))
    assert found["two-mode squeezing as made"] == pytest.approx(10, rel=1e-12)
    assert found["EPR squeezing behind the losses"] == pytest.approx(-10 * np.log10(0.28), rel=1e-9)
    uneven = TwoModeSqueezed(WAVE, 0.4, 3.0, 0.9, 0.5)
    exact = 1 + 0.4 * (0.9 + 0.5) - 2 * np.sqrt(0.9 * 0.5 * 0.4 * 1.4)
    assert float(uneven.epr_variance()) == pytest.approx(exact, rel=1e-12)


# --- heralded photons ----------------------------------------------------------------------------------------------


def test_heralded_photons_from_the_number_law():
    """Every figure by sums over pairs, herald's clicks and the binomial law of the signal."""
    mu, m, e, h, d = 0.35, 1.6, 0.45, 0.7, 0.02
    n = np.arange(120)
    p = nbinom.pmf(n, m, 1 / (1 + mu / m))
    click = p * (1 - (1 - d) * (1 - e) ** n)
    total = click.sum()
    zero, one = np.sum(click * (1 - h) ** n) / total, np.sum(click[1:] * n[1:] * h * (1 - h) ** n[:-1]) / total
    first, second = np.sum(click * n) / total, np.sum(click * n * (n - 1)) / total
    found = figures(HeraldedPhoton(WAVE, mu, m, e, h, d, "2 MHz"))
    expected = {
        "heralding probability per gate": total,
        "heralds per second": 2e6 * total,
        "signal counts per herald": h * first,
        "heralding efficiency": 1 - zero,
        "single photons per herald": one,
        "single photons per second": 2e6 * total * one,
        "heralded g2": second / first**2,
        "purity of the photon": 1 / 1.6,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_faint_pairs_give_single_photons():
    """mu -> 0: the heralding efficiency is the signal's, g2 -> 0; a weak herald: 0.3194 at mu = 0.1, one mode."""
    found = figures(HeraldedPhoton(WAVE, 1e-6, 1.0, 0.5, 0.6))
    assert found["heralding efficiency"] == pytest.approx(0.6, rel=1e-5)
    assert found["single photons per herald"] == pytest.approx(0.6, rel=1e-5)
    assert found["heralded g2"] < 1e-5
    weak = figures(HeraldedPhoton(WAVE, 0.1, 1.0, 1e-6, 0.6))
    assert weak["heralded g2, weak herald"] == pytest.approx(0.3194, abs=5e-5)
    assert weak["heralded g2"] == pytest.approx(weak["heralded g2, weak herald"], rel=1e-5)


# --- NOON states ---------------------------------------------------------------------------------------------------


def test_information_of_two_photons():
    """(2, 0.9, 0.9): 3.24; (2, 0.9, 1): 3.5801; N eta^N against eta for coherent light."""
    found = figures(NOON(2, WAVE, 0.9, 0.9, 1.0, 0.4))
    assert found["information at the best phase"] == pytest.approx(3.24, rel=1e-9)
    assert found["information at this phase"] == pytest.approx(3.24, rel=1e-9)  # V = 1: the same at every phase
    assert found["gain over coherent light, same loss"] == pytest.approx(2 * 0.81 / 0.9, rel=1e-9)
    assert found["efficiency that pays"] == pytest.approx(0.5, rel=1e-12)
    assert figures(NOON(2, WAVE, 0.9, 1.0))["information at the best phase"] == pytest.approx(3.5801, abs=5e-5)
    assert figures(NOON(1, WAVE, 0.6, 0.6))["gain over coherent light, same loss"] == pytest.approx(1, rel=1e-12)


def test_information_at_a_phase_is_that_of_the_outcomes():
    """F = sum (dp/dphi)^2/p over (even, odd, lost), by central differences; greatest at a quarter of a fringe."""

    def p(phase):
        return np.asarray(NOON(3, WAVE, 0.9, 0.7, 0.9, phase).expect().mean)

    slope = (p(0.2 + 1e-5) - p(0.2 - 1e-5)) / 2e-5
    found = figures(NOON(3, WAVE, 0.9, 0.7, 0.9, 0.2))
    assert found["information at this phase"] == pytest.approx(np.sum(slope**2 / p(0.2)), rel=1e-8)
    quarter = figures(NOON(3, WAVE, 0.9, 0.7, 0.9, np.pi / 6))
    assert quarter["information at this phase"] == pytest.approx(quarter["information at the best phase"], rel=1e-12)
    assert quarter["information at this phase"] > found["information at this phase"]


@pytest.mark.parametrize("eta", [0.3, 0.79, 0.8, 0.93])
def test_best_number_of_photons(eta):
    assert figures(NOON(2, WAVE, eta, eta))["best photon number"] == best_noon(eta)


# --- Bell states ---------------------------------------------------------------------------------------------------


def test_accidentals_act_as_white_noise():
    """Raw visibility and CHSH of the coincidences are those of a Werner state of the raw visibility."""
    given = {"pairs": 0.3, "visibility": 0.9, "signal_efficiency": 0.5, "idler_efficiency": 0.35, "dark": 0.01}
    found = figures(Bell(WAVE, **given))
    raw = found["raw visibility"]

    def coincidences(a, b):
        return np.asarray(Bell(WAVE, **given, signal_angle=a, idler_angle=b).coincidences())

    def e(a, b):
        c = coincidences(a, b)
        return (c[0, 0] + c[1, 1] - c[0, 1] - c[1, 0]) / c.sum()

    step = np.pi / 8
    s = e(0, step) - e(0, 3 * step) + e(2 * step, step) + e(2 * step, 3 * step)
    assert found["raw CHSH"] == pytest.approx(s, rel=1e-12)
    assert found["raw CHSH"] == pytest.approx(float(chsh(werner(raw, "phi+"))), rel=1e-12)
    brightest = coincidences(0.0, 0.0)
    assert raw == pytest.approx((brightest[0, 0] - brightest[0, 1]) / brightest[0].sum(), rel=1e-12)
    assert found["CAR"] == pytest.approx(brightest[0, 0] / found["accidentals per gate"], rel=1e-12)
    assert found["true coincidences per gate"] == pytest.approx(
        brightest[0, 0] - found["accidentals per gate"], rel=1e-12
    )


@pytest.mark.parametrize("name", ["phi-", "psi+"])
def test_figures_of_the_state_are_those_of_its_matrix(name):
    state = Bell(WAVE, 1e-3, 0.83, name=name)
    found, rho = figures(state), state.state()
    assert found["CHSH of the state"] == pytest.approx(float(chsh_most(rho)), rel=1e-9)
    assert found["concurrence"] == pytest.approx(float(concurrence(rho)), rel=1e-9)
    assert found["visibility of the state"] == pytest.approx(float(fringe_visibility(rho, 0.3)), rel=1e-9)
    assert found["fidelity"] == pytest.approx((1 + 3 * 0.83) / 4, rel=1e-12)


def test_visibility_falls_with_the_pairs_per_gate():
    """1/(1 + mu) of Poisson pairs, whatever the loss; one mode: 1 - mu to first order as well."""
    found = figures(Bell(WAVE, 0.02, 1.0, 0.3, 0.2))
    assert found["raw visibility"] == pytest.approx(1 / 1.02, rel=1e-12)
    assert found["raw visibility, one mode"] == pytest.approx(1.01 / 1.03, rel=1e-12)
    assert figures(Bell(WAVE, 1e-6, 0.0))["concurrence"] == 0


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TwoModeSqueezed(WAVE, 0.1, 0.0), "modes: got 0, accepted"),
        (lambda: TwoModeSqueezed(WAVE, 0.1, 2.0, 1.2), r"signal_efficiency: got 1\.2"),
        (lambda: HeraldedPhoton(WAVE, 0.1, 1.0, 0.5, 0.5, 1.0), "herald_dark: got 1, accepted"),
        (lambda: NOON(0, WAVE), "photons: got 0, accepted is a whole number from 1 to 100"),
        (lambda: NOON(2.5, WAVE), r"photons: got 2\.5, accepted is a whole number"),
        (lambda: NOON(2, WAVE, visibility=1.1), r"visibility: got 1\.1"),
        (lambda: Bell(WAVE, 0.1, 1.2), r"visibility: got 1\.2, accepted is a value from 0 to 1"),
        (lambda: Bell(WAVE, 0.1, -0.1), r"visibility: got -0\.1"),
        (lambda: Bell(WAVE, 0.1, 0.9, name="phi"), "name: got 'phi', accepted is one of"),
    ],
)
def test_states_that_cannot_be_are_refused(make, words):
    with pytest.raises(FieldError, match=words):
        make()
