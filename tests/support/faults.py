"""File system that fails on demand, at any step of SQLite's work, as a full or broken disk does.

A fault replaces a system call, which then has no effect; SQLite and everything above it are real.
In one respect the faults are stricter than reality: SQLite ignores a failure while moving the
journal into the file after a commit, but apsw reports the failure. A commit that reports such an
error may have taken place.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import apsw

__all__ = ["Fault", "Faults", "Operation", "disk_full", "io_error"]

Operation = Literal["open", "read", "write", "sync", "truncate", "delete"]

Fault = Callable[[], apsw.Error]
"""Function that creates an error as SQLite raises it."""


def disk_full() -> apsw.Error:
    """Return the error of a full disk (ENOSPC), as SQLite raises it for a write."""
    return _error(apsw.FullError("database or disk is full"), apsw.SQLITE_FULL)


def io_error() -> apsw.Error:
    """Return the error of a broken disk (EIO)."""
    return _error(apsw.IOError("disk I/O error"), apsw.SQLITE_IOERR)


def cannot_open() -> apsw.Error:
    """Return the error SQLITE_CANTOPEN, which SQLite raises for any failure to open a file."""
    return _error(apsw.CantOpenError("unable to open database file"), apsw.SQLITE_CANTOPEN)


def _error(error: Any, code: int) -> apsw.Error:
    error.extendedresult = code
    assert isinstance(error, apsw.Error)
    return error


_serial = itertools.count()


class Faults(apsw.VFS):
    """SQLite's default file system, whose operations fail as `fail` specifies.

    Pass `name` as `vfs`.
    """

    def __init__(self) -> None:
        self.name = f"faults-{next(_serial)}"
        self.injected = 0
        """Number of faults injected so far."""
        self._failing: dict[tuple[Operation, str], tuple[Fault, int]] = {}
        super().__init__(self.name, "")

    def fail(
        self,
        operation: Operation,
        file: str = "",
        error: Fault = io_error,
        *,
        after: int = 0,
    ) -> None:
        """Make an operation fail on files whose name contains `file`, until `repair` is called.

        The first `after` operations still succeed. An `open` fails with SQLITE_CANTOPEN, any other
        operation with `error`.
        """
        self._failing[operation, file] = (cannot_open if operation == "open" else error, after)

    def repair(self) -> None:
        """End all faults."""
        self._failing.clear()

    def check(self, operation: Operation, name: str) -> None:
        for (failing, part), (error, after) in list(self._failing.items()):
            if failing != operation or part not in name:
                continue
            if after > 0:
                self._failing[failing, part] = (error, after - 1)
                continue
            self.injected += 1
            raise error()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:
            return apsw.VFSFile("", name, flags)
        short = Path(path).name
        self.check("open", short)
        return _File(self, short, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:
        self.check("delete", Path(name).name)
        super().xDelete(name, syncdir)

    def excepthook(self, *_: object) -> bool:
        return True  # errors that SQLite ignores are not reported


class _File(apsw.VFSFile):
    def __init__(
        self, faults: Faults, short: str, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self.faults = faults
        self.short = short
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self.faults.check("read", self.short)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.faults.check("write", self.short)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self.faults.check("truncate", self.short)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self.faults.check("sync", self.short)
        super().xSync(flags)

    def excepthook(self, *_: object) -> bool:
        return True
