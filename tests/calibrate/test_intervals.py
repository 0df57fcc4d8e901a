"""Dead time and afterpulses from intervals between clicks: simulated records, and the measured one."""

import jax
import numpy as np
import pytest

from qtwin import calibrate_job
from qtwin.calibrate.calibration import Settings, calibrate, pose
from qtwin.calibrate.intervals import Intervals, first_stops
from qtwin.core.config import compose
from qtwin.core.errors import FieldError, UserError
from qtwin.core.records import TimeTags
from qtwin.detector import Exponentials, SinglePhoton, clicks
from qtwin.detector.jitter import FWHM
from qtwin.io.results import read_result
from qtwin.io.time_tag_files import write_time_tags

T2 = "timetags/eta/200204_HH400_T2_320MHz_HBT.timeres"
FREE = ["rate", "dead_time", "edge", "afterpulses", "lifetimes"]
QUICK = Settings(starts=2, profiles=False, draws=0, bootstraps=0)


def drawn(path, afterpulses, lifetime, count=600_000, rate=4e5):
    """Poisson light on a diode with 50 ns of dead time, jitter 0.4 ns (FWHM), as a file of time tags."""
    law = Exponentials(afterpulses, [1.0], [lifetime])
    device = SinglePhoton(1.0, 0.0, "50 ns", "0.4 ns", afterpulsing=law)
    rng = np.random.default_rng(90)
    times = np.rint(np.cumsum(rng.standard_exponential(count)) * 1e12 / rate).astype(np.int64)
    state = clicks.begin(device, np.random.default_rng(91))
    tags, state = clicks.detect(times, int(times[-1]) + 1, state)
    tags = np.concatenate([tags, clicks.flush(state)])
    write_time_tags(path, [TimeTags(tags, np.zeros(len(tags), np.int16), 0, int(times[-1]) + 1)])
    return path


def test_a_diode_is_recovered(tmp_path):
    model = Intervals("300 kHz", "45 ns", "1 ns", 0.01, "100 ns", reach="800 ns")
    data = model.read(drawn(tmp_path / "clicks.npz", 0.03, "60 ns"))
    problem = pose(model, data, FREE, {"lifetimes": {"median": "50 ns", "factor": 4}})
    found = calibrate(problem, data, QUICK, key=jax.random.key(5))
    # the jitter of both clicks blurs the edge
    off = (found.x - [4e5, 50e-9, np.sqrt(2) * 0.4e-9 / FWHM, 0.03, 60e-9]) / found.expected_error.stderr
    assert np.all(np.abs(off[[0, 1, 2, 4]]) < 4)
    assert abs(off[3]) < 4 + 0.03**2 / found.expected_error.stderr[3]  # of older clicks: second order
    assert found.goodness.p_value > 1e-3


@pytest.mark.slow
def test_dead_time_of_the_measured_record(reference_data, tmp_path):
    """No two clicks of a channel are closer than 77.96 ns there (the facts beside the file): the foot of the edge.

    Blinking, seen by the other channel as well, explains what afterpulses would: none is left within 0.5 %.
    """
    free = f"free=[{','.join([*FREE, 'bunching', 'bunching_times'])}]"
    chosen = ["model.channel=1", "model.other=2", "model.bin='3128 ps'", "model.reach='20 us'", free]
    start = ["model.dead_time='78 ns'", "model.bunching='100 kHz'", "model.bunching_times='2 us'"]
    quiet = ["logger=none", "profiles=true", "draws=0", "starts=2", "bootstraps=0"]
    cfg = compose(["model=intervals", f"data={reference_data / T2}", *chosen, *start, *quiet], name="calibrate")
    calibrate_job.run(cfg, tmp_path)
    found = read_result(tmp_path)["figures"]["parameters"]
    dead, edge = found["dead_time"], found["edge"]
    assert 77.96e-9 < dead["value"] < 77.96e-9 + 3128e-12  # known to one period of the laser
    assert dead["value"] - 4 * edge["value"] < 77.96e-9
    assert found["afterpulses"]["profile"]["high"] < 0.005
    # pairs within 200 ns are 4.3 times as many as at 159 298 clicks in 0.999986 s without blinking (the same facts)
    rate, bunching, time = (found[name]["value"] for name in ("rate", "bunching", "bunching_times"))
    bright = rate + bunching * time * -np.expm1(-200e-9 / time) / 200e-9
    assert bright / (159298 / 0.999986) == pytest.approx(4.3, rel=0.1)


def test_first_stops_by_hand():
    """Every start counts once, in the bin of the click that follows it; the others still wait."""
    tags = TimeTags(np.array([0, 10, 25, 100]), np.zeros(4, np.int16), 0, 200)
    counts, waiting = first_stops([tags], 0, 0, np.array([0, 12, 20, 80]))
    np.testing.assert_array_equal(counts, [1, 1, 1])
    np.testing.assert_array_equal(waiting, [3, 2, 1])


def test_wrong_settings_are_refused(tmp_path):
    path = tmp_path / "clicks.npz"
    write_time_tags(path, [TimeTags(np.array([0, 10, 25]), np.zeros(3, np.int16), 0, 200)])
    with pytest.raises(UserError, match=r"channel: got 3, which has 0 clicks; there are \[0\]"):
        Intervals("1 kHz", "50 ns", "1 ns", channel=3).read(path)
    with pytest.raises(FieldError, match="bin: got 1 us up to 1 us, accepted are two bins"):
        Intervals("1 kHz", "50 ns", "1 ns", bin="1 us").read(path)
    with pytest.raises(FieldError, match="reach"):
        Intervals("1 kHz", "50 ns", "1 ns", reach="1 mm").read(path)
    with pytest.raises(FieldError, match="afterpulses: got 2 values and 1 lifetimes"):
        Intervals("1 kHz", "50 ns", "1 ns", afterpulses=[0.1, 0.2])
