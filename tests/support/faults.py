"""A file system that fails when told to: full disks and broken ones, at any step of SQLite's work.

What fails is the system call, before it has done anything; SQLite and all above it are real. One
thing is stricter than life: SQLite forgives a failure while it moves the journal into the file
after a commit, and apsw reports it all the same. So whoever injects faults there must take a
commit that reports an error for one that may have taken place.
"""

import itertools
from pathlib import Path
from typing import Any, Literal

import apsw

__all__ = ["FULL", "IO", "Fault", "Faults", "Operation"]

Operation = Literal["open", "read", "write", "sync", "truncate", "delete"]

Fault = tuple[type[apsw.Error], str, int]
"""An error as SQLite raises it: its class, its words, its code."""

FULL: Fault = (apsw.FullError, "database or disk is full", apsw.SQLITE_FULL)
"""ENOSPC, as SQLite tells it of a write."""
IO: Fault = (apsw.IOError, "disk I/O error", apsw.SQLITE_IOERR)
"""EIO."""
_CANNOT_OPEN: Fault = (apsw.CantOpenError, "unable to open database file", apsw.SQLITE_CANTOPEN)

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
        error: Fault = IO,
        *,
        after: int = 0,
    ) -> None:
        """From now on, until `mend`, that operation fails on files whose name contains `file`;
        the first `after` of them do not yet."""
        self._failing[operation, file] = (_CANNOT_OPEN if operation == "open" else error, after)

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
            kind, sentence, code = error
            raised: Any = kind(sentence)
            raised.extendedresult = code
            raise raised

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
