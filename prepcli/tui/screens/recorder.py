"""The recorder, which captures a spoken answer and sends it to the room."""

import asyncio
import enum
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from textual.message import Message

from prepcli.audio.level import rms
from prepcli.errors import PrepError, QueueFull, RecordingRefused
from prepcli.tui.links import RecordingLink, RoomLink
from prepcli.tui.messages import (
    LevelMeasured,
    MicrophoneOpening,
    RecordingDelivered,
    RecordingEnded,
    RecordingSilent,
    RecordingStarted,
)
from prepserver.wire.client_messages import UserRecording
from prepserver.wire.protocol import BYTES_PER_SECOND

Blocks = AsyncIterator[bytes]
"""Blocks from the microphone: PCM16 little-endian, 16 kHz, mono."""

MicrophoneFactory = Callable[[], AbstractAsyncContextManager[Blocks]]
"""Function that returns a context manager for the open microphone. Entering the context raises
PrepError if the microphone cannot be opened."""

POST_ROLL = 0.3
"""Seconds of audio recorded after the stop key, which people press during the last syllable."""

STALL = 2.0
"""Seconds without a block after which the microphone counts as lost; a block is 40 ms."""

RECORDING_SECONDS = 2.0
"""Seconds of audio between two `user.recording` messages."""

SILENT_SECONDS = 3.0
"""Seconds of digital silence after which the candidate is warned: a real room has some noise."""

STALLED = (
    "The microphone has stopped, which ended the recording. Audio recorded until then is being "
    "sent. Check the microphone."
)

NO_AUDIO = (
    "The microphone delivers no audio. Reconnect it, select another input in the system's "
    "settings, or type your answer."
)


class _Phase(enum.Enum):
    IDLE = enum.auto()
    OPENING = enum.auto()
    """Phase in which the microphone is being opened."""
    RECORDING = enum.auto()
    DELIVERING = enum.auto()
    """Phase in which the post-roll is being recorded or audio is still being sent."""


class Recorder:
    """Recorder of one answer at a time. A worker awaits `record`; `finish` and `discard` end the
    recording."""

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
        self._generation = 0
        self._task: asyncio.Task[Any] | None = None
        self.seconds = 0.0
        """Duration of the recording so far, in seconds."""

    @property
    def opening(self) -> bool:
        """True while the microphone is being opened."""
        return self._phase is _Phase.OPENING

    @property
    def active(self) -> bool:
        """True while the candidate is being recorded."""
        return self._phase is _Phase.RECORDING

    @property
    def running(self) -> bool:
        """True from opening the microphone until the recording is sent or discarded."""
        return self._phase is not _Phase.IDLE

    def finish(self) -> None:
        """Stop recording after the post-roll and send the answer."""
        if self.active:
            self._phase = _Phase.DELIVERING
            self._ends_at = self.seconds + POST_ROLL

    def discard(self) -> None:
        """Stop opening the microphone or recording, and discard the audio."""
        if self.opening and self._task is not None:
            self._task.cancel()
        self._phase = _Phase.IDLE
        self._ends_at = self.seconds

    async def record(self, room: RoomLink) -> None:
        """Record until stopped, and wait until the server has stored the recording.

        Posts MicrophoneOpening at the start, RecordingStarted when the microphone is open,
        LevelMeasured for each block before the post-roll, RecordingSilent if the first seconds are
        silent, RecordingEnded when the microphone is closed, and RecordingDelivered at the end,
        whatever the outcome.
        """
        self._task = asyncio.current_task()
        self._generation += 1
        generation = self._generation
        self._ends_at = None
        self._phase = _Phase.OPENING
        self.seconds = 0.0
        self._post(MicrophoneOpening())
        try:
            recording = await self._capture(room)
            if recording is not None:
                # The room reports the rejection as well.
                with suppress(RecordingRefused):
                    await recording.stop()
        finally:
            # A discarded recording may end after the next one has started.
            if generation == self._generation:
                self._phase = _Phase.IDLE
            self._post(RecordingDelivered())

    async def _capture(self, room: RoomLink) -> RecordingLink | None:
        """Capture audio until stopped. Return the recording to deliver, or None if there is nothing
        to deliver.

        If the microphone is lost, the audio captured so far is delivered: the candidate can correct
        a transcript, but cannot recover a recording.
        """
        recording: RecordingLink | None = None
        reason = ""
        whole = False
        try:
            async with self._microphone() as blocks:
                recording = room.start_recording()
                self._phase = _Phase.RECORDING
                self._post(RecordingStarted())
                if not await self._forward_blocks(blocks, recording, room):
                    reason = STALLED if self.seconds else NO_AUDIO
            whole = True
        except QueueFull as error:
            reason = str(error)
            whole = True
        except RecordingRefused:
            pass
        except PrepError as error:
            reason = str(error)
        finally:
            # A cancelled worker means that the screen was closed before the answer was complete.
            keep = whole and self.running and self.seconds > 0
            if keep:
                self._phase = _Phase.DELIVERING
            elif recording is not None:
                recording.cancel()
            self._post(RecordingEnded(reason))
        return recording if keep else None

    async def _forward_blocks(
        self, blocks: Blocks, recording: RecordingLink, room: RoomLink
    ) -> bool:
        """Forward blocks from the microphone to the room until the recording ends. Return False if
        the microphone has stopped first."""
        announced = -RECORDING_SECONDS
        silent = True
        while self._ends_at is None or self.seconds < self._ends_at:
            block = b""
            with suppress(TimeoutError):
                async with asyncio.timeout(self._stall):
                    block = await anext(blocks, b"")
            if not block:
                return self._ends_at is not None
            recording.feed(block)
            self.seconds += len(block) / BYTES_PER_SECOND
            silent = silent and not any(block)
            if silent and self.seconds >= SILENT_SECONDS:
                silent = False  # warn once
                self._post(RecordingSilent())
            if self._ends_at is None:
                self._post(LevelMeasured(rms(block), self.seconds))
            if self.seconds - announced >= RECORDING_SECONDS:
                announced = self.seconds
                await room.send(UserRecording())
        return True
