"""A disk that loses its power: what was written and not synced survives by chance.

SQLite goes through `Disk.vfs` and believes that it works on ordinary files, which it does. Beside
them the disk keeps, for each file, what is synced and the log of what was written since. `cut`
makes of that what a machine would find when the power comes back: `restart` lays it out in a new
folder. The old folder, and whoever still works on it, has no part in it any more.

What is simulated:

- Each write and each truncation since the last sync survives with probability one half,
  independently of the others and in their order. One write in four is torn: each of its sectors
  of 512 bytes survives for itself.
- A lost write behind the synced end of a file leaves nothing, zeros when a later one survives, or,
  one time in four, rubbish.
- A file or folder that was created, and one that was deleted, is there or not with probability one
  half until its own folder is synced: by SQLite, when it first syncs a journal and when it deletes
  one with that wish, or by `os.fsync`.
- A file that others wrote, such as SQLite's index of the journal (-shm), is taken for not synced.

What is not: a byte beside a write is never changed (SQLite relies on that as well), a rename is a
creation and a deletion, and a disk that says it synced did so, unless `deaf`.
"""

import itertools
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import apsw

__all__ = ["Disk"]

SECTOR = 512
"""Bytes that are written whole or not at all."""

_JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_serial = itertools.count()


class _File:
    """What is on the disk for certain, and what was written since."""

    def __init__(self, synced: bytes = b"", *, foreign: bool = False) -> None:
        self.foreign = foreign
        """Somebody writes to it whom the disk does not hear."""
        self.synced = bytearray(synced)
        self.log: list[tuple[int, bytes | None]] = []
        """(offset, data) of a write; (size, None) of a truncation."""

    def sync(self) -> None:
        for at, data in self.log:
            _apply(self.synced, at, data)
        self.log.clear()

    def survivor(self, random: Random, tally: Counter[str]) -> bytes:
        content = bytearray(self.synced)
        for at, data in self.log:
            if data is None or random.random() < 0.75:
                pieces = [(at, data)]
            else:
                cuts = [at, *range(at - at % SECTOR + SECTOR, at + len(data), SECTOR)]
                ends = [*cuts[1:], at + len(data)]
                pieces = [(a, data[a - at : b - at]) for a, b in zip(cuts, ends, strict=True)]
            for offset, piece in pieces:
                kept = random.random() < 0.5
                tally["kept" if kept else "lost"] += 1
                if kept:
                    _apply(content, offset, piece)
                elif piece and offset >= len(content) and random.random() < 0.25:
                    _apply(content, offset, random.randbytes(len(piece)))
        return bytes(content)


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
    elif at > len(content):
        content.extend(bytes(at - len(content)))
    if data is not None:
        content[at : at + len(data)] = data


class _Folder:
    def __init__(self) -> None:
        self.synced: dict[str, _File | _Folder] = {}
        """Its entries as they are on the disk for certain."""


