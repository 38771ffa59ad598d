"""A recording, from the key that starts it to the key that ends it."""

import asyncio
import enum
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress

from textual.message import Message

from prepcli.audio.level import rms
from prepcli.errors import PrepError, QueueFull, RecordingRefused
from prepcli.tui.messages import (
    LevelMeasured,
    RecordingBegan,
    RecordingDelivered,
    RecordingEnded,
)
from prepcli.tui.screens.server import RecordingLink, RoomLink
from prepserver.wire.protocol import BYTES_PER_SECOND, UserRecording

Blocks = AsyncIterator[bytes]
"""PCM16 little-endian, 16 kHz, mono, as the microphone hears it."""

MicrophoneFactory = Callable[[], AbstractAsyncContextManager[Blocks]]
"""Opens the microphone; raises PrepError when there is none."""

POST_ROLL = 0.3
"""Seconds still recorded after the key that ends it: people press it with the last syllable."""

STALL = 2.0
"""Seconds without a block after which the microphone counts as gone; blocks are of 40 ms."""

RECORDING_SECONDS = 2.0
"""At most one `user.recording` in so many seconds of audio."""

STALLED = "The microphone stopped. What was heard until then was sent."


class _Phase(enum.Enum):
    IDLE = enum.auto()
    OPENING = enum.auto()
    """The microphone is being opened."""
    HEARING = enum.auto()
    DELIVERING = enum.auto()
    """The last words are being recorded, or some of it has not arrived."""


class Recorder:
    """One recording at a time. `run` is a worker's; the other methods tell it what to do."""

    def __init__(
        self,
        microphone: MicrophoneFactory,
        post: Callable[[Message], object],
        *,
        stall: float | None = None,
    ) -> None:
        self._microphone = microphone
        self._post = post
        self._stall = STALL if stall is None else stall
        self._ends_at: float | None = None
        self._phase = _Phase.IDLE
        self._run = 0
        self.seconds = 0.0
        """Length of the recording so far."""

    @property
    def active(self) -> bool:
        """Whether the candidate is heard right now."""
        return self._phase is _Phase.HEARING

    @property
    def running(self) -> bool:
        """Whether a recording is under way, its delivery included; not one that is forgotten."""
        return self._phase is not _Phase.IDLE

    def finish(self) -> None:
        """End the recording, after a moment, and answer with it."""
        if self.active:
            self._phase = _Phase.DELIVERING
            self._ends_at = self.seconds + POST_ROLL

    def discard(self) -> None:
        """End the recording and forget it."""
        self._phase = _Phase.IDLE
        self._ends_at = self.seconds

    async def run(self, room: RoomLink) -> None:
        """Record until told to end, and wait until the server has it all.

        Posts RecordingBegan, LevelMeasured, RecordingEnded when the microphone is closed, and
        RecordingDelivered when nothing is left to be sent.
        """
        self._run += 1
        run = self._run
        self._ends_at = None
        self._phase = _Phase.OPENING
        self.seconds = 0.0
        try:
            recording = await self._record(room)
            if recording is not None:
                # The room reports a refusal as well.
                with suppress(RecordingRefused):
                    await recording.stop()
        finally:
            # One that was discarded may end after the next has begun.
            if run == self._run:
                self._phase = _Phase.IDLE
            self._post(RecordingDelivered())

    async def _record(self, room: RoomLink) -> RecordingLink | None:
        """With the microphone open; the recording, if it is one to be answered with.

        When the microphone goes away in the middle, what was said is sent: the candidate can
        correct the transcript, but cannot bring back a recording.
        """
        recording: RecordingLink | None = None
        reason = ""
        whole = False
        try:
            async with self._microphone() as blocks:
                recording = room.start_recording()
                self._phase = _Phase.HEARING
                self._post(RecordingBegan())
                await self._feed(blocks, recording, room)
            whole = True
        except TimeoutError:
            reason = STALLED
            whole = True
        except QueueFull as error:
            reason = str(error)
            whole = True
        except RecordingRefused:
            pass
        except PrepError as error:
            reason = str(error)
        finally:
            # A cancelled worker means that the screen was left: nobody said that this was all.
            keep = whole and self.running and self.seconds > 0
            if keep:
                self._phase = _Phase.DELIVERING
            elif recording is not None:
                recording.cancel()
            self._post(RecordingEnded(reason))
        return recording if keep else None

    async def _feed(self, blocks: Blocks, recording: RecordingLink, room: RoomLink) -> None:
        """Blocks until somebody ends the recording, or the microphone does.

        Raises TimeoutError when the microphone gives nothing any more.
        """
        announced = -RECORDING_SECONDS
        while self._ends_at is None or self.seconds < self._ends_at:
            async with asyncio.timeout(self._stall):
                block = await anext(blocks, b"")
            if not block:
                break
            recording.feed(block)
            self.seconds += len(block) / BYTES_PER_SECOND
            if self._ends_at is None:
                self._post(LevelMeasured(rms(block), self.seconds))
            if self.seconds - announced >= RECORDING_SECONDS:
                announced = self.seconds
                await room.send(UserRecording())
