"""One run on several hosts: every process carries its share of the photons, and all of them get every row.

What follows from the rows each process computes for itself, in the same order, so that all hold the same answer; the
first one writes it down. A process that fails tells the others why. Built on `jax.distributed`.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src.distributed import global_state  # the store of keys and values: jax has no public name for it
from jax.experimental.multihost_utils import process_allgather

from qtwin.core.errors import FieldError, UserError
from qtwin.core.units import parse

FAILED, QUIET = "qtwin/failed", 86400 * 1000  # the key, and the milliseconds that its watcher waits for it
PARTING = 2.0  # seconds in which the others learn why a process has failed
_patience = 600.0


def _whole(key: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"hosts.{key}: got {value!r}, accepted is a whole number of at least {least}")
    return value


def connect(hosts: Mapping | None) -> bool:
    """Meet the other processes of ``hosts`` (coordinator, count, index, timeout); whether there are any.

    ``coordinator`` is host:port of the process with index 0. Must stand before any work of jax. Raises UserError for
    bad settings, and when the others have not come within ``timeout``.
    """
    global _patience
    if not hosts:
        return False
    accepted = ("coordinator", "count", "index", "timeout")
    if not isinstance(hosts, Mapping):
        raise UserError(f"hosts: got {hosts!r}, expected the keys {', '.join(accepted)}")
    for key in hosts:
        if key not in accepted:
            raise UserError(f"hosts.{key}: unknown key, accepted are {', '.join(accepted)}")
    count, index = _whole("count", hosts.get("count", 1), 1), _whole("index", hosts.get("index", 0), 0)
    if index >= count:
        raise UserError(f"hosts.index: got {index}, accepted with hosts.count={count} is 0 to {count - 1}")
    if count == 1:
        return False
    place = hosts.get("coordinator")
    if not isinstance(place, str) or not place.rpartition(":")[0] or not place.rpartition(":")[2].isdigit():
        raise UserError(f"hosts.coordinator: got {place!r}, accepted is host:port of the process with hosts.index=0")
    try:
        _patience = parse(hosts.get("timeout", 600), "s")
    except UserError as error:
        raise FieldError("hosts.timeout", str(error)) from error
    if not 1 <= _patience <= 1e6:
        raise UserError(f"hosts.timeout: got {hosts['timeout']!r}, accepted is 1 s to 1e6 s")
    wait = round(_patience)
    clock = _alarm(2 * _patience, f"the processes of this run did not meet at {place} within {wait} s")
    try:
        jax.distributed.initialize(
            place,
            count,
            index,
            initialization_timeout=wait,
            heartbeat_timeout_seconds=max(wait, 10),
            shutdown_timeout_seconds=30,
        )
        process_allgather(np.zeros(1))  # from here on each sees at once when another one is gone
    except (RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(f"hosts: no meeting of {count} processes at {place} within {wait} s ({line})") from error
    finally:
        clock.cancel()
    threading.Thread(target=_watch, daemon=True).start()
    return True


def connected() -> bool:
    return global_state.client is not None


def first() -> bool:
    """Whether this process writes the results: the one of index 0, or the only one."""
    return global_state.process_id == 0


def share(rows: int) -> slice:
    """Rows that are this process's own: consecutive, and as many as the others have, or one less."""
    return _share(rows, global_state.process_id)


def _share(rows: int, index: int) -> slice:
    return slice(rows * index // global_state.num_processes, rows * (index + 1) // global_state.num_processes)


def gather(table: np.ndarray) -> None:
    """Fill ``table`` [rows, ...] with what every process has written into its own `share`. The same call in all."""
    rows, count = len(table), global_state.num_processes
    part, own = np.zeros((-(-rows // count), *table.shape[1:]), table.dtype), table[share(rows)]
    part[: len(own)] = own
    clock = _alarm(_patience, f"the other processes have not answered within {_patience:g} s (hosts.timeout)")
    try:
        for index, there in enumerate(process_allgather(part)):
            place = _share(rows, index)
            table[place] = there[: place.stop - place.start]
    except jax.errors.JaxRuntimeError as error:
        time.sleep(PARTING)  # if it has told why, the watcher speaks
        raise UserError("hosts: another process of this run has ended before its part was done") from error
    finally:
        clock.cancel()


def gathered(own: np.ndarray, rows: int) -> np.ndarray:
    """All ``rows`` of an array of which this process has made its own `share`."""
    table = np.empty((rows, *own.shape[1:]), own.dtype)
    table[share(rows)] = own
    gather(table)
    return table


def _store() -> Any:
    """What all processes can read and write: keys with texts."""
    return global_state.client


def leave() -> None:
    """Part from the others in peace."""
    jax.distributed.shutdown()


def fail(line: str) -> NoReturn:
    """Tell the others, and end this process with exit code 2: jax itself would wait for them, then abort."""
    print(f"qtwin: error: {line}", file=sys.stderr, flush=True)
    try:
        _store().key_value_set(FAILED, f"process {global_state.process_id} of this run has failed: {line}")
        if first():  # it keeps the store
            time.sleep(PARTING)
    except jax.errors.JaxRuntimeError:  # another one was before this one, or the first process is gone
        pass
    sys.stdout.flush()
    os._exit(2)


def _end(line: str) -> NoReturn:
    print(f"qtwin: error: {line}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(2)


def _watch() -> None:
    """End with this process what another one could not do."""
    try:
        told = _store().blocking_key_value_get(FAILED, QUIET)
    except Exception:  # the run is over, and the store with it
        return
    if not told.startswith(f"process {global_state.process_id} "):
        _end(f"hosts: {told}")


def _alarm(seconds: float, line: str) -> threading.Timer:
    clock = threading.Timer(seconds, _end, [f"hosts: {line}"])
    clock.daemon = True
    clock.start()
    return clock
