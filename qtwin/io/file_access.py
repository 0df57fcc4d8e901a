"""What every reader and writer of io shares: what can be opened at all, whole files, optional libraries."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from importlib import import_module
from io import RawIOBase
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType

import h5py

from qtwin.core.errors import UserError

HEAD = 16  # bytes that tell a format


def head(path: Path, accepted: str) -> bytes:
    """First bytes of a file; UserError where there is no file, or nothing in it."""
    if path.is_dir():
        raise UserError(f"{path}: a folder, accepted is a file: {accepted}")
    try:
        with path.open("rb") as file:
            found = file.read(HEAD)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file, accepted is {accepted}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UserError(f"{path!s}: cannot be opened ({error})") from error
    if not found:
        raise UserError(f"{path}: an empty file, accepted is {accepted}")
    return found


@contextmanager
def library_reads(path: Path, what: str) -> Iterator[None]:
    """Whatever a library raises at a malformed file, as one line that names the file and what it was taken for."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything on a damaged file
        line = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{path}: not {what} that can be read ({line})") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; the file gets its name when all of it is on the disk, or vanishes."""
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise UserError(f"{path}: a folder, accepted is the name of a file")
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as file:
        part = Path(file.name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class _Disk(RawIOBase):
    """A file whose writes never fail where HDF5 sees it: at a full disk that library crashes. ``failed`` holds why."""

    def __init__(self, path: Path):
        self._file = path.open("w+b", buffering=0)
        self.failed: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer) or 0

    def write(self, data) -> int:
        try:
            if self._file.write(data) != len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        except OSError as error:
            self.failed = self.failed or error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0


@contextmanager
def hdf5_file(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """(new HDF5 file, check to call after each large write): OSError where the disk did not take it."""

    def check() -> None:
        if disk.failed:
            raise disk.failed

    with _Disk(path) as disk:
        with h5py.File(disk, "w") as file:
            yield file, check
        check()


def optional(name: str, use: str, extra: str = "files") -> ModuleType:
    """A library of an ``extra``. UserError says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{use} needs {name}, which is not installed: pip install -e '.[{extra}]'") from error
