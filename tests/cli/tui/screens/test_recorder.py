"""A recording from key to key, without a screen."""

import asyncio

from textual.message import Message

from prepcli.errors import MicrophoneUnavailable, PrepError, QueueFull, RecordingRefused
from prepcli.tui.messages import (
    LevelMeasured,
    RecordingBegan,
    RecordingDelivered,
    RecordingEnded,
)
from prepcli.tui.screens.recorder import STALLED, Recorder
from prepserver.wire.protocol import BYTES_PER_SECOND, UserRecording
from tests.cli.tui.screens.support import Ears, FakeRecording, FakeRoom

BLOCK = b"\x00\x10" * (BYTES_PER_SECOND // 2 // 10)
"""A tenth of a second."""


class Deaf(FakeRecording):
    """Takes one block and then no more."""

    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self._error = error

    def feed(self, pcm: bytes) -> None:
        if self.pcm:
            raise self._error
        super().feed(pcm)


class DeafRoom(FakeRoom):
    def __init__(self, error: PrepError) -> None:
        super().__init__()
        self._error = error

    def start_recording(self) -> FakeRecording:
        self.recordings.append(Deaf(self._error))
        return self.recordings[-1]


class Posted:
    """What a recorder posts."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._more = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._more.set()

    async def heard(self, seconds: float, recordings: int = 1) -> None:
        """Wait until so much of the recording is heard."""
        while not self._has(seconds, recordings):
            self._more.clear()
            await self._more.wait()

    def _has(self, seconds: float, recordings: int) -> bool:
        begun = [m for m in self.messages if isinstance(m, RecordingBegan)]
        if len(begun) < recordings:
            return False
        since = self.messages[self.messages.index(begun[-1]) :]
        return any(isinstance(m, LevelMeasured) and m.seconds >= seconds for m in since)

    @property
    def reasons(self) -> list[str]:
        """Why recordings ended, where it was not the candidate's doing."""
        return [m.reason for m in self.messages if isinstance(m, RecordingEnded)]


def test_last_syllable_is_kept() -> None:
    """After the key that ends it a recording goes on for 0.3 s, and not longer."""

    async def run() -> None:
        room, ears, posted = FakeRoom(), Ears(BLOCK, BLOCK), Posted()
        recorder = Recorder(ears, posted)
        task = asyncio.create_task(recorder.run(room))
        await posted.heard(0.2)
        recorder.finish()
        assert not recorder.active
        assert recorder.running
        ears.say(*[BLOCK] * 9)
        await task
        assert room.recordings[0].pcm == BLOCK * 5
        assert room.recordings[0].ended == "stopped"
        assert not recorder.running
        kinds = [type(message) for message in posted.messages]
        assert kinds[0] is RecordingBegan
        assert kinds[-2:] == [RecordingEnded, RecordingDelivered]

    asyncio.run(run())


def test_room_hears_of_it_now_and_then() -> None:
    """The room is told of the recording every two seconds of it, so that the hint waits."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        recorder = Recorder(Ears(*[BLOCK] * 45), posted)
        task = asyncio.create_task(recorder.run(room))
        await posted.heard(4.45)
        assert room.sent == [UserRecording()] * 3
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())


def test_microphone_that_falls_silent() -> None:
    """When no more blocks come, what was heard is sent, and the person is told."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        await Recorder(Ears(BLOCK), posted, stall=0.01).run(room)
        assert room.recordings[0].ended == "stopped"
        assert posted.reasons == [STALLED]

    asyncio.run(run())


def test_nothing_heard_is_nothing_sent() -> None:
    """A microphone that gives nothing at all makes no empty answer."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        await Recorder(Ears(), posted, stall=0.01).run(room)
        assert room.recordings[0].ended == "cancelled"

    asyncio.run(run())


def test_queue_that_is_full_ends_the_recording() -> None:
    """Offline for too long, the recording ends with what there is, which is still delivered."""

    async def run() -> None:
        room, posted = DeafRoom(QueueFull("Too much waits.")), Posted()
        await Recorder(Ears(BLOCK, BLOCK), posted).run(room)
        assert room.recordings[0].ended == "stopped"
        assert posted.reasons == ["Too much waits."]

    asyncio.run(run())


def test_refused_recording_is_reported_once() -> None:
    """The room reports what the server would not have, so the recorder does not."""

    async def run() -> None:
        room, posted = DeafRoom(RecordingRefused("Not that.")), Posted()
        await Recorder(Ears(BLOCK, BLOCK), posted).run(room)
        assert room.recordings[0].ended == "cancelled"
        assert posted.reasons == [""]

    asyncio.run(run())


def test_closed_microphone() -> None:
    """A microphone that cannot be opened leaves a reason and no recording."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        await Recorder(Ears(error=MicrophoneUnavailable("None.")), posted).run(room)
        assert room.recordings == []
        assert posted.reasons == ["None."]

    asyncio.run(run())


def test_discarded_recording_makes_way_for_the_next() -> None:
    """After a discard the next recording can begin before the microphone has noticed."""

    async def run() -> None:
        room, posted = FakeRoom(), Posted()
        recorder = Recorder(Ears(BLOCK), posted)
        first = asyncio.create_task(recorder.run(room))
        await posted.heard(0.1)
        recorder.discard()
        assert not recorder.running
        first.cancel()
        second = asyncio.create_task(recorder.run(room))
        await asyncio.wait([first])
        await posted.heard(0.1, recordings=2)
        assert room.recordings[0].ended == "cancelled"
        assert recorder.active
        second.cancel()
        await asyncio.wait([second])
        assert room.recordings[1].ended == "cancelled"

    asyncio.run(run())
