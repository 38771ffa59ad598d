"""Clients that use the real Room, outbox, recordings and `apply`, and record what they send."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from msgspec import Struct

from prepcli.client.recording import FRAME_BYTES, Recording
from prepcli.client.room import Room
from prepcli.client.state import (
    ConnectionChanged,
    ConnectionStatus,
    RoomState,
    apply,
    is_completed,
    needs_snapshot,
    open_question,
)
from prepcli.errors import PrepError, QueueFull, RecordingRefused
from prepserver.wire.client_messages import (
    ClientMessages,
    GetAllMessages,
    HintRequest,
    InterviewEnd,
    MessageEdit,
    TurnRetry,
    TurnStop,
    UserMessage,
    UserTyping,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    Failure,
    MessageKind,
    Phase,
    Snapshot,
)
from tests.support.clock import ManualClock

__all__ = ["SentItem", "SimulatedClient"]


LONG = " They wait until a worker is free." * 60
"""End of long answers."""


class SentItem(Struct):
    """Message or recording that a client sent, with its outcome."""

    id: str
    kind: type
    text: str = ""
    """Text that identifies the message or the recording in the transcript; empty if there is
    none."""
    target: str = ""
    """Id of the message that an edit changes; empty if the item is not an edit."""
    accepted: bool = False
    refused: str = ""
    """Error code of the server's rejection, or the reason why the client gave up; empty if neither
    happened."""
    abandoned: bool = False
    """True if the client's program ended before a reply came."""


