"""Saving of one draft while the user types."""

import asyncio
from collections.abc import Callable
from typing import Any

from textual.screen import Screen
from textual.timer import Timer

from prepcli.drafts import Draft, DraftStore

__all__ = ["DraftSaver"]

SAVE_SECONDS = 0.5
"""Seconds from a change until the draft is on the disk; `kill -9` loses what is younger."""


class DraftSaver:
    """Saver of the draft with one name. A thread writes the file, half a second after a change."""

    def __init__(self, screen: Screen[Any], store: DraftStore, name: str) -> None:
        """`screen` runs the timer, and shows a warning once if the draft cannot be written."""
        self._screen = screen
        self._store = store
        self._name = name
        self._timer: Timer | None = None
        self.problem = ""
        """Reason why the draft is not on the disk; empty if it is."""

    def load(self) -> Draft:
        return self._store.load(self._name)

    def changed(self, draft: Callable[[], Draft]) -> None:
        """Write the draft soon. `draft` returns its content at the time of the write."""
        if self._timer is None:
            self._timer = self._screen.set_timer(SAVE_SECONDS, lambda: self._save(draft))

    def finish(self, draft: Draft) -> None:
        """Write the draft now, when the screen closes."""
        if self._timer is not None:
            self._timer.stop()
        self.problem = self._store.save(self._name, draft)

    async def _save(self, draft: Callable[[], Draft]) -> None:
        self._timer = None
        before = self.problem
        self.problem = await asyncio.to_thread(self._store.save, self._name, draft())
        if self.problem and not before:
            self._screen.notify(
                f"Your unsent text cannot be saved: {self.problem}. Send it before you quit.",
                severity="warning",
                timeout=8,
                markup=False,
            )
