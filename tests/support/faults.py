"""A file system that fails when told to: full disks and broken ones, at any step of SQLite's work.

What fails is the system call, before it has done anything; SQLite and all above it are real. One
thing is stricter than life: SQLite forgives a failure while it moves the journal into the file
after a commit, and apsw reports it all the same. So whoever injects faults there must take a
commit that reports an error for one that may have taken place.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import apsw

__all__ = ["Fault", "Faults", "Operation", "broken", "full"]

Operation = Literal["open", "read", "write", "sync", "truncate", "delete"]

Fault = Callable[[], apsw.Error]
"""Makes an error as SQLite raises it."""


def full() -> apsw.Error:
    """ENOSPC, as SQLite tells it of a write."""
    return _error(apsw.FullError("database or disk is full"), apsw.SQLITE_FULL)


def broken() -> apsw.Error:
    """EIO."""
    return _error(apsw.IOError("disk I/O error"), apsw.SQLITE_IOERR)


def cannot_open() -> apsw.Error:
    """What SQLite makes of any failure to open a file."""
    return _error(apsw.CantOpenError("unable to open database file"), apsw.SQLITE_CANTOPEN)


def _error(error: Any, code: int) -> apsw.Error:
    error.extendedresult = code
    assert isinstance(error, apsw.Error)
    return error


_serial = itertools.count()


class Faults(apsw.VFS):
    """SQLite's own file system, but for what `fail` names; `name` is what a registry is given."""

    def __init__(self) -> None:
        self.name = f"faults-{next(_serial)}"
        self.hits = 0
        """How often a fault was injected."""
        self._failing: dict[tuple[Operation, str], tuple[Fault, int]] = {}
        super().__init__(self.name, "")

    def fail(
        self,
        operation: Operation,
        file: str = "",
        error: Fault = broken,
        *,
        after: int = 0,
    ) -> None:
        """From now on, until `mend`, that operation fails on files whose name contains `file`;
        the first `after` of them do not yet."""
        self._failing[operation, file] = (cannot_open if operation == "open" else error, after)

    def mend(self) -> None:
        """All is well again."""
        self._failing.clear()

    def check(self, operation: Operation, name: str) -> None:
        for (failing, part), (error, after) in list(self._failing.items()):
            if failing != operation or part not in name:
                continue
            if after > 0:
                self._failing[failing, part] = (error, after - 1)
                continue
            self.hits += 1
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
        return True  # what SQLite has no use for is nobody's news


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