class SimulatedClient:
    """Client program that joins one room and keeps the state that a screen would show."""

    def __init__(
        self,
        name: str,
        party: str,
        room: str,
        clock: ManualClock,
        issue_token: Callable[[], str],
        seed: int,
    ) -> None:
        self.name = name
        self.party = party
        self.state = RoomState()
        self.has_snapshot = False
        """True once a snapshot has arrived on the current connection."""
        self.end_error: PrepError | None = None
        self.sent: dict[str, SentItem] = {}
        self.failures: list[Failure] = []
        self.coverage: Counter[str] = Counter()
        self._room_name = room
        self._clock = clock
        self._issue_token = issue_token
        self._seed = seed
        self._token = ""
        self._count = 0
        self._recording: Recording | None = None
        self._pcm = b""
        self._stops: list[asyncio.Task[None]] = []
        self._open_room()

    # --- Connection ---------------------------------------------------------------------------

    def _open_room(self) -> None:
        self._room = Room(
            self._get_url,
            sleep=self._clock.sleep,
            monotonic=self._clock.monotonic,
            rng=random.Random(f"{self._seed} {self.name} {self._count}"),
        )
        self._task = asyncio.create_task(self._handle_events(self._room))

    async def _get_url(self, renew: bool) -> str:
        if renew or not self._token:
            self._token = self._issue_token()
        return f"ws://{self.name}/parties/{self.party}/{self._room_name}?token={self._token}"

    async def _handle_events(self, room: Room) -> None:
        try:
            async with room:
                async for event in room:
                    if needs_snapshot(self.state, event):
                        self.coverage["gap in the deltas"] += 1
                        await room.send(GetAllMessages())
                    match event:
                        case ConnectionChanged():
                            self.has_snapshot = False
                        case Snapshot(streaming=streaming):
                            self.has_snapshot = True
                            self.coverage["snapshot during a reply"] += streaming is not None
                        case Accepted(id=id):
                            self.coverage["accepted twice"] += self.sent[id].accepted
                            self.sent[id].accepted = True
                        case AudioAck(id=id) if id not in self.sent:
                            raise AssertionError("another client's recording was acknowledged")
                        case Failure():
                            self.failures.append(event)
                            if event.id in self.sent and event.code != ErrorCode.FRAMES_MISSING:
                                self.sent[event.id].refused = event.code
                    self.state = apply(self.state, event)
        except PrepError as error:
            self.end_error = error

    async def close(self, settle: Callable[[], Awaitable[None]]) -> None:
        """End the program; messages without a reply count as abandoned."""
        self._task.cancel()
        for stop in self._stops:
            stop.cancel()
        await settle()
        for sent in self.sent.values():
            sent.abandoned = sent.abandoned or not (sent.accepted or sent.refused)
        self._recording = None

    async def restart(self, settle: Callable[[], Awaitable[None]]) -> None:
        await self.close(settle)
        self._count += 1
        self.state = RoomState()
        self.has_snapshot = False
        self.end_error = None
        self._open_room()

    def raise_errors(self) -> None:
        """Raise the error of any finished task that failed."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()
        for stop in self._stops:
            if stop.done() and not stop.cancelled():
                stop.result()

    @property
    def online(self) -> bool:
        return self.state.connection is ConnectionStatus.ONLINE

    @property
    def unacknowledged(self) -> int:
        return self._room.unacknowledged

    @property
    def can_answer(self) -> bool:
        """True while the client's state shows an open question and no active turn other than a
        hint."""
        return self.state.phase in (Phase.IDLE, Phase.HINTING) and bool(open_question(self.state))

    @property
    def recording_id(self) -> str:
        """Id of the open recording; empty if no recording is open."""
        return "" if self._recording is None else self._recording.id

    # --- Actions ------------------------------------------------------------------------------

    async def send_answer(self) -> None:
        id = self._next_id()
        text = f"Answer {id} about queues."
        if len(self.sent) % 2:
            text += LONG
        await self._send(UserMessage(text=text, id=id), SentItem(id, UserMessage, text))

    def offers(self, command: str) -> bool:
        """Return True if a screen would offer the command now."""
        match command:
            case "hint":
                return self.can_answer
            case "stop":
                return self.state.phase is not Phase.IDLE
            case "retry":
                return self.state.failed is not None
            case _:
                return True

    async def send_command(self, command: str) -> None:
        message: ClientMessages
        match command:
            case "type":
                message = UserTyping()
            case "snapshot":
                message = GetAllMessages()
            case "hint":
                message = HintRequest(id=self._next_id())
            case "stop":
                message = TurnStop(id=self._next_id())
            case "retry":
                message = TurnRetry(id=self._next_id())
            case _:
                if is_completed(self.state):
                    return
                message = InterviewEnd(id=self._next_id())
        await self._send(message)

    async def edit_answer(self, index: int) -> None:
        answers = [m for m in self.state.messages if m.kind is MessageKind.ANSWER]
        if not answers:
            return
        answer, id = answers[index % len(answers)], self._next_id()
        text = f"{answer.text} Edit {id}."
        message = MessageEdit(message_id=answer.id, text=text, id=id)
        await self._send(message, SentItem(id, MessageEdit, text, answer.id))

    async def _send(self, message: ClientMessages, sent: SentItem | None = None) -> None:
        if message.id:
            self.sent[message.id] = sent or SentItem(message.id, type(message))
        try:
            await self._room.send(message)
        except PrepError as error:
            if not isinstance(error, QueueFull) and self.end_error is None:
                raise AssertionError(f"the room failed to send: {error}") from error
            self.sent.pop(message.id, None)

    def record(self, frames: int) -> None:
        """Add frames of unique sound to the open recording, starting a recording if none is
        open."""
        try:
            if self._recording is None:
                self._recording = self._room.start_recording()
                self._pcm = b""
                self.sent[self._recording.id] = SentItem(self._recording.id, Recording)
            pcm = b"".join(self._make_frame() for _ in range(frames))
            self._recording.feed(pcm)
            self._pcm += pcm
        except RecordingRefused:
            assert self._recording is not None
            sent = self.sent[self._recording.id]
            sent.refused = sent.refused or "abandoned by the client"
            self._recording = None
        except PrepError as error:
            if self.end_error is None:
                raise AssertionError(f"the recording failed: {error}") from error

    def finish_recording(self) -> None:
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        self.sent[recording.id].text = f"mark is {hashlib.sha256(self._pcm).hexdigest()[:6]}"
        self._stops.append(asyncio.create_task(self._stop(recording)))

    async def _stop(self, recording: Recording) -> None:
        sent = self.sent[recording.id]
        try:
            await recording.stop()
        except PrepError:
            if not sent.refused and self.end_error is None and not self._task.cancelled():
                sent.refused = "abandoned by the client"

    def cancel_recording(self) -> None:
        if self._recording is not None:
            self._recording.cancel()
            self.sent[self._recording.id].refused = "cancelled"
            self._recording = None

    def _make_frame(self) -> bytes:
        self._count += 1
        noise = hashlib.sha256(f"{self.name} {self._count}".encode()).digest()
        return b"\x00\x40" + (noise * (FRAME_BYTES // len(noise) + 1))[: FRAME_BYTES - 2]

    def _next_id(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"
