"""Pairs that are collected: limits, draws and slopes of what apertures and fibres leave."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import FieldError, UserError
from qtwin.source import SPDC, FibrePairs
from qtwin.source.spectra import joint
from qtwin.source.usable import Aperture, Fibre, Points, _both, collected, plane_wave, resized

BBO = SPDC(405e-9, 780e-9, 1.7e-3, 0.9e-3, 4e-3, 6e-9)
TYPE2 = SPDC(405e-9, 810e-9, 2e-3, 0.5e-3, 3e-3, 4e-9, azimuth=0.0, rays="eoe")
KTP = SPDC(405e-9, 800e-9, 8e-3, 60e-6, 3e-3, 3e-9, crystal="KTP", rays="yyz", order=1)


def rates(collection, source, points=None):
    crystal = source.crystal_at()
    sizes = (jnp.reshape(source.waist, 1), jnp.reshape(crystal.length, 1))
    points = points or collection.points(source, crystal)
    return jax.tree.map(lambda r: float(r[0]), collected(collection, source, crystal, points, *sizes))


def test_wide_pump_is_a_plane_wave(source=TYPE2):
    cone = Aperture(0.013, 0.05)
    crystal = source.crystal_at()
    wide, _ = resized(source, crystal, jnp.float64(0.05), crystal.length)
    expected = float(plane_wave(cone, source, crystal, cone.points(source, crystal)))
    assert rates(cone, wide).signal == pytest.approx(expected, rel=1e-7)


def test_open_cones_collect_every_pair():
    """A narrow filter and a thin crystal: what the closed form leaves out are the wings beyond the cone."""
    source = eqx.tree_at(lambda s: s.bandwidth, BBO, jnp.float64(1e-11))
    found, angle = rates(Aperture(0.1, 0.2), source), 0.1
    end = 2 * float(source.biphoton().phase_matching()) * (2 * np.pi * np.sin(angle) / 780e-9) ** 2
    u = np.linspace(0, end, 20001)
    inside = 2 / np.pi * np.trapezoid(np.sinc(u / np.pi) ** 2, u)
    assert found.signal == pytest.approx(inside * float(source.pair_rate()), rel=2e-3)
    assert found.pairs == pytest.approx(found.signal, rel=1e-9) and found.idler > found.signal


def test_probability_of_both_equals_draws():
    """Offsets inside and outside of both discs, unlike radii and shares, a pump as wide as they are."""
    q, radii, shares, waist, count = np.array([0.02, 0.5, 0.85, 0.95]), (0.8, 1.1), (0.54, 0.46), 1.7, 400_000
    found = np.asarray(_both(jnp.asarray(q), radii, shares, waist))
    kick = np.random.default_rng(5).normal(0, 1 / waist, (count, 2))
    for offset, expected in zip(q, found, strict=True):
        signal, idler = (
            np.hypot(s * offset + m * kick[:, 0], m * kick[:, 1]) for s, m in zip((1, -1), shares, strict=True)
        )
        seen = np.mean((signal < radii[0]) & (idler < radii[1]))
        assert abs(seen - expected) < 4 * np.sqrt(expected * (1 - expected) / count), offset


def test_partner_of_a_photon_in_a_small_aperture_is_in_a_large_one():
    found = rates(Aperture(0.008, 0.03), BBO)
    assert found.idler_heralding == pytest.approx(1, abs=1e-9)
    assert 0 < found.signal_heralding < 0.2


def test_edges_lose_partners_of_a_narrow_pump():
    """Equal cones: lost is what crosses the edge, 2 E|m K_x| over the radius for a pump wide against it."""
    source = eqx.tree_at(lambda s: s.signal_wavelength, BBO, jnp.float64(810e-9))
    found, radius = rates(Aperture(0.01, 0.01), source), 2 * np.pi * np.sin(0.01) / 810e-9
    # q is flat inside the cone: a ring of mean width E|K_x|/2 + E|K_x|/2 - both ends kicked by K/2 the same way
    lost = 2 / radius * np.sqrt(2 / np.pi) / (2 * 0.9e-3)
    assert 1 - found.idler_heralding == pytest.approx(lost, rel=0.1)


def test_fibres_are_those_of_fibre_pairs():
    crystal, fibre = KTP.crystal_at(), Fibre(45e-6, 55e-6)
    pairs = FibrePairs(crystal, 405e-9, 800e-9, 3e-3, 60e-6, 45e-6, 55e-6, 3e-9, spectral=48)
    expected = jax.jit(lambda p: (p.pair_rate(), *p.single_rates()))(pairs)
    np.testing.assert_allclose(rates(fibre, KTP, Points(1, 64, 1)), expected, rtol=1e-9)
    assert float(fibre.spatial_modes(KTP)) == 1


def test_filters_wider_than_the_emission_are_cut_where_it_is_resolved():
    wide = eqx.tree_at(lambda s: s.bandwidth, KTP, jnp.float64(40e-9))
    assert 3e-9 < float(Fibre(50e-6, 50e-6).filter(wide, KTP.crystal_at())) < 30e-9
    assert Fibre(50e-6, 50e-6).points(wide, KTP.crystal_at()).spectral == 128


def test_half_the_points_change_little():
    cone, crystal = Aperture(0.02, 0.017), BBO.crystal_at()
    points = cone.points(BBO, crystal)
    np.testing.assert_allclose(rates(cone, BBO, points), rates(cone, BBO, points.halved()), rtol=1e-6)


def test_spatial_modes_of_an_open_cone():
    open_cone = float(Aperture(0.2, 0.2).spatial_modes(BBO))
    thin = 3 * np.pi * 0.9e-3**2 / (32 * float(BBO.biphoton().phase_matching()))
    assert open_cone == pytest.approx(thin * (1 - 2 / (100 * np.pi)), rel=1e-4)  # wings beyond u = 100
    assert float(Aperture(1e-6, 1e-6).spatial_modes(BBO)) == 1


def test_slopes():
    points, crystal = Points(2, 16, 1), BBO.crystal_at()
    read = jax.jit(jax.value_and_grad(lambda both: jnp.log(both[0].rates(both[1], both[2], points).pairs)))
    fields = {
        **{name: (lambda b, n=name: getattr(b[0], n)) for name in ("signal_half_angle", "idler_half_angle")},
        **{name: (lambda b, n=name: getattr(b[1], n)) for name in ("waist", "bandwidth", "pump_power")},
        **{name: (lambda b, n=name: getattr(b[2], n)) for name in ("length", "temperature", "angle")},
    }
    value = (Aperture(0.012, 0.0125), BBO, crystal)
    slope = read(value)[1]
    for name, at in fields.items():
        x, h = float(at(value)), 1e-6 if name in ("temperature", "angle") else 1e-5
        up, down = (read(eqx.tree_at(at, value, at(value) * (1 + step)))[0] for step in (h, -h))
        assert float(at(slope)) * x == pytest.approx(float(up - down) / (2 * h), rel=1e-4), name


def test_a_narrow_pump_emits_as_a_continuous_one():
    """Rates of pulses behind the filters over continuous ones: 1 for a narrow pump, partners lost by a wide one."""
    source, crystal = eqx.tree_at(lambda s: s.bandwidth, KTP, jnp.float64(2e-9)), KTP.crystal_at()
    narrow, wide = (joint(source, crystal, width, 256)[1] for width in (0.015e-9, 0.6e-9))
    for name in ("pairs", "signal", "idler"):
        assert narrow[f"{name}_over_steady"]["value"] == pytest.approx(1, abs=2e-3)
    pairs, idler = (wide[f"{name}_over_steady"]["value"] for name in ("pairs", "idler"))
    assert pairs < 0.5 and pairs / idler == pytest.approx(wide["filter_heralding_signal"]["value"], rel=1e-9)
    # exp(-u^2 (1 + D_s/D_i)^2/2 s^2): the signal of a long crystal, u_i = -u D_s/D_i, has the pump's spectrum stretched
    d_s, d_i, _ = (float(d) for d in crystal.group_mismatch(source.pump_wavelength, source.signal_wavelength))
    stretched = 0.6e-9 / 405e-9**2 / abs(1 - d_s / d_i) * 800e-9**2
    assert wide["marginal_signal"]["value"] == pytest.approx(stretched, rel=0.05)


def test_bad_input():
    with pytest.raises(FieldError, match="signal_half_angle: got 2 rad"):
        Aperture(2.0, 0.1)
    lbo = SPDC(405e-9, 810e-9, 5e-3, 5e-4, 3e-3, 1e-8, crystal="LBO", rays="oeo", plane="YZ")
    with pytest.raises(UserError, match="accepted is collection=fibre"):
        Aperture(0.02, 0.02).points(lbo, lbo.crystal_at())
    with pytest.raises(FieldError, match=r"collection.idler_waist: got 1e-06 m"):
        Fibre(5e-5, 1e-6).points(KTP, KTP.crystal_at())
