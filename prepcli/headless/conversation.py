"""An interview without a screen: answers go in, the conversation comes out."""

import asyncio
import contextlib
import time
import uuid

import msgspec
from msgspec.structs import replace

from prepcli.client.rest import rate_limited_error
from prepcli.client.room import Room
from prepcli.client.session import Session, SessionOptions
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
from prepcli.errors import (
    InferenceFailed,
    NotFound,
    RecordingRefused,
    ServerUnreachable,
    UsageError,
)
from prepcli.headless.answers import Answer, AnswerQueue, RecordedAnswer, TypedAnswer
from prepcli.headless.output import Output
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    Error,
    Failure,
    GetAllMessages,
    InterviewEnd,
    Phase,
    Snapshot,
    Status,
    TurnRetry,
    UserMessage,
)

__all__ = ["Conversation", "choose_interview"]

OFFLINE_SECONDS = 120.0
"""A screen waits for ever and shows it; a script that nobody watches gives up."""

MAX_REPEATS = 3
"""How often an answer that came at a wrong moment is given again."""


async def choose_interview(session: Session, options: SessionOptions) -> str:
    """The id of the interview that was asked for, or of a new one. Raises PrepError."""
    if options.interview_id is not None:
        return (await session.rest.get_interview(options.interview_id)).id
    if options.resume_last:
        active = [
            each for each in await session.rest.list_interviews() if each.status is Status.ACTIVE
        ]
        if not active:
            raise UsageError("There is no interview to go on with. Begin one: prep interview")
        return max(active, key=lambda interview: interview.updated_at).id
    return (await session.rest.create_interview(options.spec)).id


class _Left(Exception):
    """Nobody has answered anything, so the interview stays as it is."""


