"""Conversations on disk: what a model has computed of them, to go on from later.

A file is worth having only as long as it saves work, and it is never believed: it says which
model, build and type of cache it is for, and carries a hash of all of itself. One that does not
fit, or was cut short or changed, is removed, and the prompt is computed again.

    magic, u32 length of the header, header (msgpack), state, BLAKE2b of all before it
"""

import contextlib
import hashlib
import os
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.storage.files import sync_folder, write_atomically

__all__ = ["KvStore", "StoredKv", "identity"]

MAGIC = b"prepkv1\n"
LENGTH = struct.Struct("<I")
DIGEST = 32
"""Bytes of the hash."""
SAMPLE = 1024 * 1024
"""Bytes at either end of a model's file that its identity is made from."""
SUFFIX = ".kv"


class StoredKv(Struct, frozen=True):
    """A conversation as it was parked."""

    tokens: list[int]
    state: bytes


class _Header(Struct, frozen=True):
    identity: str
    tokens: bytes
    """int32 each."""
    size: int
    """Bytes of the state."""


def identity(model: Path, *parts: str) -> str:
    """Names a model's file and all else that a state depends on.

    Of the file: its size, its time, and its first and last megabyte, which hold the description
    of the model and its last layers. Reading all of it would take longer than the loading does.
    """
    status = model.stat()
    digest = hashlib.blake2b(digest_size=DIGEST)
    with model.open("rb") as file:
        digest.update(file.read(SAMPLE))
        file.seek(max(0, status.st_size - SAMPLE))
        digest.update(file.read(SAMPLE))
    for part in (str(status.st_size), str(status.st_mtime_ns), *parts):
        digest.update(f"\0{part}".encode())
    return digest.hexdigest()


class KvStore:
    """The folder of parked conversations. Its files are named by hash and for its owner alone."""

    def __init__(self, folder: Path | None, identity: str, limit: int) -> None:
        """`limit` in bytes, over all files; without a folder nothing is kept."""
        self._folder = folder
        self._identity = identity
        self._limit = limit
        self._sizes: dict[str, int] = {}
        """Of each file, the longest unused first."""
        self._tokens: dict[str, array[int]] = {}
        """What is in a file, as far as it is known."""
        if folder is not None:
            with contextlib.suppress(OSError):
                self._open(folder)

    @property
    def is_open(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    @property
    def count(self) -> int:
        return len(self._sizes)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self._sizes.values())

    def save(self, conversation: str, tokens: Sequence[int], state: bytes) -> bool:
        """Keep a conversation in place of what was kept of it. False when the disk refuses, or
        the limit is smaller than it."""
        if self._folder is None or not conversation:
            return False
        path = self._path(conversation)
        packed = array("i", tokens)
        header = msgspec.msgpack.encode(_Header(self._identity, packed.tobytes(), len(state)))
        size = len(MAGIC) + LENGTH.size + len(header) + len(state) + DIGEST
        self._remove(path.name)
        if size > self._limit:
            return False
        self._prune(self._limit - size)
        digest = hashlib.blake2b(digest_size=DIGEST)
        parts = (MAGIC, LENGTH.pack(len(header)), header, state)
        for part in parts:
            digest.update(part)
        try:
            # Not durable: a file that a power loss has cut short fails its hash and is removed.
            write_atomically(path, (*parts, digest.digest()), mode=0o600, durable=False)
        except OSError:
            return False
        self._sizes[path.name] = size
        self._tokens[path.name] = packed
        return True

    def tokens(self, conversation: str) -> list[int]:
        """What a parked conversation begins with; nothing if it is not there. Not verified."""
        if self._folder is None or not conversation:
            return []
        path = self._path(conversation)
        if path.name not in self._sizes:
            return []
        if path.name not in self._tokens:
            try:
                with path.open("rb") as file:
                    begin = file.read(len(MAGIC) + LENGTH.size)
                    header, _ = self._header(begin + file.read(_length(begin)))
            except (OSError, ValueError, msgspec.MsgspecError):
                self.forget(conversation)
                return []
            self._tokens[path.name] = _unpacked(header.tokens)
        return self._tokens[path.name].tolist()

    def load(self, conversation: str) -> StoredKv | None:
        """A parked conversation, if it is there and whole and for this model. It stays there: it
        is right until something else is parked in its place."""
        if self._folder is None or not conversation:
            return None
        path = self._path(conversation)
        try:
            data = path.read_bytes()
            header, begin = self._header(data)
            end = begin + header.size
            if data[end:] != hashlib.blake2b(data[:end], digest_size=DIGEST).digest():
                raise ValueError("damaged")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError):
            self.forget(conversation)
            return None
        self._sizes[path.name] = self._sizes.pop(path.name, len(data))
        with contextlib.suppress(OSError):
            os.utime(path)
        return StoredKv(_unpacked(header.tokens).tolist(), data[begin:end])

    def forget(self, conversation: str) -> None:
        """Remove a conversation, in such a way that it does not come back after a power cut."""
        if self._folder is None or not conversation:
            return
        path = self._path(conversation)
        # Also one that is not known here: another process may have parked it.
        if path.exists():
            self._remove(path.name)
            with contextlib.suppress(OSError):
                sync_folder(self._folder)

    def _open(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.glob("*.new"):
            left.unlink(missing_ok=True)
        found = [(path.stat(), path.name) for path in folder.glob(f"*{SUFFIX}")]
        found.sort(key=lambda each: each[0].st_mtime_ns)
        self._sizes = {name: status.st_size for status, name in found}
        self._prune(self._limit)

    def _prune(self, limit: int) -> None:
        """Remove the longest unused until the rest is within `limit` bytes."""
        total = self.size
        for name, size in list(self._sizes.items()):
            if total <= limit:
                return
            self._remove(name)
            total -= size

    def _remove(self, name: str) -> None:
        assert self._folder is not None
        self._sizes.pop(name, None)
        self._tokens.pop(name, None)
        with contextlib.suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)

    def _header(self, data: bytes) -> tuple[_Header, int]:
        """The header, and where the state begins. Raises ValueError or msgspec.MsgspecError."""
        begin = len(MAGIC) + LENGTH.size
        length = _length(data)
        header = msgspec.msgpack.decode(data[begin : begin + length], type=_Header)
        if header.identity != self._identity:
            raise ValueError("for another model or build")
        return header, begin + length

    def _path(self, conversation: str) -> Path:
        assert self._folder is not None
        name = hashlib.sha256(conversation.encode()).hexdigest()
        return self._folder / f"{name}{SUFFIX}"


def _length(begin: bytes) -> int:
    """Of the header. Raises ValueError."""
    if len(begin) < len(MAGIC) + LENGTH.size or not begin.startswith(MAGIC):
        raise ValueError("not a parked conversation")
    return int(LENGTH.unpack_from(begin, len(MAGIC))[0])


def _unpacked(tokens: bytes) -> "array[int]":
    """Raises ValueError."""
    unpacked = array("i")
    unpacked.frombytes(tokens)
    return unpacked
