"""People who hold interviews with prep's own client, and remember what the server promised them.

async with Candidate(server.url, key, seed=1) as candidate:
    await candidate.hold_interviews(stop)
for id, promised in candidate.promised.items(): …

What they hear of the server is what a screen would show: `Room`, `Recording` and the pure state.
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
from prepserver.wire.protocol import (
    Accepted,
    Failure,
    GetAllMessages,
    HintRequest,
    InterviewSpec,
    Message,
    MessageEdit,
    MessageKind,
    Phase,
    UserMessage,
)

__all__ = ["Candidate", "Promised"]

QUESTIONS = 5
"""Of one interview, at most; then the candidate begins another."""

DELETED = 0.3
"""The share of finished interviews that the candidate removes."""


class Promised(Struct):
    """What the server has acknowledged about one interview."""

    answers: list[str] = field(default_factory=list)
    """Texts, in order; what was corrected is here as it was corrected last."""
    spoken: int = 0
    edits: int = 0
    hints: int = 0
    seen: tuple[Message, ...] = ()
    """All that was said, as the client's own state had it last."""


class Candidate:
    """One person with one client. Raises AssertionError when the server refuses what it must
    take."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        seed: int,
        longest_wait: float = 10.0,
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        """`longest_wait` in seconds between two attempts to connect; `heard` is called with each
        event of a room."""
        self.promised: dict[str, Promised] = {}
        """By interview."""
        self.deleted: set[str] = set()
        """Interviews that the server has said are gone."""
        self.connections = 0
        """How often a room came online."""
        self.resumed = 0
        """How often it did with something on its way that the server had not acknowledged."""
        self.begun = asyncio.Event()
        """The first question was asked."""
        self._heard = heard
        self._longest_wait = longest_wait
        self._rest = RestClient(url, key)
        self._rng = random.Random(seed)
        self._name = f"c{seed}"
        self._said = 0

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
        """Answer questions, in one interview after the other, until `stop`; then wait until the
        turn that is under way has come to its end."""
        while not stop.is_set():
            spec = InterviewSpec(questions=self._rng.randint(1, QUESTIONS))
            try:
                interview = await self._rest.create_interview(spec)
            except ServerUnreachable:
                continue  # whether or not it was made, this one is not gone on with
            self.promised[interview.id] = Promised()
            await self._hold(interview.id, stop)
            if not stop.is_set() and self._rng.random() < DELETED:
                await self._delete(interview.id)

    async def _delete(self, id: str) -> None:
        """Ask until it is done: nobody knows what came of an attempt that had no answer."""
        while True:
            try:
                await self._rest.delete_interview(id)
            except ServerUnreachable:
                continue
            del self.promised[id]
            self.deleted.add(id)
            return

    async def _hold(self, id: str, stop: asyncio.Event) -> None:
        promised = self.promised[id]
        base = self._rest.url.replace("http", "ws", 1)

        async def address(renew: bool) -> str:
            token = await self._rest.get_room_token(renew=renew, attempts=1)
            return f"{base}/parties/interview/{id}?token={token}"

        async with Room(address, sleep=self._pause, rng=self._rng) as room:
            visit = _Visit(room)
            following = asyncio.create_task(self._follow(visit))
            try:
                while await visit.question() and not stop.is_set():
                    self.begun.set()
                    await self._answer(visit, promised)
                await visit.ended()
            finally:
                following.cancel()
                await asyncio.wait([following])
            promised.seen = visit.state.messages

    async def _follow(self, visit: "_Visit") -> None:
        async for event in visit.room:
            self._heard()
            match event:
                case ConnectionChanged(status=ConnectionStatus.ONLINE):
                    self.connections += 1
                    self.resumed += visit.room.unacknowledged > 0
            await visit.take(event)

    async def _answer(self, visit: "_Visit", promised: Promised) -> None:
        if self._rng.random() < 0.1:
            await visit.accepted(HintRequest(id=self._new_id()))
            promised.hints += 1
        if self._rng.random() < 0.5:
            text = await self._speak(visit)
            promised.spoken += 1
        else:
            text = f"{self._new_id()}: I would measure first, é ☃ 𝄞."
            await visit.accepted(UserMessage(text=text, id=self._new_id()))
        promised.answers.append(text)
        if self._rng.random() < 0.2:
            # Two in a row without waiting: the second one must win, whatever is cut off.
            answer = await visit.answer(len(promised.answers))
            for version in ("first", "second"):
                text = f"{text} Corrected, the {version} time."
                edit = MessageEdit(message_id=answer.id, text=text, id=self._new_id())
                await visit.room.send(edit)
            await visit.until(lambda: edit.id in visit.acknowledged)
            promised.answers[-1] = text
            promised.edits += 1

    async def _speak(self, visit: "_Visit") -> str:
        """A recording in uneven pieces; what the scripted ears hear names every sample of it."""
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
        # The room's task knows it first; the state has to have come as far.
        await visit.until(lambda: recording.id in visit.acknowledged)
        return (await ScriptedSpeechModel(SystemClock()).transcribe(bytes(pcm))).text

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, self._longest_wait))

    def _new_id(self) -> str:
        self._said += 1
        return f"{self._name}-{self._said}"


class _Visit:
    """A room and what is known of it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.state = RoomState()
        self.acknowledged: set[str] = set()
        self._failed: AssertionError | None = None
        self._changed = asyncio.Event()

    async def take(self, event: RoomEvent) -> None:
        stale = needs_snapshot(self.state, event)
        self.state = apply(self.state, event)
        match event:
            case Accepted(id=id):
                self.acknowledged.add(id)
            case Failure():
                self._failed = AssertionError(f"the server said: {event}")
        if stale:
            await self.room.send(GetAllMessages())
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._failed is not None:
                raise self._failed
            self._changed.clear()
            await self._changed.wait()

    async def accepted(self, message: UserMessage | HintRequest) -> None:
        """Send a message and wait until the server has promised to keep it."""
        await self.room.send(message)
        await self.until(lambda: message.id in self.acknowledged)

    async def question(self) -> bool:
        """Wait for the next question; False when the interview is over."""
        await self.until(lambda: self._asked or is_completed(self.state))
        return not is_completed(self.state)

    async def ended(self) -> None:
        """Wait until the turn that is under way has come to its end."""
        await self.until(lambda: self._idle and (self._asked or is_completed(self.state)))

    async def answer(self, number: int) -> Message:
        """The candidate's n-th answer, as soon as it is written down."""
        await self.until(lambda: len(self._answers) >= number)
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
    def _asked(self) -> bool:
        open_ = open_question(self.state) is not None
        return open_ and self.state.phase in (Phase.IDLE, Phase.HINTING)
