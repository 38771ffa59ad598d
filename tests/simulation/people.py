"""Clients: the real Room, outbox, recordings and `apply`, and a ledger of what was sent."""

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
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    AudioAck,
    ClientMessages,
    Failure,
    GetAllMessages,
    HintRequest,
    InterviewEnd,
    MessageEdit,
    MessageKind,
    Phase,
    Snapshot,
    TurnRetry,
    TurnStop,
    UserMessage,
    UserTyping,
)
from tests.support.clock import ManualClock

__all__ = ["Person", "Sent"]


class Sent(Struct):
    """A message or a recording of a client, and what became of it."""

    id: str
    kind: type
    text: str = ""
    """What identifies it in the transcript."""
    target: str = ""
    """The message that it edits."""
    accepted: bool = False
    refused: str = ""
    """The code of the server's answer."""
    given_up: bool = False
    """The client's program ended before there was an answer."""


class Person:
    """Somebody's program in one room: what a screen does, without the screen."""

    def __init__(
        self,
        name: str,
        party: str,
        room: str,
        clock: ManualClock,
        token: Callable[[], str],
        seed: int,
    ) -> None:
        self.name = name
        self.party = party
        self.state = RoomState()
        self.known = False
        """Whether the room has told how things stand on the connection of the moment."""
        self.ended: PrepError | None = None
        self.sent: dict[str, Sent] = {}
        self.failures: list[Failure] = []
        self.happened: Counter[str] = Counter()
        self._room_name = room
        self._clock = clock
        self._issue = token
        self._seed = seed
        self._token = ""
        self._count = 0
        self._recording: Recording | None = None
        self._pcm = b""
        self._stops: list[asyncio.Task[None]] = []
        self._enter()

    # --- Its program --------------------------------------------------------------------------

    def _enter(self) -> None:
        self._room = Room(
            self._address,
            sleep=self._clock.sleep,
            monotonic=self._clock.monotonic,
            rng=random.Random(f"{self._seed} {self.name} {self._count}"),
        )
        self._task = asyncio.create_task(self._follow(self._room))

    async def _address(self, renew: bool) -> str:
        if renew or not self._token:
            self._token = self._issue()
        return f"ws://{self.name}/parties/{self.party}/{self._room_name}?token={self._token}"

    async def _follow(self, room: Room) -> None:
        try:
            async with room:
                async for event in room:
                    if needs_snapshot(self.state, event):
                        self.happened["gap in the deltas"] += 1
                        await room.send(GetAllMessages())
                    match event:
                        case ConnectionChanged():
                            self.known = False
                        case Snapshot(streaming=streaming):
                            self.known = True
                            self.happened["snapshot in mid-sentence"] += streaming is not None
                        case Accepted(id=id):
                            self.happened["accepted twice"] += self.sent[id].accepted
                            self.sent[id].accepted = True
                        case AudioAck(id=id) if id not in self.sent:
                            raise AssertionError("somebody else's recording is acknowledged here")
                        case Failure():
                            self.failures.append(event)
                            if event.id in self.sent and event.code != ErrorCode.FRAMES_MISSING:
                                self.sent[event.id].refused = event.code
                    self.state = apply(self.state, event)
        except PrepError as error:
            self.ended = error

    async def leave(self, settle: Callable[[], Awaitable[None]]) -> None:
        """End the program: what had not arrived is lost with it."""
        self._task.cancel()
        for stop in self._stops:
            stop.cancel()
        await settle()
        for sent in self.sent.values():
            sent.given_up = sent.given_up or not (sent.accepted or sent.refused)
        self._recording = None

    async def come_back(self, settle: Callable[[], Awaitable[None]]) -> None:
        await self.leave(settle)
        self._count += 1
        self.state = RoomState()
        self.known = False
        self.ended = None
        self._enter()

    def check(self) -> None:
        """Raises what went wrong inside."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()
        for stop in self._stops:
            if stop.done() and not stop.cancelled():
                stop.result()

    @property
    def online(self) -> bool:
        return self.state.connection is ConnectionStatus.ONLINE

    @property
    def waiting(self) -> int:
        return self._room.unacknowledged

    @property
    def asked(self) -> bool:
        """Whether an answer is what the room waits for, as far as is known here."""
        return self.state.phase in (Phase.IDLE, Phase.HINTING) and bool(open_question(self.state))

    @property
    def recording(self) -> str:
        """The id of the recording that is open; empty when none is."""
        return "" if self._recording is None else self._recording.id

    # --- What it does -------------------------------------------------------------------------

    async def say(self) -> None:
        id = self._id()
        text = f"Answer {id} about queues."
        await self._send(UserMessage(text=text, id=id), Sent(id, UserMessage, text))

    def would_press(self, key: str) -> bool:
        """Whether a screen would offer it."""
        match key:
            case "hint":
                return self.asked
            case "stop":
                return self.state.phase is not Phase.IDLE
            case "retry":
                return self.state.failed is not None
            case _:
                return True

    async def press(self, key: str) -> None:
        message: ClientMessages
        match key:
            case "type":
                message = UserTyping()
            case "look":
                message = GetAllMessages()
            case "hint":
                message = HintRequest(id=self._id())
            case "stop":
                message = TurnStop(id=self._id())
            case "retry":
                message = TurnRetry(id=self._id())
            case _:
                if is_completed(self.state):
                    return
                message = InterviewEnd(id=self._id())
        await self._send(message)

    async def edit(self, which: int) -> None:
        answers = [m for m in self.state.messages if m.kind is MessageKind.ANSWER]
        if not answers:
            return
        answer, id = answers[which % len(answers)], self._id()
        text = f"{answer.text} Edit {id}."
        message = MessageEdit(message_id=answer.id, text=text, id=id)
        await self._send(message, Sent(id, MessageEdit, text, answer.id))

    async def _send(self, message: ClientMessages, sent: Sent | None = None) -> None:
        if message.id:
            self.sent[message.id] = sent or Sent(message.id, type(message))
        try:
            await self._room.send(message)
        except PrepError as error:
            if not isinstance(error, QueueFull) and self.ended is None:
                raise AssertionError(f"the room refused to send: {error}") from error
            self.sent.pop(message.id, None)

    def speak(self, frames: int) -> None:
        """Sound that is like no other, into the open recording or a new one."""
        try:
            if self._recording is None:
                self._recording = self._room.start_recording()
                self._pcm = b""
                self.sent[self._recording.id] = Sent(self._recording.id, Recording)
            pcm = b"".join(self._frame() for _ in range(frames))
            self._recording.feed(pcm)
            self._pcm += pcm
        except RecordingRefused:
            assert self._recording is not None
            sent = self.sent[self._recording.id]
            sent.refused = sent.refused or "given up by the client"
            self._recording = None
        except PrepError as error:
            if self.ended is None:
                raise AssertionError(f"the recording went wrong: {error}") from error

    def deliver(self) -> None:
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
            if not sent.refused and self.ended is None and not self._task.cancelled():
                sent.refused = "given up by the client"

    def withdraw(self) -> None:
        if self._recording is not None:
            self._recording.cancel()
            self.sent[self._recording.id].refused = "cancelled"
            self._recording = None

    def _frame(self) -> bytes:
        self._count += 1
        loud = hashlib.sha256(f"{self.name} {self._count}".encode()).digest()
        return b"\x00\x40" + (loud * (FRAME_BYTES // len(loud) + 1))[: FRAME_BYTES - 2]

    def _id(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"
