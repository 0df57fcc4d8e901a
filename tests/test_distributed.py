"""One run on several hosts: two processes of this machine give the answer of one, bit for bit, or one clear line."""

import json
import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT

from qtwin.core import hosts
from qtwin.core.errors import UserError

SETUP = """
import os, signal, sys, time
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from qtwin.core import hosts
from qtwin.core.errors import UserError
from qtwin.core.explain import explain
index, port, timeout = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
try:
    hosts.connect({"coordinator": f"127.0.0.1:{port}", "count": 2, "index": index, "timeout": timeout})
"""
END = """
    hosts.leave()
except UserError as error:
    hosts.fail(explain(error))
"""
WALK = """
import jax.numpy as jnp
from qtwin.core.random import words
from qtwin.scene.grid import Grid
from qtwin.tissue import Slab
from qtwin.tissue.carry import carry
from qtwin.tissue.walk import medium_of, walk
def table():  # the two ways in which a benchmark has photons carried: one walk, and an exposure with its object
    slab = Slab(thickness=(1e-4, 5e-5), mu_a=(100.0, 30.0), mu_s=(2e4, 5e3), g=(0.9, 0.8), n=(1.37, 1.4), depth=5e-5)
    layers, numbers = slab.layers(), np.arange(1001)
    grid = Grid(jnp.ones((6, 6), jnp.float32).at[2, 3].set(0.5), jnp.asarray(1e-4, jnp.float32))
    begin = jnp.asarray(np.random.default_rng(5).normal(0, 1e-4, (1001, 2)), jnp.float32)
    given = {"start": begin, "grid": grid, "roulette": False, "object_layer": slab.object_layer}
    exposure = carry(medium_of(layers), words(jax.random.key(4)), numbers, **given)
    found = walk(slab, key=jax.random.key(3), photons=8192)
    return np.concatenate([np.ravel(np.asarray(a)) for a in [exposure, *jax.tree.leaves((found.paths, found.again))]])
"""


def port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def start(*arguments, cwd=ROOT, **environment):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    given = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=given, **pipes)


def ended(process, seconds=120):
    """Exit code, what it printed, and its own lines of error."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, [line for line in err.splitlines() if line.startswith("qtwin: error: ")]


def both(work, timeout=60.0):
    """Two processes that do ``work`` (indented python; `index` says who it is) once they have met."""
    code, meeting = SETUP + work + END, port()
    return [start("-c", code, str(i), meeting, str(timeout)) for i in range(2)]


@pytest.mark.slow
def test_two_processes_have_every_photon_bit_for_bit(tmp_path):
    work = (
        WALK.replace("\n", "\n    ")
        + f"""
    seen = []
    import qtwin.tissue.carry as room
    here = room._here
    room._here = lambda *a, **k: (seen.append(a[2]), here(*a, **k))
    np.save(r"{tmp_path}/" + str(index), table())
    np.save(r"{tmp_path}/own" + str(index), seen[0])
    hosts.gather(np.zeros((3, 2)))
"""
    )
    assert [ended(process)[0] for process in both(work)] == [0, 0]
    scope: dict = {"jax": jax, "np": np}
    exec(WALK, scope)
    usual = scope["table"]()
    for i in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"{i}.npy"), usual)
    assert [len(np.load(tmp_path / f"own{i}.npy")) for i in range(2)] == [500, 501]


GATHER = """
    hosts.gather(np.zeros((5, 2)))
"""


@pytest.mark.parametrize("who", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_an_error_in_one_process_ends_the_other_with_its_reason(who):
    work = (
        f"""
    if index == {who}:
        raise UserError("out: the disk is full")
