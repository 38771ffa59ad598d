"""Order of keys: each key takes its full effect before the next one is handled.

Textual handles a key in several steps: the focused widget, its parents, then the bindings, which
may move the focus or open a screen. A key typed in between would reach the old field or screen.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator

from textual import events
from textual.app import App
from textual.driver import Driver
from textual.message_pump import MessagePump
from textual.widgets import Input, TextArea

URGENT = frozenset({"ctrl+c", "ctrl+q", "f10"})
"""Keys that are never held back."""

STEP_SECONDS = 2.0
"""Seconds to wait for one step of a key; a widget that is closed never reports its step."""


class TypeAheadApp(App[int]):
    """App that holds back keys and pasted text while an earlier key is taking effect."""

    def __init__(self, driver_class: type[Driver] | None = None) -> None:
        super().__init__(driver_class=driver_class)
        self._held: deque[events.Key | events.Paste] = deque()
        self._delivering = False
        self._delivery: asyncio.Task[None] | None = None
        self._holds = 0
        self._released = asyncio.Event()
        self._released.set()

    @contextlib.contextmanager
    def hold_keys(self) -> Iterator[None]:
        """Hold back keys during the `with` block. If it raises an error, drop them: they were meant
        for a screen that does not open."""
        self._holds += 1
        self._released.clear()
        try:
            yield
        except BaseException:
            self._held.clear()
            raise
        finally:
            self._holds -= 1
            if not self._holds:
                self._released.set()

    async def on_event(self, event: events.Event) -> None:
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded or _urgent(event):
            await super().on_event(event)
        elif self._delivering or self._holds:
            self._held.append(event)
            self._start_delivery(None)
        else:
            target = self.focused or self.screen
            await super().on_event(event)
            self._start_delivery((event, target))

    def _start_delivery(self, last: "tuple[events.Event, MessagePump] | None") -> None:
        if not self._delivering:
            self._delivering = True
            self._delivery = asyncio.create_task(self._deliver(last))

    async def _deliver(self, last: "tuple[events.Event, MessagePump] | None") -> None:
        """Wait for the effect of the last key, then handle the keys that are held back."""
        try:
            while True:
                if last is not None:
                    await self._wait_for_effect(*last)
                if self._holds:
                    await self._released.wait()
                    await self._wait_for_screen_change()
                if not self._held:
                    return
                event = self._held.popleft()
                last = (event, self.focused or self.screen)
                await super().on_event(event)
        finally:
            self._delivering = False

    async def _wait_for_effect(self, event: events.Event, target: MessagePump) -> None:
        pump: MessagePump | None = target
        while pump is not None:
            await _wait_for_queue(pump)
            if isinstance(pump, Input | TextArea) and _is_text(event):
                return  # the text field has used the key
            pump = pump._parent
        await self._wait_for_screen_change()

    async def _wait_for_screen_change(self) -> None:
        """Wait until a screen that a key has opened is mounted and has the focus."""
        await _wait_for_queue(self)
        await _wait_for_queue(self.screen)
        await _wait_for_queue(self)


def _is_text(event: events.Event) -> bool:
    return isinstance(event, events.Paste) or (isinstance(event, events.Key) and event.is_printable)


def _urgent(event: events.Event) -> bool:
    return isinstance(event, events.Key) and event.key in URGENT


async def _wait_for_queue(pump: MessagePump) -> None:
    """Wait until the pump has handled the messages that are queued now."""
    handled = asyncio.Event()
    with contextlib.suppress(TimeoutError):
        if pump.call_later(handled.set):
            async with asyncio.timeout(STEP_SECONDS):
                await handled.wait()
