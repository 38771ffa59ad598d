"""Recorder without a screen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.message import Message

from prepcli.errors import MicrophoneUnavailable, PrepError, QueueFull, RecordingRefused
from prepcli.tui.messages import (
    LevelMeasured,
    MicrophoneOpening,
    RecordingDelivered,
    RecordingEnded,
    RecordingSilent,
    RecordingStarted,
)
from prepcli.tui.screens.recorder import NO_AUDIO, STALLED, Recorder
from prepserver.wire.client_messages import UserRecording
from prepserver.wire.protocol import BYTES_PER_SECOND
from tests.cli.tui.screens.support import FakeMicrophone, FakeRecording, FakeRoom

BLOCK = b"\x00\x10" * (BYTES_PER_SECOND // 2 // 10)
"""Audio block of a tenth of a second."""


class RejectingRecording(FakeRecording):
    """Recording that accepts one block and raises an error for each later block."""

    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self._error = error

    def feed(self, pcm: bytes) -> None:
        if self.pcm:
            raise self._error
        super().feed(pcm)


class RejectingRoom(FakeRoom):
    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self._error = error

    def start_recording(self) -> FakeRecording:
        self.recordings.append(RejectingRecording(self._error))
        return self.recordings[-1]


class Posted:
    """Callable that records the messages that a recorder posts."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._more = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._more.set()

    async def measured(self, seconds: float, recordings: int = 1) -> None:
        """Wait until at least `recordings` recordings have started, and `seconds` of the last one
        have been measured."""
        while not self._has(seconds, recordings):
            self._more.clear()
            await self._more.wait()

    def _has(self, seconds: float, recordings: int) -> bool:
        started = [m for m in self.messages if isinstance(m, RecordingStarted)]
        if len(started) < recordings:
            return False
        since = self.messages[self.messages.index(started[-1]) :]
        return any(isinstance(m, LevelMeasured) and m.seconds >= seconds for m in since)

    @property
    def reasons(self) -> list[str]:
        """Reasons that the recorder has given for the ends of recordings, in order."""
        return [m.reason for m in self.messages if isinstance(m, RecordingEnded)]


def test_last_syllable_is_kept() -> None:
    """After a call to `finish`, recording continues for exactly 0.3 s of audio."""

    async def run() -> None:
        room, microphone, posted = FakeRoom(), FakeMicrophone(BLOCK, BLOCK), Posted()
        recorder = Recorder(microphone, posted)
        task = asyncio.create_task(recorder.record(room))
        await posted.measured(0.2)
        recorder.finish()
        assert not recorder.active
        assert recorder.running
        microphone.add_blocks(*[BLOCK] * 9)
        await task
        assert room.recordings[0].pcm == BLOCK * 5
        assert room.recordings[0].ended == "stopped"
        assert not recorder.running
        kinds = [type(message) for message in posted.messages]
        assert kinds[:2] == [MicrophoneOpening, RecordingStarted]
        assert kinds[-2:] == [RecordingEnded, RecordingDelivered]

    asyncio.run(run())


def test_recording_is_announced_every_two_seconds() -> None:
    """The room is notified at the start of a recording and after every two seconds of audio."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        recorder = Recorder(FakeMicrophone(*[BLOCK] * 45), posted)
        task = asyncio.create_task(recorder.record(room))
        await posted.measured(4.45)
        assert room.sent == [UserRecording()] * 3
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())


def test_stalled_microphone() -> None:
    """If the microphone stops delivering blocks, the recorded audio is sent and the reason is
    reported."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        await Recorder(FakeMicrophone(BLOCK), posted, stall=0.01).record(room)
        assert room.recordings[0].ended == "stopped"
        assert posted.reasons == [STALLED]

    asyncio.run(run())


def test_empty_recording_is_not_sent() -> None:
    """A recording without audio is cancelled instead of being sent as an empty answer, and the
    candidate learns that the microphone delivers nothing."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        await Recorder(FakeMicrophone(), posted, stall=0.01).record(room)
        assert room.recordings[0].ended == "cancelled"
        assert posted.reasons == [NO_AUDIO]

    asyncio.run(run())


@pytest.mark.parametrize(("blocks", "reason"), [([], NO_AUDIO), ([BLOCK, BLOCK], STALLED)])
def test_disconnected_microphone(blocks: list[bytes], reason: str) -> None:
    """If the microphone disappears, the recorded audio is sent, and the reason is reported."""

    @asynccontextmanager
    async def microphone() -> AsyncIterator[AsyncIterator[bytes]]:
        async def audio() -> AsyncIterator[bytes]:
            for block in blocks:
                yield block

        yield audio()

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        await Recorder(microphone, posted).record(room)
        assert room.recordings[0].pcm == b"".join(blocks)
        assert room.recordings[0].ended == ("stopped" if blocks else "cancelled")
        assert posted.reasons == [reason]

    asyncio.run(run())


@pytest.mark.parametrize(("quiet", "warnings"), [(bytes(len(BLOCK)), 1), (BLOCK, 0)])
def test_silence_is_reported_once(quiet: bytes, warnings: int) -> None:
    """Three seconds of digital silence at the start, as of a microphone that prep may not use, are
    reported once, and recording continues."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        recorder = Recorder(FakeMicrophone(*[quiet] * 70, BLOCK), posted)
        task = asyncio.create_task(recorder.record(room))
        await posted.measured(7.05)
        silent = [m for m in posted.messages if isinstance(m, RecordingSilent)]
        assert len(silent) == warnings
        assert recorder.active
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())


def test_full_queue_ends_the_recording() -> None:
    """If the outbox is full, the recording ends, the reason is reported and the audio so far is
    sent."""

    async def run() -> None:
        room, posted = RejectingRoom(QueueFull("Too much waits.")), Posted()
        await Recorder(FakeMicrophone(BLOCK, BLOCK), posted).record(room)
        assert room.recordings[0].ended == "stopped"
        assert posted.reasons == ["Too much waits."]

    asyncio.run(run())


def test_rejected_recording_is_reported_once() -> None:
    """A rejected recording ends without a reason from the recorder, because the room reports the
    rejection."""

    async def run() -> None:
        room, posted = RejectingRoom(RecordingRefused("Not that.")), Posted()
        await Recorder(FakeMicrophone(BLOCK, BLOCK), posted).record(room)
        assert room.recordings[0].ended == "cancelled"
        assert posted.reasons == [""]

    asyncio.run(run())


def test_unavailable_microphone() -> None:
    """If the microphone cannot be opened, the reason is reported and no recording starts."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        await Recorder(FakeMicrophone(error=MicrophoneUnavailable("None.")), posted).record(room)
        assert room.recordings == []
        assert posted.reasons == ["None."]

    asyncio.run(run())


def test_discarded_recording_makes_way_for_the_next() -> None:
    """Another recording can start before a discarded recording has ended."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        recorder = Recorder(FakeMicrophone(BLOCK), posted)
        first = asyncio.create_task(recorder.record(room))
        await posted.measured(0.1)
        recorder.discard()
        assert not recorder.running
        first.cancel()
        second = asyncio.create_task(recorder.record(room))
        await asyncio.wait([first])
        await posted.measured(0.1, recordings=2)
        assert room.recordings[0].ended == "cancelled"
        assert recorder.active
        second.cancel()
        await asyncio.wait([second])
        assert room.recordings[1].ended == "cancelled"

    asyncio.run(run())
