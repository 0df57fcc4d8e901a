"""Filters and what they do to pairs: integrals, limits, energy."""

import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes

from qtwin.core.errors import FieldError
from qtwin.optics.spectral import BandPass, Dichroic, EdgePass, GaussianFilter, filtered_pairs

PUMP = 405e-9
WAVES = jnp.linspace(700e-9, 900e-9, 200_001)


def test_gaussian_filter():
    f = GaussianFilter("803 nm", "8 nm", 0.9)
    assert float(f.transmission(jnp.asarray(803e-9))) == pytest.approx(0.9)
    assert float(f.transmission(jnp.asarray(807e-9))) == pytest.approx(0.45)  # half width
    assert float(jnp.trapezoid(f.transmission(WAVES), WAVES)) == pytest.approx(float(f.bandwidth()), rel=1e-9)


def test_band_pass():
    f = BandPass("803 nm", "8 nm", "0.2 nm", 0.9)
    assert float(f.transmission(jnp.asarray(803e-9))) == pytest.approx(0.9, rel=1e-12)
    assert [float(f.transmission(jnp.asarray(w))) for w in (799e-9, 807e-9)] == pytest.approx([0.45, 0.45])
    assert float(jnp.trapezoid(f.transmission(WAVES), WAVES)) == pytest.approx(float(f.bandwidth()), rel=1e-9)
    hard = BandPass("803 nm", "8 nm")
    assert float(hard.transmission(jnp.asarray(806.5e-9))) == pytest.approx(1, abs=1e-6)
    assert float(hard.transmission(jnp.asarray(807.6e-9))) == pytest.approx(0, abs=1e-6)


def test_edges_and_dichroic():
    long, short = EdgePass("800 nm", "1 nm", 0.95, 1e-5), EdgePass("800 nm", "1 nm", 0.95, 1e-5, "short")
    x = jnp.array([760e-9, 799e-9, 801e-9, 840e-9])
    t = np.asarray(long.transmission(x))
    np.testing.assert_allclose(t, np.asarray(short.transmission(x))[::-1], rtol=1e-9)
    assert t[0] == pytest.approx(1e-5, rel=1e-6) and t[3] == pytest.approx(0.95, rel=1e-6)
    assert (t[2] - 1e-5) / (0.95 - 1e-5) == pytest.approx(0.841344746, rel=1e-6)  # one standard deviation
    mirror = Dichroic("800 nm", "5 nm", 0.97, 0.99)
    assert float(mirror.transmission(jnp.asarray(840e-9))) == pytest.approx(0.97, rel=1e-9)
    assert float(mirror.reflection(jnp.asarray(760e-9))) == pytest.approx(0.99, rel=1e-9)
    assert float(jnp.max(mirror.transmission(WAVES) + mirror.reflection(WAVES))) <= 1
    with pytest.raises(FieldError, match="side: got 'both', accepted are long, short"):
        EdgePass("800 nm", side="both")
    with pytest.raises(FieldError, match="width"):
        GaussianFilter("800 nm", "0 nm")


def test_filtered_pairs():
    """Partners at 1/l_p - 1/l_s: a wider filter heralds everything, a narrower one the ratio of widths."""
    ends = 700e-9, 960e-9
    idler = 1 / (1 / PUMP - 1 / 780e-9)
    signal, wide = BandPass("780 nm", "10 nm", "0.01 nm"), BandPass(idler, 60e-9, 1e-11)
    got = filtered_pairs(signal, wide, PUMP, *ends)
    assert float(got.idler_heralding) == pytest.approx(1, rel=1e-6)
    # frequency widths c dl/l^2 in the ratio of the singles
    ratio = (1 / 775e-9 - 1 / 785e-9) / (1 / (idler - 30e-9) - 1 / (idler + 30e-9))
    assert float(got.signal_heralding) == pytest.approx(ratio, rel=0.03)  # 2001 frequencies on hard edges
    # two Gaussian filters, independent integrals: P_si/P_s of exp(-x^2/2a^2) and exp(-x^2/2b^2) is b/sqrt(a^2 + b^2)
    one = GaussianFilter("810 nm", "4 nm")
    pair = filtered_pairs(one, GaussianFilter("810 nm", "12 nm", 0.8), PUMP, 760e-9, 1 / (1 / PUMP - 1 / 760e-9))
    assert float(pair.idler_heralding) == pytest.approx(0.8 * 12 / np.hypot(4, 12), rel=1e-3)
    # far from each other's partner: nothing in coincidence
    lost = filtered_pairs(signal, BandPass("810 nm", "10 nm"), PUMP, *ends)
    assert float(lost.pair) == pytest.approx(0, abs=1e-9) and float(lost.signal) > 0


def test_slopes_of_every_field():
    values = jnp.array([803e-9, 8e-9, 0.9, 806e-9, 9e-9, 2e-9, 0.8, 800e-9, 4e-9, 0.95, 1e-2, 799e-9, 5e-9, 0.97, 0.9])

    def read(x):
        y = x * values
        gauss, band = GaussianFilter(*y[:3]), BandPass(*y[3:7])
        edge, mirror = EdgePass(*y[7:11]), Dichroic(*y[11:15])
        w = jnp.array([798e-9, 805e-9, 811e-9])
        parts = [f.transmission(w) for f in (gauss, band, edge, mirror)]
        widths = jnp.stack([gauss.bandwidth(), band.bandwidth()]) * 1e8
        both = jnp.stack(list(filtered_pairs(gauss, edge, PUMP, 760e-9, 860e-9)))
        return jnp.concatenate([*parts, mirror.reflection(w), widths, both])

    check_slopes(read, jnp.ones(15), 1e-7, rtol=1e-5, atol=1e-6)
