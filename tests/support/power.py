"""Disk that loses power: writes that were not synced survive by chance.

SQLite writes ordinary files through `Disk.vfs`. The disk records the synced content of each file
and the log of later writes. `cut` computes the files that survive a power loss, and `restart`
writes the surviving files to a new folder. Code that still uses the old folder has no effect on the
new folder.

Simulated:

- Each write and each truncation since the last sync survives with probability one half,
  independently of the others. The surviving operations take effect in order. One write in four is
  torn: each of its sectors of 512 bytes survives independently.
- A lost write beyond the synced end of a file leaves nothing, zeros if a later write survives, or,
  with probability one quarter, random bytes.
- The creation or deletion of a file or folder survives with probability one half until the parent
  folder is synced: by SQLite, when it first syncs a journal and when it deletes one with
  `syncdir`, or by `os.fsync`.
- A file written without SQLite's VFS, such as the index of the journal (-shm), counts as unsynced.

Simplified: bytes next to a write never change, as SQLite also assumes; a rename is a creation and a
deletion; and a reported sync has taken place unless `ignore_sync` is set.
"""

import itertools
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from unittest import mock

import apsw

__all__ = ["Disk"]

SECTOR = 512
"""Number of bytes that the disk writes atomically."""

_JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_serial = itertools.count()


class _FileState:
    """Durable content of a file, and the writes since the last sync."""

    def __init__(self, synced: bytes = b"", *, foreign: bool = False) -> None:
        self.foreign = foreign
        """True for a file that is written without SQLite's VFS."""
        self.synced = bytearray(synced)
        self.log: list[tuple[int, bytes | None]] = []
        """Operations since the last sync: (offset, data) for a write, (size, None) for a
        truncation."""

    def sync(self) -> None:
        for offset, data in self.log:
            _apply(self.synced, offset, data)
        self.log.clear()

    def content_after_cut(self, random: Random, tally: Counter[str]) -> bytes:
        """Return the surviving content, and add the numbers of surviving and lost pieces to
        `tally`."""
        content = bytearray(self.synced)
        for offset, data in self.log:
            if data is None or random.random() < 0.75:
                pieces = [(offset, data)]
            else:
                end = offset + len(data)
                cuts = [offset, *range(offset - offset % SECTOR + SECTOR, end, SECTOR)]
                ends = [*cuts[1:], end]
                pieces = [
                    (a, data[a - offset : b - offset]) for a, b in zip(cuts, ends, strict=True)
                ]
            for start, piece in pieces:
                survived = random.random() < 0.5
                tally["survived" if survived else "lost"] += 1
                if survived:
                    _apply(content, start, piece)
                elif piece and start >= len(content) and random.random() < 0.25:
                    _apply(content, start, random.randbytes(len(piece)))
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    elif offset > len(content):
        content.extend(bytes(offset - len(content)))
    if data is not None:
        content[offset : offset + len(data)] = data


class _FolderState:
    def __init__(self) -> None:
        self.synced: dict[str, _FileState | _FolderState] = {}
        """Durable entries of the folder, by name."""