class Disk:
    """Holds the folder of the present boot, `root`, until the power is cut.

    Whoever is at work then goes on in the old folder, to no effect, until it is closed: what it
    says after the cut must not be counted.
    """

    def __init__(self, folder: Path, random: Random, *, deaf: bool = False) -> None:
        """`deaf`: a sync returns at once and does nothing, as with `PRAGMA synchronous = OFF`."""
        self.cuts = 0
        self.tally: Counter[str] = Counter()
        """Pieces of unsynced writes that were `kept` and `lost` in all cuts."""
        self.on = True
        self.root = folder / "boot-0"
        self.at_cut: Callable[[], None] = lambda: None
        """Called at the instant of the cut, in whichever thread it happens."""
        self.before: Callable[[], None] = lambda: None
        """Called before whatever SQLite does to the disk; what it raises is what SQLite gets."""
        self._folder = folder
        self._random = random
        self._deaf = deaf
        self.lock = threading.RLock()
        self._countdown: int | None = None
        self._survivors: dict[Path, bytes | None] = {}
        self._nodes: dict[tuple[int, int], _File | _Folder] = {}
        self._held = ExitStack()
        self.root.mkdir(parents=True)
        self._boot()

    def _boot(self) -> None:
        self._vfs = _PowerVFS(self, f"power-{next(_serial)}")
        self.vfs = self._vfs.name

    # --- The power ----------------------------------------------------------------------------

    def cut_after(self, operations: int) -> None:
        """Cut the power just before the disk's n-th operation from now."""
        self._countdown = operations

    def cut(self) -> None:
        """Cut the power now, if it is still on."""
        with self.lock:
            if not self.on:
                return
            self.on = False
            self.cuts += 1
            self.at_cut()
            self._survivors = {}
            self._survive(self._node(self.root), self.root, Path())

    def restart(self) -> None:
        """Switch the power on again: `root` is a new folder with what survived."""
        self.cut()
        old, self.root = self.root, self._folder / f"boot-{self.cuts}"
        shutil.rmtree(old)
        self._countdown = None
        self._nodes.clear()
        self._held.close()
        self.root.mkdir()
        for path, content in self._survivors.items():
            target = self.root / path
            if content is None:
                target.mkdir()
            else:
                target.write_bytes(content)
        for path, content in self._survivors.items():
            target = self.root / path
            node = self._know(target, _Folder() if content is None else _File(content))
            parent = self._node(target.parent)
            assert isinstance(parent, _Folder)
            parent.synced[target.name] = node
        self.on = True
        self._boot()

    def remove(self) -> None:
        """Away with all of it."""
        self._held.close()
        shutil.rmtree(self._folder)

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """Hear of what is synced without SQLite: `os.fsync` is replaced meanwhile."""
        with mock.patch.object(os, "fsync", self._hear):
            yield

    def _survive(self, node: "_File | _Folder", path: Path, name: Path) -> None:
        assert isinstance(node, _Folder)
        present = self._entries(path)
        for entry in sorted({*node.synced, *present}):
            was, now = node.synced.get(entry), present.get(entry)
            found = now if was is now else self._random.choice((was, now))
            if isinstance(found, _File):
                if found.foreign and found is now:
                    found.log = [(0, (path / entry).read_bytes())]
                self._survivors[name / entry] = found.survivor(self._random, self.tally)
            elif found is not None:
                self._survivors[name / entry] = None
                self._survive(found, path / entry, name / entry)

    # --- What is on it ------------------------------------------------------------------------

    def _node(self, path: Path) -> "_File | _Folder":
        node = self._nodes.get(_inode(path))
        return node or self._know(path, _Folder() if path.is_dir() else _File(foreign=True))

    def _know(self, path: Path, node: "_File | _Folder") -> "_File | _Folder":
        # Held open, so that its number is not given to another file when it is deleted.
        self._held.callback(os.close, os.open(path, os.O_RDONLY))
        self._nodes[_inode(path)] = node
        return node

    def _entries(self, folder: Path) -> dict[str, "_File | _Folder"]:
        return {path.name: self._node(path) for path in folder.iterdir()}

    def opened(self, path: Path, *, new: bool) -> _File:
        node = self._know(path, _File()) if new else self._node(path)
        assert isinstance(node, _File)
        return node

    def sync(self, file: _File) -> None:
        if not self._deaf:
            file.sync()

    def sync_folder(self, path: Path) -> None:
        node = self._node(path)
        if isinstance(node, _Folder) and not self._deaf:
            node.synced = self._entries(path)

    def _hear(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        with self.lock:
            for path in (self.root, *self.root.rglob("*")):
                if _inode(path) == (status.st_dev, status.st_ino):
                    if not self.operation():
                        return
                    if path.is_dir():
                        self.sync_folder(path)
                    else:
                        self._know(path, _File(path.read_bytes(), foreign=True))

    def operation(self) -> bool:
        """Something is about to reach the disk; False when the power is off."""
        if self.on and self._countdown is not None:
            self._countdown -= 1
            if self._countdown <= 0:
                self.cut()
        return self.on


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


class _PowerVFS(apsw.VFS):
    """SQLite's own file system, of one boot; the disk hears of all that changes."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.name = name
        self.disk = disk
        self.root = disk.root
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if name is None:
            return apsw.VFSFile("", name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        with self.disk.lock:
            return _PowerFile(self, name, path, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:
        with self.disk.lock:
            alive = self.alive()
            super().xDelete(name, False)
            if syncdir and alive:
                self.disk.sync_folder(Path(name).parent)

    def excepthook(self, *_: object) -> bool:
        return True

    def alive(self) -> bool:
        """Whether what is about to be done is done on the disk, and not after a cut. Raises what
        `Disk.before` does."""
        if self.disk.root != self.root or not self.disk.operation():
            return False
        self.disk.before()
        return True


class _PowerFile(apsw.VFSFile):
    def __init__(
        self, vfs: _PowerVFS, name: str | apsw.URIFilename, path: Path, flags: list[int]
    ) -> None:
        self.vfs = vfs
        self.folder = path.parent
        new = not path.exists()
        alive = not new or vfs.alive()
        super().__init__("", name, flags)
        self.file = vfs.disk.opened(path, new=new) if alive else _File()
        # As SQLite does: the folder is synced with the first sync of a journal that may be new.
        self.syncs_folder = bool(flags[0] & _JOURNALS and flags[0] & apsw.SQLITE_OPEN_CREATE)

    def xWrite(self, data: bytes, offset: int) -> None:
        with self.vfs.disk.lock:
            if self.vfs.alive():
                self.file.log.append((offset, bytes(data)))
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        with self.vfs.disk.lock:
            if self.vfs.alive():
                self.file.log.append((newsize, None))
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        with self.vfs.disk.lock:
            if self.vfs.alive():
                self.vfs.disk.sync(self.file)
                if self.syncs_folder:
                    self.vfs.disk.sync_folder(self.folder)
                    self.syncs_folder = False

    def excepthook(self, *_: object) -> bool:
        return True
