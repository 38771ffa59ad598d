"""Offloaded conversations: KV state on disk, to be restored instead of recomputed.

The files are a cache and are never trusted. Each file identifies the model, build, cache type and
use of flash attention for which it is valid, and ends with a hash of its content. When a file is
read and is truncated, damaged or for another model, the file is deleted and the prompt is computed
again. A file consists of:

    magic, u32 length of the header, header (msgpack), state, BLAKE2b hash of the preceding bytes
"""

import contextlib
import hashlib
import os
import shutil
import struct
from array import array
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.storage.files import sync_folder, write_atomically

__all__ = ["LEGACY_FOLDER", "KvStore", "StoredKv", "model_identity"]

LEGACY_FOLDER = "parked"
"""Name of the store's folder in earlier versions; the parent folder was the same."""
MAGIC = b"prepkv1\n"
HEADER_LENGTH = struct.Struct("<I")
DIGEST_BYTES = 32
SAMPLE_BYTES = 1024 * 1024
"""Number of bytes that are hashed at each end of a model file to identify the model."""
SUFFIX = ".kv"


class StoredKv(Struct, frozen=True):
    """Tokens and KV state of a conversation."""

    tokens: list[int]
    state: bytes


class _Header(Struct, frozen=True):
    identity: str
    tokens: bytes
    """Tokens of the conversation, packed as int32 values."""
    size: int
    """Size of the KV state in bytes."""


def model_identity(model: Path, *parts: str) -> str:
    """Return a digest of a model file and of `parts`, the other values on which KV states depend.

    The digest covers the file's size, its modification time, and its first and last MiB, which hold
    the metadata and the last layers. Hashing the whole file would take longer than loading the
    file.
    """
    status = model.stat()
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with model.open("rb") as file:
        digest.update(file.read(SAMPLE_BYTES))
        file.seek(max(0, status.st_size - SAMPLE_BYTES))
        digest.update(file.read(SAMPLE_BYTES))
    for part in (str(status.st_size), str(status.st_mtime_ns), *parts):
        digest.update(f"\0{part}".encode())
    return digest.hexdigest()


