"""A measured Bell table: its accidentals and CHSH, and its sixteen settings drawn again and counted.

Two-photon polarisation correlations of a Phi+ source, EPJ Quantum Technology 11, 86 (2024), table 11.
"""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.correlation.accidentals import from_delayed, from_singles, net
from qtwin.correlation.coincidence import chsh
from qtwin.correlation.counting import Coincidences, coincidences

WINDOW, TIME = 90_000, 30 * 10**12  # ps
SETTINGS = ((0, 45), (22.5, -22.5))


@pytest.fixture(scope="module")
def table(reference_data):
    file = reference_data / "bell" / "epj2024_lahoz_phi_plus_table11.csv"
    return np.genfromtxt(file, delimiter=",", names=True, dtype=None, encoding="utf-8")


def measured(row):
    return Coincidences(
        (0, 1), "all pairs", WINDOW, row["coincidence_counts"], row["signal_counts"], row["idler_counts"], TIME
    )


def test_accidentals_of_the_table(table):
    """S I tau_w/T with tau_w = 90.0 ns, every row, cut after two decimals as the table is."""
    for row in table:
        assert np.floor(100 * from_singles(measured(row)).value) / 100 == row["accidental_counts"]


def test_chsh_of_the_table(table):
    """2.593 raw, 2.731 with accidentals subtracted: no local theory, by fifty standard errors."""
    angles = table["alpha_deg"], table["beta_deg"]
    gross = table["coincidence_counts"].astype(float)
    raw = chsh(*angles, gross, gross, SETTINGS)
    nets = [net(c, from_singles(c)) for c in map(measured, table)]
    subtracted = chsh(*angles, [n.value for n in nets], [n.error**2 for n in nets], SETTINGS)
    assert (round(raw.s, 3), round(subtracted.s, 3)) == (2.593, 2.731)
    assert (raw.s - 2) / raw.s_error > 40 and (subtracted.s - 2) / subtracted.s_error > 50
    assert raw.s < subtracted.s < 2 * np.sqrt(2)
    np.testing.assert_array_equal(np.sign(raw.correlations), [[1, 1], [1, -1]])


@pytest.fixture(scope="module")
def drawn(table):
    """Every setting as tags of thirty seconds: pairs C - A, 3 ns apart with 10 ns of jitter, and clicks alone."""
    rng, out = np.random.default_rng(81), []
    for row in table:
        pairs = rng.integers(0, TIME, rng.poisson(row["coincidence_counts"] - row["accidental_counts"]))
        means = (row["signal_counts"] - len(pairs), row["idler_counts"] - len(pairs))
        alone = [rng.integers(0, TIME, rng.poisson(m)) for m in means]
        partner = pairs + 3000 + np.rint(rng.normal(0, 10_000, len(pairs))).astype(np.int64)
        rows = np.append(pairs, alone[0]), np.append(partner, alone[1])
        times, channels = np.concatenate(rows), np.repeat([0, 1], [len(r) for r in rows]).astype(np.int16)
        order = np.argsort(times, kind="stable")
        record = [TimeTags(times[order], channels[order], 0, TIME)]
        c = coincidences(record, 0, 1, WINDOW)
        out.append((c, from_singles(c), from_delayed(record, c, 200_000, 20)))
    return out


def test_drawn_settings_give_the_table_again(table, drawn):
    """Coincidences and accidentals of all sixteen, by both ways, as a chi-square of their z-scores."""
    c = np.array([c.counts for c, _, _ in drawn])
    # the table's own counting noise went into the mean that was drawn from
    z = (c - table["coincidence_counts"]) / np.sqrt(c)
    assert np.sum(z**2) < 16 + 4 * np.sqrt(32) and np.max(np.abs(z)) < 4
    for way in (1, 2):
        a, error = np.array([(d[way].value, d[way].error) for d in drawn]).T
        z = (a - table["accidental_counts"]) / error
        assert np.sum(z**2) < 16 + 4 * np.sqrt(32) and np.max(np.abs(z)) < 4
        assert np.max(np.abs((a * 1.1 - table["accidental_counts"]) / error)) > 5  # a window 10 % off


@pytest.mark.parametrize("way", [1, 2])
def test_drawn_chsh(table, drawn, way):
    """Raw and subtracted, within the errors of the draw; raw and subtracted are told apart."""
    angles = table["alpha_deg"], table["beta_deg"]
    gross = [float(d[0].counts) for d in drawn]
    raw = chsh(*angles, gross, gross, SETTINGS)
    nets = [net(d[0], d[way]) for d in drawn]
    subtracted = chsh(*angles, [n.value for n in nets], [n.error**2 for n in nets], SETTINGS)
    assert abs(raw.s - 2.593) / raw.s_error < 4
    assert abs(subtracted.s - 2.731) / subtracted.s_error < 4
    assert (subtracted.s - 2.593) / subtracted.s_error > 5


def test_closed_form_and_error():
    """Ideal Phi+: N ~ cos^2(a - b), S = 2 sqrt 2; the error against the scatter of drawn counts."""
    alpha, beta = (x.ravel() for x in np.meshgrid([0, 90, 45, 135], [22.5, 112.5, -22.5, 67.5], indexing="ij"))
    mean = 1000 * np.cos(np.deg2rad(alpha - beta)) ** 2
    assert chsh(alpha, beta, mean, mean, SETTINGS).s == pytest.approx(2 * np.sqrt(2), rel=1e-12)
    assert chsh(alpha, beta, 1000 * np.ones(16), np.ones(16), SETTINGS).s == 0  # unpolarised
    half = 0.5 * mean + 250  # visibility 1/2
    rng = np.random.default_rng(82)
    found = [chsh(alpha, beta, n, n, SETTINGS) for n in rng.poisson(half, (400, 16)).astype(float)]
    values = np.array([f.s for f in found])
    assert abs(values.mean() - np.sqrt(2)) / (values.std() / 20) < 4
    assert abs(values.std() / np.mean([f.s_error for f in found]) - 1) * np.sqrt(800) < 4
    e = np.array([f.correlations[1, 1] for f in found])
    assert abs(e.std() / np.mean([f.errors[1, 1] for f in found]) - 1) * np.sqrt(800) < 4
    assert e.mean() < -0.3


def test_a_table_that_lacks_a_setting():
    alpha, beta = np.array([0, 90, 0, 90]), np.array([0, 90, 90, 0])
    counts = np.ones(4)
    with pytest.raises(UserError, match=r"settings: \(0, 10\) needs analysers at \(0, 10\) degrees"):
        chsh(alpha, beta, counts, counts, ((0, 90), (10, 90)))
    with pytest.raises(UserError, match="the same pair of angles"):
        chsh(np.array([0, 180, 0, 90]), np.array([0, 0, 90, 0]), counts, counts, ((0, 0), (0, 0)))
    with pytest.raises(UserError, match="has no counts"):
        chsh(alpha, beta, 0 * counts, counts, ((0, 0), (0, 0)))
