"""Candidates that hold interviews with prep's client and record all acknowledgements.

async with Candidate(server.url, key, seed=1) as candidate:
    await candidate.hold_interviews(stop)
for id, acknowledged in candidate.acknowledged.items(): …

Candidates use the same classes as the screens: `Room`, `Recording` and the pure room state.
"""

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Self

from msgspec import Struct, field

from prepcli.client.recording import FRAME_BYTES
from prepcli.client.rest import RestClient
from prepcli.client.room import Room
from prepcli.client.state import (
    ConnectionChanged,
    ConnectionStatus,
    RoomEvent,
    RoomState,
    apply,
    is_completed,
    needs_snapshot,
    open_question,
)
from prepcli.errors import ServerUnreachable
from prepserver.clock import SystemClock
from prepserver.engines.scripted import SILENCE_PEAK, ScriptedSpeechModel
from prepserver.wire.client_messages import (
    GetAllMessages,
    HintRequest,
    MessageEdit,
    UserMessage,
)
from prepserver.wire.protocol import (
    Accepted,
    Failure,
    InterviewSpec,
    Message,
    MessageKind,
    Phase,
)

__all__ = ["Acknowledged", "Candidate"]

QUESTIONS = 5
"""Maximum number of questions in one interview."""

DELETED_SHARE = 0.3
"""Share of finished interviews that the candidate deletes."""


class Acknowledged(Struct):
    """Messages that the server has acknowledged in one interview."""

    answers: list[str] = field(default_factory=list)
    """Texts of the answers in order, each with its latest edit."""
    spoken: int = 0
    edits: int = 0
    hints: int = 0
    seen: tuple[Message, ...] = ()
    """Transcript in the client's last state."""