"""
        + GATHER
    )
    found = [ended(process) for process in both(work)]
    assert [code for code, *_ in found] == [2, 2]
    assert found[who][2] == ["qtwin: error: out: the disk is full"]
    assert found[1 - who][2] == [f"qtwin: error: hosts: process {who} of this run has failed: out: the disk is full"]


@pytest.mark.slow
def test_a_process_that_is_killed_or_silent_does_not_hang_the_first():
    for deed, words in (
        ("os.kill(os.getpid(), signal.SIGKILL)", "another process of this run has ended before its part was done"),
        ("time.sleep(300)", "the other processes have not answered within 3 s (hosts.timeout)"),
    ):
        first, second = both(f"\n    if index == 1:\n        {deed}\n" + GATHER, timeout=3.0)
        code, _, lines = ended(first)
        second.kill()
        second.communicate()
        assert code == 2 and lines == [f"qtwin: error: hosts: {words}"], lines


@pytest.mark.slow
def test_a_process_that_stays_alone_ends():
    first, second = (start("-c", SETUP + END, str(index), port(), "3") for index in (0, 1))
    code, _, lines = ended(first)
    assert code == 2 and len(lines) == 1 and "within 3 s" in lines[0] and lines[0].startswith("qtwin: error: hosts: ")
    assert ended(second)[0] != 0


@pytest.mark.slow
def test_the_other_process_does_not_outlive_a_killed_first_one():
    first, second = both("\n    if index == 0:\n        os.kill(os.getpid(), signal.SIGKILL)\n" + GATHER, timeout=20.0)
    assert ended(first)[0] == -signal.SIGKILL and ended(second)[0] != 0


@pytest.mark.slow
def test_a_command_on_two_hosts_is_that_of_one(tmp_path, tmp_path_factory):
    run = ["-m", "qtwin.cli", "transport", "photons=50000", "derivatives=false"]
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled"))}
    compiled |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    assert ended(start(*run, "hydra.run.dir=one", cwd=tmp_path, **compiled), 280)[0] == 0
    meet = [f"++hosts.coordinator=127.0.0.1:{port()}", "++hosts.count=2", "hydra.run.dir=two"]
    running = [start(*run, *meet, f"++hosts.index={i}", cwd=tmp_path, **compiled) for i in range(2)]
    found = [ended(process, 280) for process in running]
    assert [(code, lines) for code, _, lines in found] == [(0, [])] * 2
    one, two = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two"))
    assert one["figures"] == two["figures"] and one["config_hash"] == two["config_hash"]
    assert (tmp_path / "one" / "arrays.h5").read_bytes() == (tmp_path / "two" / "arrays.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    settings = (tmp_path / "two" / ".hydra" / "overrides.yaml").read_text()
    assert "hosts.index=0" in settings and "results: " in found[0][1] and "results: " not in found[1][1]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, r"hosts: got 5, expected the keys coordinator, count"),
        ({"number": 2}, r"hosts.number: unknown key, accepted are coordinator"),
        ({"count": 0}, r"hosts.count: got 0, accepted is a whole number of at least 1"),
        ({"count": 2, "index": 2}, r"hosts.index: got 2, accepted with hosts.count=2 is 0 to 1"),
        ({"count": 2, "index": 0}, r"hosts.coordinator: got None, accepted is host:port"),
        ({"count": 2, "coordinator": "here"}, r"hosts.coordinator: got 'here'"),
        ({"count": 2, "coordinator": "a:1", "timeout": "3 m"}, r"got '3 m', expected a time"),
        ({"count": 2, "coordinator": "a:1", "timeout": 0}, r"hosts.timeout: got 0, accepted is 1 s"),
    ],
)
def test_bad_settings_are_one_clear_line(given, words):
    with pytest.raises(UserError, match=words):
        hosts.connect(given)


def test_one_host_is_no_company():
    assert not hosts.connect(None) and not hosts.connect({"count": 1, "index": 0, "coordinator": None})
    assert hosts.first() and not hosts.connected() and hosts.share(7) == slice(0, 7)


@pytest.mark.parametrize(("rows", "count"), [(32, 12), (7, 3), (2, 3), (1001, 2)])
def test_shares_cover_all_rows_once(monkeypatch, rows, count):
    monkeypatch.setattr(hosts.global_state, "num_processes", count)
    own = [hosts._share(rows, i) for i in range(count)]
    assert np.concatenate([np.arange(rows)[s] for s in own]).tolist() == list(range(rows))
    assert {s.stop - s.start for s in own} <= {rows // count, -(-rows // count)}