class Disk:
    """Disk whose files are in `root`, a folder that is new after each restart.

    Code that is running at a power cut continues in the old folder, without effect on the disk.
    Anything that such code reports after the cut must not be counted.
    """

    def __init__(self, folder: Path, random: Random, *, ignore_sync: bool = False) -> None:
        """Create an empty disk. With `ignore_sync`, a sync has no effect, as with `PRAGMA
        synchronous = OFF`."""
        self.cuts = 0
        self.tally: Counter[str] = Counter()
        """Numbers of unsynced operations, or parts of torn writes, that `survived` or were `lost`
        in all cuts."""
        self.powered = True
        self.root = folder / "boot-0"
        self.on_cut: Callable[[], None] = lambda: None
        """Function that is called at the moment of the cut, in the thread that causes the cut."""
        self.before_operation: Callable[[], None] = lambda: None
        """Function that is called before SQLite creates, writes, truncates, syncs or deletes a
        file; SQLite receives any error that the function raises."""
        self._folder = folder
        self._random = random
        self._ignore_sync = ignore_sync
        self.lock = threading.RLock()
        self._countdown: int | None = None
        self._survivors: dict[Path, bytes | None] = {}
        self._states: dict[tuple[int, int], _FileState | _FolderState] = {}
        self._open_files = ExitStack()
        self.root.mkdir(parents=True)
        self._boot()

    def _boot(self) -> None:
        self._vfs = _PowerVFS(self, f"power-{next(_serial)}")
        self.vfs = self._vfs.name

    # --- Power --------------------------------------------------------------------------------

    def cut_after(self, operations: int) -> None:
        """Cut the power just before the disk operation with the number `operations`, counting from
        now."""
        self._countdown = operations

    def cut(self) -> None:
        """Cut the power now, if it is on."""
        with self.lock:
            if not self.powered:
                return
            self.powered = False
            self.cuts += 1
            self.on_cut()
            self._survivors = {}
            self._compute_survivors(self._state(self.root), self.root, Path())

    def restart(self) -> None:
        """Switch the power off, if it is on, and on again; `root` becomes a new folder with the
        surviving files."""
        self.cut()
        old, self.root = self.root, self._folder / f"boot-{self.cuts}"
        shutil.rmtree(old)
        self._countdown = None
        self._states.clear()
        self._open_files.close()
        self.root.mkdir()
        for path, content in self._survivors.items():
            target = self.root / path
            if content is None:
                target.mkdir()
            else:
                target.write_bytes(content)
        for path, content in self._survivors.items():
            target = self.root / path
            state = self._register(
                target, _FolderState() if content is None else _FileState(content)
            )
            parent = self._state(target.parent)
            assert isinstance(parent, _FolderState)
            parent.synced[target.name] = state
        self.powered = True
        self._boot()

    def remove(self) -> None:
        """Remove all files of the disk."""
        self._open_files.close()
        shutil.rmtree(self._folder)

    @contextmanager
    def track_fsync(self) -> Iterator[None]:
        """Replace `os.fsync`, so that the disk learns of syncs outside SQLite."""
        with mock.patch.object(os, "fsync", self._fsync):
            yield

    def _compute_survivors(
        self, state: "_FileState | _FolderState", path: Path, name: Path
    ) -> None:
        assert isinstance(state, _FolderState)
        present = self._entries(path)
        for entry in sorted({*state.synced, *present}):
            was, now = state.synced.get(entry), present.get(entry)
            found = now if was is now else self._random.choice((was, now))
            if isinstance(found, _FileState):
                if found.foreign and found is now:
                    found.log = [(0, (path / entry).read_bytes())]
                content = found.content_after_cut(self._random, self.tally)
                self._survivors[name / entry] = content
            elif found is not None:
                self._survivors[name / entry] = None
                self._compute_survivors(found, path / entry, name / entry)

    # --- Content ------------------------------------------------------------------------------

    def _state(self, path: Path) -> "_FileState | _FolderState":
        state = self._states.get(_inode(path))
        if state is not None:
            return state
        return self._register(path, _FolderState() if path.is_dir() else _FileState(foreign=True))

    def _register(
        self, path: Path, state: "_FileState | _FolderState"
    ) -> "_FileState | _FolderState":
        # Kept open, so that the inode number of a deleted file is not reused.
        self._open_files.callback(os.close, os.open(path, os.O_RDONLY))
        self._states[_inode(path)] = state
        return state

    def _entries(self, folder: Path) -> dict[str, "_FileState | _FolderState"]:
        entries = {}
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # removed meanwhile by another thread
                entries[path.name] = self._state(path)
        return entries

    def open_file(self, path: Path, *, new: bool) -> _FileState:
        state = self._register(path, _FileState()) if new else self._state(path)
        assert isinstance(state, _FileState)
        return state

    def sync_file(self, file: _FileState) -> None:
        if not self._ignore_sync:
            file.sync()

    def sync_folder(self, path: Path) -> None:
        state = self._state(path)
        if isinstance(state, _FolderState) and not self._ignore_sync:
            state.synced = self._entries(path)

    def _fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        with self.lock:
            for path in (self.root, *self.root.rglob("*")):
                if _inode_if_present(path) == (status.st_dev, status.st_ino):
                    if not self.begin_operation():
                        return
                    if path.is_dir():
                        self.sync_folder(path)
                    else:
                        self._register(path, _FileState(path.read_bytes(), foreign=True))

    def begin_operation(self) -> bool:
        """Count an operation that is about to reach the disk; return False if the power is off."""
        if self.powered and self._countdown is not None:
            self._countdown -= 1
            if self._countdown <= 0:
                self.cut()
        return self.powered


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _inode_if_present(path: Path) -> tuple[int, int] | None:
    """Return the inode of a file; None if another thread has removed the file."""
    try:
        return _inode(path)
    except FileNotFoundError:
        return None


class _PowerVFS(apsw.VFS):
    """SQLite's default file system during one boot, which reports all changes to `disk`."""

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
            powered = self.begin_operation()
            super().xDelete(name, False)
            if syncdir and powered:
                self.disk.sync_folder(Path(name).parent)

    def excepthook(self, *_: object) -> bool:
        return True

    def begin_operation(self) -> bool:
        """Return True if an operation reaches the disk, False after a cut.

        Errors of `Disk.before_operation` are raised unchanged.
        """
        if self.disk.root != self.root or not self.disk.begin_operation():
            return False
        self.disk.before_operation()
        return True


class _PowerFile(apsw.VFSFile):
    def __init__(
        self, vfs: _PowerVFS, name: str | apsw.URIFilename, path: Path, flags: list[int]
    ) -> None:
        self.vfs = vfs
        self.folder = path.parent
        new = not path.exists()
        powered = not new or vfs.begin_operation()
        super().__init__("", name, flags)
        self.file = vfs.disk.open_file(path, new=new) if powered else _FileState()
        # SQLite syncs the folder with the first sync of a journal that may be new.
        self.syncs_folder = bool(flags[0] & _JOURNALS and flags[0] & apsw.SQLITE_OPEN_CREATE)

    def xWrite(self, data: bytes, offset: int) -> None:
        with self.vfs.disk.lock:
            if self.vfs.begin_operation():
                self.file.log.append((offset, bytes(data)))
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        with self.vfs.disk.lock:
            if self.vfs.begin_operation():
                self.file.log.append((newsize, None))
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        with self.vfs.disk.lock:
            if self.vfs.begin_operation():
                self.vfs.disk.sync_file(self.file)
                if self.syncs_folder:
                    self.vfs.disk.sync_folder(self.folder)
                    self.syncs_folder = False

    def excepthook(self, *_: object) -> bool:
        return True
