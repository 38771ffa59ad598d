"""Unsent text on disk, so that it outlives the terminal and the process."""

import contextlib
import threading
from pathlib import Path
from urllib.parse import quote

import msgspec
from msgspec import Struct

from prepcli.files import write_atomically

__all__ = ["Draft", "DraftStore"]


class Draft(Struct, frozen=True, omit_defaults=True):
    """Text that the user has typed and the server has not confirmed."""

    text: str = ""
    """Text that has not been sent."""
    sent: str = ""
    """Answer that has been sent; it may have arrived or not."""
    fields: dict[str, str] = {}
    """Content of the form for a new interview, by the names of its fields."""

    def __bool__(self) -> bool:
        return bool(self.text.strip() or self.sent.strip() or any(self.fields.values()))


class DraftStore:
    """Drafts in a folder, one file for each name. Threads may share a store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._unsaved: dict[str, Draft] = {}
        """Drafts that could not be written."""

    def load(self, name: str) -> Draft:
        """Return the draft with this name, empty if there is none or its file is damaged. Blocks on
        the disk."""
        with self._lock, contextlib.suppress(OSError, msgspec.MsgspecError):
            if name not in self._unsaved:
                return msgspec.json.decode(self._file(name).read_bytes(), type=Draft)
        return self._unsaved.get(name, Draft())

    def save(self, name: str, draft: Draft) -> str:
        """Replace a draft on the disk; an empty draft is removed. Blocks on the disk.

        Return an empty string, or the reason why the draft exists only in memory.
        """
        with self._lock:
            self._unsaved.pop(name, None)
            try:
                if draft:
                    write_atomically(self._file(name), msgspec.json.encode(draft), mode=0o600)
                else:
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        self._file(name).unlink()
            except OSError as error:
                self._unsaved[name] = draft
                return error.strerror or str(error)
        return ""

    def _file(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')[:200]}.json"
