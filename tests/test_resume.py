"""A sweep that is killed, or shared by two processes: nothing is lost, and nothing is run twice."""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT

# One process imports everything and starts no jax; its children are the sweeps, and it kills them when told to.
# The job is small: it says that it has begun, and writes what a job writes, in the same order.
NURSERY = """
import json, os, signal, sys, time
from types import ModuleType
from qtwin.cli import main
from qtwin.core.config import plain
from qtwin.core.errors import UserError
from qtwin.io.results import config_hash, versions, write_result
import qtwin.sweep

def run(cfg, folder):
    number = int(cfg.reach)
    log = os.open("executions", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(log, f"{number} {os.getpid()}\\n".encode())
    os.close(log)
    time.sleep(0.02)
    if number == 13:
        raise UserError("reach: 13 is unlucky")
    if number == 99 and len(open("executions").readlines()) < 3:
        time.sleep(60)  # until it is killed
    if number == 50:  # until another process has begun a point, however late the system lets it start
        ends = time.time() + 60
        while len({line.split()[1] for line in open("executions")}) < 2 and time.time() < ends:
            time.sleep(0.005)
    config = plain(cfg)
    result = {"figures": {}, "swept": float(number), "config_hash": config_hash(config), "versions": versions()}
    write_result(folder, result | {"config": config})
    time.sleep(0.01)
    (folder / "report.html").write_text("report")
    return float(number)

sys.modules["qtwin.correlate_job"] = job = ModuleType("qtwin.correlate_job")
job.run = run

def sweep(arguments):
    child = os.fork()
    if child:
        return child
    out = os.open(f"said.{os.getpid()}", os.O_CREAT | os.O_WRONLY)
    os.dup2(out, 1), os.dup2(out, 2)
    code = main(arguments)
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)

print("ready", flush=True)
def until(lines, over=lambda: False):
    while len(open("executions").readlines()) < lines and not over():
        time.sleep(0.005)

for line in sys.stdin:
    children, dead = [], {}
    for wanted in json.loads(line):
        until(wanted["after"])
        children.append(sweep(wanted["arguments"]))
    for child, wanted in zip(children, json.loads(line)):
        if wanted["kill"] is not None:
            def over(child=child):
                if child not in dead:
                    dead.update([os.waitpid(child, os.WNOHANG)])
                return child in dead
            until(wanted["lines"], over)
            time.sleep(wanted["kill"])
            if not over():
                os.kill(child, signal.SIGKILL)
    ends = [dead[c] if c in dead else os.waitpid(c, 0)[1] for c in children]
    print(json.dumps([(c, os.waitstatus_to_exitcode(end)) for c, end in zip(children, ends)]), flush=True)
"""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    place = tmp_path_factory.mktemp("nursery")
    command = [sys.executable, "-W", "ignore", "-c", NURSERY]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(place)}
    with subprocess.Popen(
        command, cwd=place, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def run(*sweeps):
            """Process and exit code of each: begun ``after`` so many executions, killed some time after ``lines``."""
            whole = [{"after": 0, "lines": 0, "kill": None} | wanted for wanted in sweeps]
            print(json.dumps(whole), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        run.place = place
        yield run
        process.stdin.close()


@pytest.fixture
def sweep(nursery):
    """Arguments of a sweep in a folder of its own; what has been executed is forgotten."""
    (nursery.place / "executions").write_text("")

    def arguments(folder, numbers):
        own = [f"reach={','.join(map(str, numbers))}", f"hydra.sweep.dir={folder}", "file=none", "logger=none"]
        return {"arguments": ["correlate", "-m", *own]}

    return arguments


def executions(nursery):
    """(number, process) of everything that was begun, in order."""
    lines = (nursery.place / "executions").read_text().splitlines()
    return [(int(number), int(process)) for number, process in map(str.split, lines)]


def finished(folder):
    """Point -> when its result was written."""
    there = [file.parent for file in folder.glob("*/report.html") if (file.parent / "result.json").exists()]
    return {int(point.name): (point / "result.json").stat().st_mtime_ns for point in there}


def said(nursery, process):
    return (nursery.place / f"said.{process}").read_text()


@pytest.mark.parametrize(("kills", "points"), [(2, 5), pytest.param(10, 16, marks=pytest.mark.slow)])
def test_a_sweep_killed_at_random_moments_resumes(nursery, sweep, kills, points):
    folder = nursery.place / f"killed{kills}"
    whole, moments = sweep(folder, range(20, 20 + points)), np.random.default_rng(7).uniform(0, 0.3, kills)
    seen = []  # finished points, and the number of executions, at each kill
    for moment in moments:
        ((process, code),) = nursery(whole | {"lines": len(executions(nursery)) + 1, "kill": float(moment)})
        seen.append((finished(folder), len(executions(nursery))))
        assert code in (-9, 0), said(nursery, process)
    ((process, code),) = nursery(whole)
    assert code == 0, said(nursery, process)
    begun, results = executions(nursery), finished(folder)
    assert sorted(results) == list(range(points))
    assert len({len(before) for before, _ in seen}) > kills // 3, "the moments do not tell apart"
    for before, n in seen:
        assert not {number - 20 for number, _ in begun[n:]} & set(before), "a finished point was run again"
        assert all(results[point] == when for point, when in before.items()), "a result was written again"
    for point in results:
        result = json.loads((folder / str(point) / "result.json").read_text())
        assert result["swept"] == 20 + point and len(list((folder / str(point)).glob("result*.json"))) == 1


def test_two_processes_share_a_sweep(nursery, sweep):
    folder, whole = nursery.place / "shared", sweep(nursery.place / "shared", range(50, 56))
    (one, first), (two, second) = nursery(whole, whole)
    assert (first, second) == (0, 0), said(nursery, one) + said(nursery, two)
    begun = executions(nursery)
    assert Counter(number for number, _ in begun) == Counter(range(50, 56))
    assert {process for _, process in begun} == {one, two}
    assert sorted(finished(folder)) == list(range(6))


@pytest.mark.slow
def test_a_failed_point_is_run_by_one_of_two_and_told_by_both(nursery, sweep):
    folder, whole = nursery.place / "failing", sweep(nursery.place / "failing", (1, 13, 2))
    both = nursery(whole, whole)
    assert [code for _, code in both] == [2, 2]
    assert Counter(number for number, _ in executions(nursery)) == Counter((1, 13, 2))
    for process, _ in both:
        assert f"qtwin: error: {folder}/1: reach: 13 is unlucky (reach=13" in said(nursery, process)


@pytest.mark.slow
def test_a_point_whose_process_was_killed_is_named_by_the_other_and_run_again(nursery, sweep):
    folder, whole = nursery.place / "left", sweep(nursery.place / "left", (99, 1))
    (_, killed), (other, code) = nursery(whole | {"lines": 2, "kill": 0.0}, whole | {"after": 1})
    assert (killed, code) == (-9, 2)
    assert f"qtwin: error: {folder}/0: not finished, and the process that ran it has ended" in said(nursery, other)
    assert sorted(finished(folder)) == [1]
    nursery(whole)
    assert [number for number, _ in executions(nursery)] == [99, 1, 99]
    assert sorted(finished(folder)) == [0, 1]


def test_a_value_that_is_refused_leaves_what_was_there(nursery, sweep):
    """Another value at a finished point: its result stays until there is a new one, even where a kill comes between."""
    folder = nursery.place / "other"
    nursery(sweep(folder, (1, 2)))
    (folder / "1" / "experiment").mkdir()
    (folder / "1" / "experiment" / "optimum.yaml").write_text("seed: 1")
    before = finished(folder)
    ((process, code),) = nursery(sweep(folder, (1, 13)))
    assert code == 2 and f"{folder}/1: reach: 13 is unlucky" in said(nursery, process)
    assert finished(folder) == before and (folder / "1" / "experiment" / "optimum.yaml").exists()
    (nursery.place / "executions").write_text("")
    ((_, killed),) = nursery(sweep(folder, (1, 99)) | {"lines": 1, "kill": 0.0})
    assert killed == -9 and sorted(finished(folder)) == [0]  # 99 had begun
    ((_, code),) = nursery(sweep(folder, (1, 2)))
    assert code == 0 and finished(folder) == before and not (folder / "1" / ".before").exists()
    ((_, code),) = nursery(sweep(folder, (1, 3)))
    assert code == 0 and json.loads((folder / "1" / "result.json").read_text())["swept"] == 3
    assert not (folder / "1" / "experiment").exists()