class Conversation:
    """One interview, from wherever it stands to its end."""

    def __init__(
        self,
        room: Room,
        answers: AnswerQueue,
        output: Output,
        *,
        offline_seconds: float = OFFLINE_SECONDS,
    ) -> None:
        """`offline_seconds` without a connection end it."""
        self._room = room
        self._answers = answers
        self._output = output
        self._offline_seconds = offline_seconds
        self._state = RoomState()
        self._known = False
        """Whether the room has told how things stand since the connection was made."""
        self._known_once = False
        self._found_failed = False
        """Whether the turn had failed before this side came."""
        self._answered = ""
        """Id of the question that has its answer, as far as this side knows."""
        self._given: Answer | None = None
        self._given_id = ""
        self._given_any = False
        self._repeats = 0
        self._retry_id = ""
        self._retried_at = -1
        """How many messages there were when a failed turn was last tried again."""
        self._ending = False
        self._answering: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Return when the interview is completed, or when there was no answer to begin with.

        Raises PrepError when it cannot be: RateLimited, InferenceFailed, ServerUnreachable, …
        """
        try:
            async with self._room, asyncio.TaskGroup() as tasks:
                await self._follow(tasks)
                if self._answering is not None:
                    self._answering.cancel()
        except ExceptionGroup as group:
            first: Exception = group
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            if not isinstance(first, _Left):
                raise first from None
            self._output.note("no answers: the interview is left as it is")
        if left := self._answers.left:
            self._output.note(f"not needed any more: {left} of the answers")

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._offline_seconds) as patience:
                async for event in self._room:
                    await self._take(event)
                    if self._state.connection is ConnectionStatus.ONLINE:
                        patience.reschedule(None)
                    elif patience.when() is None:
                        patience.reschedule(now() + self._offline_seconds)
                    if self._known and await self._act(tasks):
                        return
        except TimeoutError:
            raise ServerUnreachable(
                f"The server could not be reached for {self._offline_seconds:g} seconds."
            ) from None

    # --- What happened ------------------------------------------------------------------------

    async def _take(self, event: RoomEvent) -> None:
        if needs_snapshot(self._state, event):
            await self._room.send(GetAllMessages())
        self._state = apply(self._state, event)
        match event:
            case ConnectionChanged():
                self._known = False
            case Snapshot(failed=failed):
                self._found_failed = failed is not None and not self._known_once
                self._known = self._known_once = True
            case Accepted(id=id) if id == self._retry_id:
                # The turn is under way again, whether its state has been seen yet or not.
                self._retry_id = ""
                self._state = replace(self._state, failed=None)
            case Failure():
                self._refused(event)
        self._output.show(self._state)

    def _refused(self, failure: Failure) -> None:
        if failure.code == ErrorCode.RATE_LIMITED:
            raise rate_limited_error(msgspec.convert(failure, Error, from_attributes=True))
        if failure.id and failure.id == self._retry_id:
            self._retry_id = ""  # somebody else was quicker
        elif failure.id and failure.id == self._given_id:
            self._answer_refused(failure)
        elif not failure.id and failure.code == ErrorCode.NOTHING_HEARD:
            # The answer came to nothing; the question waits for another one.
            self._output.note(failure.message)
            self._answered = ""
        elif not failure.id and not failure.retryable and self._state.phase is not Phase.HINTING:
            raise InferenceFailed(failure.message)
        elif not self._ending:
            self._output.note(failure.message)

    def _answer_refused(self, failure: Failure) -> None:
        """Give it again if it only came at a wrong moment, else go on with the next one."""
        if failure.code == ErrorCode.FRAMES_MISSING:
            return  # the recording sends them again by itself
        if failure.retryable and self._given is not None and self._repeats < MAX_REPEATS:
            self._repeats += 1
            self._answers.put_back(self._given)
        else:
            self._repeats = 0
            self._output.note(failure.message)
        self._answered = self._given_id = ""

    # --- What to do about it ------------------------------------------------------------------

    async def _act(self, tasks: asyncio.TaskGroup) -> bool:
        """Take the next step; whether the interview is over."""
        state = self._state
        if state.deleted:
            raise NotFound("The interview has been deleted.")
        if state.phase not in (Phase.IDLE, Phase.HINTING):
            return False
        if is_completed(state):
            return state.phase is Phase.IDLE
        if state.failed is not None and not self._retry_id:
            await self._retry(state.failed)
            return False
        question = open_question(state)
        idle = self._answering is None or self._answering.done()
        if question is not None and question.id != self._answered and idle and not self._ending:
            self._answered = question.id
            self._answering = tasks.create_task(self._answer())
        return False

    async def _retry(self, failed: Error) -> None:
        # What failed some time ago may go well by now: the period is over, the model mended.
        found, self._found_failed = self._found_failed, False
        over = found and float(failed.details.get("reset", 0.0)) <= time.time()
        if failed.code == ErrorCode.RATE_LIMITED and not over:
            raise rate_limited_error(failed)
        hopeless = not failed.retryable and not found
        if hopeless or self._retried_at == len(self._state.messages):
            raise InferenceFailed(failed.message)
        self._retried_at = len(self._state.messages)
        self._retry_id = uuid.uuid4().hex
        self._output.note(f"{failed.message} Trying again")
        await self._room.send(TurnRetry(id=self._retry_id))

    async def _answer(self) -> None:
        if self._answers.will_ask:
            self._output.ask()
        answer = await self._answers.next()
        self._given = answer
        self._given_any = self._given_any or answer is not None
        match answer:
            case None if not self._given_any:
                raise _Left
            case None:
                self._ending = True
                self._output.note("no more answers: ending the interview")
                await self._room.send(InterviewEnd(id=uuid.uuid4().hex))
            case TypedAnswer(text=text, echoed=echoed):
                if echoed:
                    self._output.typed(text)
                self._given_id = uuid.uuid4().hex
                await self._room.send(UserMessage(id=self._given_id, text=text))
            case RecordedAnswer(pcm=pcm):
                recording = self._room.start_recording()
                self._given_id = recording.id
                with contextlib.suppress(RecordingRefused):  # the room tells the reason as well
                    recording.feed(pcm)
                    await recording.stop()
