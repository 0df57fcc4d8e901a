"""Who runs a point of a sweep: the process that holds the lock of its folder, and no other.

The system frees the lock when its process ends, however that comes: a killed process blocks nobody.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from qtwin.core.errors import UserError

CLAIM = ".claim"


def lock(file: IO, wait: bool = False, shared: bool = False) -> bool:
    """Lock an open file until it is closed; False where others hold it. UserError where there are no locks."""
    try:
        import fcntl  # here: not on every system, and a single run needs none

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except (OSError, ImportError) as error:
        told = f"files cannot be locked here ({error}); accepted is a folder on a file system that has locks"
        raise UserError(f"hydra.sweep.dir: {Path(file.name).parent}: {told}") from error
    return True


def touch(file: IO) -> int:
    """Now, by the clock of the file system, in ns; written to the file."""
    os.utime(file.fileno())
    return os.fstat(file.fileno()).st_mtime_ns


@contextmanager
def claim(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process, and no other, may run the point of ``folder``; with ``wait`` its turn comes in any case."""
    with (folder / CLAIM).open("a") as file:
        touch(file)
        yield lock(file, wait)
