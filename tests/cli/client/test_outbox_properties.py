"""Whatever happens on the way, what is put into an outbox arrives once and in order."""

import asyncio
from collections import deque

from hypothesis import example, given, settings
from hypothesis import strategies as st

from prepcli.client.outbox import Outbox
from prepcli.client.recording import FRAME_BYTES, Recording
from prepserver.wire.codec import decode_client, unpack_frame
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    AudioStart,
    AudioStop,
    ServerMessage,
    UserMessage,
)

STORED_TOGETHER = 3
"""Frames that the server below acknowledges at once."""


class Server:
    """Takes messages in order and answers them; what it has taken, it keeps."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.frames: dict[str, list[bytes]] = {}
        self._waiting: list[bytes] = []
        self._open = ""

    def take(self, data: str | bytes) -> ServerMessage:
        if isinstance(data, bytes):
            return self._take_frame(*unpack_frame(data))
        match decode_client(data):
            case AudioStart(id=id):
                self._open, self._waiting = id, []
                stored = self.frames.setdefault(id, [])
                return (
                    Accepted(id=id) if id in self.taken else AudioAck(id=id, frame=len(stored) - 1)
                )
            case AudioStop(id=id, frames=frames):
                if id not in self.taken:
                    self.frames[id] += self._waiting
                    assert len(self.frames[id]) == frames
                    self.taken.append(id)
                return Accepted(id=id)
            case UserMessage(id=id):
                if id not in self.taken:
                    self.taken.append(id)
                return Accepted(id=id)
            case other:
                raise AssertionError(f"not expected here: {other}")

    def _take_frame(self, number: int, pcm: bytes) -> AudioAck:
        stored = self.frames[self._open]
        assert number == len(stored) + len(self._waiting), "a frame is missing or comes again"
        self._waiting.append(pcm)
        if len(self._waiting) == STORED_TOGETHER:
            stored += self._waiting
            self._waiting = []
        return AudioAck(id=self._open, frame=len(stored) - 1)


class Line:
    """A connection that can be cut, with what is on its way in both directions."""

    def __init__(self, outbox: Outbox, server: Server) -> None:
        self._outbox = outbox
        self._server = server
        self._up: deque[str | bytes] = deque()
        self._down: deque[ServerMessage] = deque()

    def send(self) -> bool:
        if (data := self._outbox.next_to_send()) is not None:
            self._up.append(data)
        return data is not None

    def arrive(self) -> bool:
        if not self._up:
            return False
        self._down.append(self._server.take(self._up.popleft()))
        return True

    def answer(self) -> bool:
        if not self._down:
            return False
        match self._down.popleft():
            case Accepted(id=id):
                self._outbox.mark_accepted(id)
            case AudioAck(id=id, frame=frame):
                self._outbox.acknowledge_frames(id, frame)
        return True

    def cut(self) -> bool:
        self._up.clear()
        self._down.clear()
        self._outbox.start_connection()
        return False


STEPS = ("put", "put", "speak", "stop", *("send", "arrive", "answer") * 4, "cut")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(STEPS), max_size=80))
@example(["speak", "stop", "speak", "stop", "put"])
def test_everything_arrives_once_and_in_order(steps: list[str]) -> None:
    """Any interleaving of messages, recordings, deliveries, answers and cuts loses nothing,
    doubles nothing, and keeps the order, but for what is said while a recording goes on: that may
    arrive before its end or after it."""

    async def play() -> None:
        outbox, server = Outbox(), Server()
        line = Line(outbox, server)
        before: dict[str, set[str]] = {}
        """For each entry, those that must have arrived before it."""
        ended: set[str] = set()
        spoken: dict[str, list[bytes]] = {}
        recording: Recording | None = None
        stops: list[asyncio.Task[None]] = []

        async def stop() -> None:
            nonlocal recording
            if recording is not None:
                ended.add(recording.id)
                stops.append(asyncio.create_task(recording.stop()))
                await asyncio.sleep(0)
                recording = None

        for number, step in enumerate(steps):
            match step:
                case "put":
                    before[f"m{number}"] = set(ended)
                    ended.add(f"m{number}")
                    outbox.queue_message(UserMessage(text="x"), f"m{number}")
                case "speak":
                    if recording is None:
                        recording = Recording(f"r{number}", lambda: None)
                        spoken[recording.id] = []
                        before[recording.id] = set(ended)
                        outbox.queue_recording(recording)
                    frame = number.to_bytes(2, "big") * (FRAME_BYTES // 2)
                    recording.feed(frame)
                    spoken[recording.id].append(frame)
                case "stop":
                    await stop()
                case other:
                    getattr(line, other)()
        await stop()
        line.cut()
        while line.send() or line.arrive() or line.answer():
            pass

        assert sorted(server.taken) == sorted(before)
        for place, id in enumerate(server.taken):
            assert before[id] <= set(server.taken[:place])
        assert server.frames == spoken
        assert len(outbox) == 0
        await asyncio.gather(*stops)

    asyncio.run(play())