class KvStore:
    """Store of offloaded conversations, in files that only their owner can read.

    File names are hashes of conversation ids. Disk errors are not raised: after an error, the
    affected KV state is lost and has to be recomputed.
    """

    def __init__(self, folder: Path | None, identity: str, limit: int) -> None:
        """Open the folder, creating it if necessary. Without a folder, nothing is stored.

        `identity` is the result of `model_identity`; `limit` is the maximum total size of the files
        in bytes.
        """
        self._folder = folder
        self._identity = identity
        self._limit = limit
        self._sizes: dict[str, int] = {}
        """Size of each file in bytes, by name; the least recently used file comes first."""
        self._tokens: dict[str, array[int]] = {}
        """Tokens by file name, for each file that this process has written or whose header it has
        read."""
        if folder is not None:
            with contextlib.suppress(OSError):
                _migrate_legacy_folder(folder)
            with contextlib.suppress(OSError):
                self._open(folder)

    @property
    def enabled(self) -> bool:
        """True if the store has a folder."""
        return self._folder is not None

    @property
    def count(self) -> int:
        """Number of stored conversations."""
        return len(self._sizes)

    @property
    def size(self) -> int:
        """Total size of the stored files in bytes."""
        return sum(self._sizes.values())

    def save(self, conversation: str, tokens: Sequence[int], state: bytes) -> bool:
        """Store a conversation, replacing its earlier state and evicting other conversations if
        necessary.

        Return False, with nothing stored, if the store has no folder, `conversation` is empty, the
        file would exceed the limit, or the file cannot be written.
        """
        if self._folder is None or not conversation:
            return False
        path = self._path(conversation)
        packed = array("i", tokens)
        header = msgspec.msgpack.encode(_Header(self._identity, packed.tobytes(), len(state)))
        size = len(MAGIC) + HEADER_LENGTH.size + len(header) + len(state) + DIGEST_BYTES
        self._remove(path.name)
        if size > self._limit:
            return False
        self._evict_until(self._limit - size)
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        parts = (MAGIC, HEADER_LENGTH.pack(len(header)), header, state)
        for part in parts:
            digest.update(part)
        try:
            # Not durable: the hash detects a file that a power loss has truncated.
            write_atomically(path, (*parts, digest.digest()), mode=0o600, durable=False)
        except OSError:
            return False
        self._sizes[path.name] = size
        self._tokens[path.name] = packed
        return True

    def stored_tokens(self, conversation: str) -> list[int]:
        """Return the tokens of a stored conversation, or an empty list if the conversation is not
        stored.

        Only the file's header is read, so the file's hash is not verified. A file with an invalid
        header is deleted.
        """
        if self._folder is None or not conversation:
            return []
        path = self._path(conversation)
        if path.name not in self._sizes:
            return []
        if path.name not in self._tokens:
            try:
                with path.open("rb") as file:
                    preamble = file.read(len(MAGIC) + HEADER_LENGTH.size)
                    header, _ = self._decode_header(preamble + file.read(_header_length(preamble)))
            except (OSError, ValueError, msgspec.MsgspecError):
                self.delete(conversation)
                return []
            self._tokens[path.name] = _unpack_tokens(header.tokens)
        return self._tokens[path.name].tolist()

    def load(self, conversation: str) -> StoredKv | None:
        """Return a stored conversation, or None if the file is missing, unreadable, damaged or from
        another model or build.

        A file that cannot be used is deleted. A valid file is kept, so that the conversation can be
        restored more than once.
        """
        if self._folder is None or not conversation:
            return None
        path = self._path(conversation)
        try:
            data = path.read_bytes()
            header, begin = self._decode_header(data)
            end = begin + header.size
            if data[end:] != hashlib.blake2b(data[:end], digest_size=DIGEST_BYTES).digest():
                raise ValueError("hash mismatch")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.MsgspecError):
            self.delete(conversation)
            return None
        self._sizes[path.name] = self._sizes.pop(path.name, len(data))
        with contextlib.suppress(OSError):
            os.utime(path)
        return StoredKv(_unpack_tokens(header.tokens).tolist(), data[begin:end])

    def delete(self, conversation: str) -> None:
        """Delete a stored conversation durably, so that a power loss does not bring the file
        back."""
        if self._folder is None or not conversation:
            return
        path = self._path(conversation)
        # Check the disk rather than the index: another process may have saved the file.
        if path.exists():
            self._remove(path.name)
            with contextlib.suppress(OSError):
                sync_folder(self._folder)

    def _open(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for temporary in folder.glob("*.new"):
            temporary.unlink(missing_ok=True)
        found = [(path.stat(), path.name) for path in folder.glob(f"*{SUFFIX}")]
        found.sort(key=lambda each: each[0].st_mtime_ns)
        self._sizes = {name: status.st_size for status, name in found}
        self._evict_until(self._limit)

    def _evict_until(self, limit: int) -> None:
        """Delete the least recently used files until the remaining files fit into `limit` bytes."""
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

    def _decode_header(self, data: bytes) -> tuple[_Header, int]:
        """Return the header and the offset, in bytes, at which the state begins.

        Raises msgspec.MsgspecError if the header is damaged, and ValueError if `data` is not a
        stored conversation or belongs to another model or build.
        """
        begin = len(MAGIC) + HEADER_LENGTH.size
        length = _header_length(data)
        header = msgspec.msgpack.decode(data[begin : begin + length], type=_Header)
        if header.identity != self._identity:
            raise ValueError("the conversation was stored for another model or build")
        return header, begin + length

    def _path(self, conversation: str) -> Path:
        assert self._folder is not None
        name = hashlib.sha256(conversation.encode()).hexdigest()
        return self._folder / f"{name}{SUFFIX}"


def _migrate_legacy_folder(folder: Path) -> None:
    """Rename the folder of an earlier version, so that no private text is left behind.

    If both folders exist, as after a downgrade, the older version's folder is deleted: its files
    are only a cache. Raises OSError.
    """
    legacy = folder.with_name(LEGACY_FOLDER)
    if legacy == folder or not legacy.is_dir():
        return
    if folder.exists():
        shutil.rmtree(legacy)
    else:
        legacy.rename(folder)


def _header_length(preamble: bytes) -> int:
    """Return the length of the header in bytes.

    Raises ValueError if `preamble` is too short or does not begin with MAGIC.
    """
    if len(preamble) < len(MAGIC) + HEADER_LENGTH.size or not preamble.startswith(MAGIC):
        raise ValueError("the file is not a stored conversation")
    return int(HEADER_LENGTH.unpack_from(preamble, len(MAGIC))[0])


def _unpack_tokens(packed: bytes) -> "array[int]":
    """Decode packed int32 tokens. Raises ValueError if the length is not a multiple of 4 bytes."""
    tokens = array("i")
    tokens.frombytes(packed)
    return tokens