class Candidate:
    """User with one client. AssertionError is raised if the server rejects a valid message."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        seed: int,
        longest_wait: float = 10.0,
        on_event: Callable[[], None] = lambda: None,
    ) -> None:
        """Create a candidate whose client waits at most `longest_wait` seconds between two attempts
        to connect. `on_event` is called for each event of a room."""
        self.acknowledged: dict[str, Acknowledged] = {}
        """Acknowledged messages of each interview that is not deleted, by interview id."""
        self.deleted: set[str] = set()
        """Ids of interviews whose deletion was acknowledged."""
        self.connections = 0
        """Number of times that a room came online."""
        self.resumed = 0
        """Number of connections that began with unacknowledged messages in the outbox."""
        self.first_question = asyncio.Event()
        """Event that is set once the first question is open."""
        self._on_event = on_event
        self._longest_wait = longest_wait
        self._rest = RestClient(url, key)
        self._rng = random.Random(seed)
        self._name = f"c{seed}"
        self._ids = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._rest.close()

    async def hold_interviews(self, stop: asyncio.Event) -> None:
        """Answer questions in one interview after another until `stop` is set, then wait for the
        end of the active turn."""
        while not stop.is_set():
            spec = InterviewSpec(questions=self._rng.randint(1, QUESTIONS))
            try:
                interview = await self._rest.create_interview(spec)
            except ServerUnreachable:
                continue  # the interview may have been created, but its id is unknown
            self.acknowledged[interview.id] = Acknowledged()
            await self._hold(interview.id, stop)
            if not stop.is_set() and self._rng.random() < DELETED_SHARE:
                await self._delete(interview.id)

    async def _delete(self, id: str) -> None:
        """Delete an interview, repeating the request until a response arrives, since responses may
        be lost."""
        while True:
            try:
                await self._rest.delete_interview(id)
            except ServerUnreachable:
                continue
            del self.acknowledged[id]
            self.deleted.add(id)
            return

    async def _hold(self, id: str, stop: asyncio.Event) -> None:
        acknowledged = self.acknowledged[id]
        base = self._rest.url.replace("http", "ws", 1)

        async def address(renew: bool) -> str:
            token = await self._rest.get_room_token(renew=renew, attempts=1)
            return f"{base}/parties/interview/{id}?token={token}"

        async with Room(address, sleep=self._pause, rng=self._rng) as room:
            visit = _Visit(room)
            following = asyncio.create_task(self._follow(visit))
            try:
                while await visit.wait_for_question() and not stop.is_set():
                    self.first_question.set()
                    await self._answer(visit, acknowledged)
                await visit.wait_until_idle()
            finally:
                following.cancel()
                await asyncio.wait([following])
            acknowledged.seen = visit.state.messages

    async def _follow(self, visit: "_Visit") -> None:
        async for event in visit.room:
            self._on_event()
            match event:
                case ConnectionChanged(status=ConnectionStatus.ONLINE):
                    self.connections += 1
                    self.resumed += visit.room.unacknowledged > 0
            await visit.handle_event(event)

    async def _answer(self, visit: "_Visit", acknowledged: Acknowledged) -> None:
        if self._rng.random() < 0.1:
            await visit.send_and_wait(HintRequest(id=self._new_id()))
            acknowledged.hints += 1
        if self._rng.random() < 0.5:
            text = await self._speak(visit)
            acknowledged.spoken += 1
        else:
            text = f"{self._new_id()}: I would measure first, é ☃ 𝄞."
            await visit.send_and_wait(UserMessage(text=text, id=self._new_id()))
        acknowledged.answers.append(text)
        if self._rng.random() < 0.2:
            # Two edits in a row: the second one must win, even if the connection is cut.
            answer = await visit.answer(len(acknowledged.answers))
            for version in ("first", "second"):
                text = f"{text} Corrected, the {version} time."
                edit = MessageEdit(message_id=answer.id, text=text, id=self._new_id())
                await visit.room.send(edit)
            await visit.wait_until(lambda: edit.id in visit.acknowledged)
            acknowledged.answers[-1] = text
            acknowledged.edits += 1

    async def _speak(self, visit: "_Visit") -> str:
        """Send a recording in uneven chunks, and return the recording's transcription by the
        scripted model.

        The transcription contains a hash of all samples.
        """
        recording = visit.room.start_recording()
        pcm = bytearray()
        for _ in range(self._rng.randrange(5, 40)):
            samples = self._rng.randbytes(self._rng.randrange(2, 2 * FRAME_BYTES, 2))
            recording.feed(samples)
            pcm += samples
            await asyncio.sleep(self._rng.random() * 0.004)
        loud = SILENCE_PEAK.to_bytes(2, "little", signed=True) * FRAME_BYTES
        recording.feed(loud)
        pcm += loud
        await recording.stop()
        # The recording is acknowledged before the state has processed the message.
        await visit.wait_until(lambda: recording.id in visit.acknowledged)
        return (await ScriptedSpeechModel(SystemClock()).transcribe(bytes(pcm))).text

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, self._longest_wait))

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self._name}-{self._ids}"


class _Visit:
    """Room that a candidate has joined, with the client's state."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.state = RoomState()
        self.acknowledged: set[str] = set()
        self._failed: AssertionError | None = None
        self._changed = asyncio.Event()

    async def handle_event(self, event: RoomEvent) -> None:
        stale = needs_snapshot(self.state, event)
        self.state = apply(self.state, event)
        match event:
            case Accepted(id=id):
                self.acknowledged.add(id)
            case Failure():
                self._failed = AssertionError(f"the server sent an error: {event}")
        if stale:
            await self.room.send(GetAllMessages())
        self._changed.set()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._failed is not None:
                raise self._failed
            self._changed.clear()
            await self._changed.wait()

    async def send_and_wait(self, message: UserMessage | HintRequest) -> None:
        """Send a message and wait for its acknowledgement."""
        await self.room.send(message)
        await self.wait_until(lambda: message.id in self.acknowledged)

    async def wait_for_question(self) -> bool:
        """Wait until a question is open or the interview is over; return True if a question is
        open."""
        await self.wait_until(lambda: self._has_question or is_completed(self.state))
        return not is_completed(self.state)

    async def wait_until_idle(self) -> None:
        """Wait until no turn is active and a question is open or the interview is completed."""
        await self.wait_until(
            lambda: self._idle and (self._has_question or is_completed(self.state))
        )

    async def answer(self, number: int) -> Message:
        """Return the candidate's answer with the number `number`, counted from 1, waiting until the
        client's state contains the answer."""
        await self.wait_until(lambda: len(self._answers) >= number)
        return self._answers[number - 1]

    @property
    def _answers(self) -> list[Message]:
        return [one for one in self.state.messages if one.kind is MessageKind.ANSWER]

    @property
    def _idle(self) -> bool:
        return (
            self.state.phase is Phase.IDLE
            and self.state.connection is ConnectionStatus.ONLINE
            and self.state.interview is not None
        )

    @property
    def _has_question(self) -> bool:
        open_ = open_question(self.state) is not None
        return open_ and self.state.phase in (Phase.IDLE, Phase.HINTING)
