"""Property tests: an outbox delivers everything once and in order despite lost connections."""

import asyncio
from collections import deque

from hypothesis import example, given, settings
from hypothesis import strategies as st

from prepcli.client.outbox import Outbox
from prepcli.client.recording import FRAME_BYTES, Recording
from prepserver.wire.client_messages import (
    AudioStart,
    AudioStop,
    UserMessage,
)
from prepserver.wire.codec import decode_client, unpack_frame
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    ServerMessage,
)

FRAMES_PER_COMMIT = 3
"""Number of frames that the fake server stores and acknowledges together."""


class FakeServer:
    """Fake server that stores messages in order and answers each of them."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.frames: dict[str, list[bytes]] = {}
        self._waiting: list[bytes] = []
        self._open = ""

    def handle(self, data: str | bytes) -> ServerMessage:
        if isinstance(data, bytes):
            return self._handle_frame(*unpack_frame(data))
        match decode_client(data):
            case AudioStart(id=id):
                self._open, self._waiting = id, []
                stored = self.frames.setdefault(id, [])
                return (
                    Accepted(id=id) if id in self.stored else AudioAck(id=id, frame=len(stored) - 1)
                )
            case AudioStop(id=id, frames=frames):
                if id not in self.stored:
                    self.frames[id] += self._waiting
                    assert len(self.frames[id]) == frames
                    self.stored.append(id)
                return Accepted(id=id)
            case UserMessage(id=id):
                if id not in self.stored:
                    self.stored.append(id)
                return Accepted(id=id)
            case other:
                raise AssertionError(f"unexpected message: {other}")

    def _handle_frame(self, number: int, pcm: bytes) -> AudioAck:
        stored = self.frames[self._open]
        assert number == len(stored) + len(self._waiting), "a frame is missing or repeated"
        self._waiting.append(pcm)
        if len(self._waiting) == FRAMES_PER_COMMIT:
            stored += self._waiting
            self._waiting = []
        return AudioAck(id=self._open, frame=len(stored) - 1)


class FakeConnection:
    """Fake connection that can be cut, with the messages in transit in both directions."""

    def __init__(self, outbox: Outbox, server: FakeServer) -> None:
        self._outbox = outbox
        self._server = server
        self._to_server: deque[str | bytes] = deque()
        self._to_client: deque[ServerMessage] = deque()

    def send(self) -> bool:
        if (data := self._outbox.next_to_send()) is not None:
            self._to_server.append(data)
        return data is not None

    def deliver(self) -> bool:
        if not self._to_server:
            return False
        self._to_client.append(self._server.handle(self._to_server.popleft()))
        return True

    def deliver_answer(self) -> bool:
        if not self._to_client:
            return False
        match self._to_client.popleft():
            case Accepted(id=id):
                self._outbox.mark_accepted(id)
            case AudioAck(id=id, frame=frame):
                self._outbox.acknowledge_frames(id, frame)
        return True

    def cut(self) -> bool:
        self._to_server.clear()
        self._to_client.clear()
        self._outbox.start_connection()
        return False


STEPS = ("queue", "queue", "feed", "stop", *("send", "deliver", "deliver_answer") * 4, "cut")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(STEPS), max_size=80))
@example(["feed", "stop", "feed", "stop", "queue"])
def test_everything_is_delivered_once_and_in_order(steps: list[str]) -> None:
    """Whatever the sequence of messages, recordings, answers and cuts, everything is stored once
    and in order, except that a message can overtake an open recording."""

    async def run() -> None:
        outbox, server = Outbox(), FakeServer()
        connection = FakeConnection(outbox, server)
        predecessors: dict[str, set[str]] = {}
        """For each id, the ids that must be stored earlier."""
        ended: set[str] = set()
        fed: dict[str, list[bytes]] = {}
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
                case "queue":
                    predecessors[f"m{number}"] = set(ended)
                    ended.add(f"m{number}")
                    outbox.queue_message(UserMessage(text="x"), f"m{number}")
                case "feed":
                    if recording is None:
                        recording = Recording(f"r{number}", lambda: None)
                        fed[recording.id] = []
                        predecessors[recording.id] = set(ended)
                        outbox.queue_recording(recording)
                    frame = number.to_bytes(2, "big") * (FRAME_BYTES // 2)
                    recording.feed(frame)
                    fed[recording.id].append(frame)
                case "stop":
                    await stop()
                case other:
                    getattr(connection, other)()
        await stop()
        connection.cut()
        while connection.send() or connection.deliver() or connection.deliver_answer():
            pass

        assert sorted(server.stored) == sorted(predecessors)
        for index, id in enumerate(server.stored):
            assert predecessors[id] <= set(server.stored[:index])
        assert server.frames == fed
        assert len(outbox) == 0
        await asyncio.gather(*stops)

    asyncio.run(run())
