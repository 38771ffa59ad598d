"""Interview without a screen, which takes answers from a queue and prints the conversation."""

import asyncio
import contextlib
import time
import uuid

import msgspec
from msgspec.structs import replace

from prepcli.client.notes import language_note
from prepcli.client.options import SessionOptions
from prepcli.client.rest import ALLOWANCE_CODES, rate_limited_error
from prepcli.client.room import Room
from prepcli.client.session import Session
from prepcli.client.state import (
    ConnectionChanged,
    ConnectionStatus,
    RoomEvent,
    RoomState,
    apply,
    is_completed,
    is_planned,
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
from prepcli.headless.commands import take_answer
from prepcli.headless.output import Output
from prepcli.headless.review import AgendaReview
from prepcli.headless.streams import print_note
from prepserver.wire.client_messages import (
    GetAllMessages,
    HintRequest,
    InterviewEnd,
    TurnRetry,
    UserMessage,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Accepted,
    Error,
    Failure,
    MessageKind,
    Phase,
    Snapshot,
    Status,
)

__all__ = ["Conversation", "choose_interview"]

OFFLINE_SECONDS = 120.0
"""Seconds without a connection after which a conversation fails. A screen waits indefinitely, but a
script runs unattended."""

MAX_REPEATS = 3
"""Maximum number of times that an answer is sent again after a retryable error."""


async def choose_interview(session: Session, options: SessionOptions) -> str:
    """Return the id of the interview that `options` asks to resume. If `options` does not ask to
    resume an interview, create one and return its id. Raises PrepError."""
    if options.interview_id is not None:
        return (await session.rest.get_interview(options.interview_id)).id
    if options.resume_last:
        interviews = await session.rest.list_interviews()
        unfinished = [each for each in interviews if each.status is not Status.COMPLETED]
        if not unfinished:
            raise UsageError("You have no unfinished interview. To start one: prep interview")
        return max(unfinished, key=lambda interview: interview.updated_at).id
    interview = await session.rest.create_interview(options.spec)
    if (note := language_note(options.spec, interview)) is not None:
        print_note(note)
    return interview.id


class _NoAnswers(Exception):
    """The queue contained no answers, so the interview is left unchanged."""


class Conversation:
    """An interview held without a screen, from its current state to its end."""

    def __init__(
        self,
        room: Room,
        answers: AnswerQueue,
        output: Output,
        *,
        offline_seconds: float = OFFLINE_SECONDS,
    ) -> None:
        self._room = room
        self._answers = answers
        self._output = output
        self._offline_seconds = offline_seconds
        self._state = RoomState()
        self._synced = False
        """True once a snapshot has arrived on the current connection."""
        self._ever_synced = False
        self._failed_before = False
        """True while a turn that failed before this conversation began has not been retried."""
        self._answered_id = ""
        """Id of the last question or reply that this conversation answered; empty before the first
        answer and while that question is open again."""
        self._answer: Answer | None = None
        """Last answer taken from the queue."""
        self._answer_id = ""
        """Id of the message or recording that carries `_answer`."""
        self._has_answered = False
        self._refusal = ""
        """Error of the last recording, if no answer followed it; otherwise empty."""
        self._repeats = 0
        self._retry_id = ""
        """Id of the unanswered `turn.retry`; empty if there is none."""
        self._retried_at = -1
        """Number of messages in the transcript at the last `turn.retry`; -1 before the first."""
        self._ending = False
        self._review = AgendaReview(room, answers, output)
        self._answer_task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Hold the interview until it is completed. If the queue contains no answers, return
        without changing the interview.

        Raises PrepError if the interview cannot be completed: RateLimited, InferenceFailed,
        ServerUnreachable after `offline_seconds` without a connection, and others.
        """
        try:
            async with self._room, asyncio.TaskGroup() as tasks:
                await self._follow_room(tasks)
                if self._answer_task is not None:
                    self._answer_task.cancel()
        except ExceptionGroup as group:
            first: Exception = group
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            if not isinstance(first, _NoAnswers):
                raise first from None
            self._output.note("no answers: the interview is unchanged")
        if remaining := self._answers.remaining:
            self._output.note(f"unused answers: {remaining}")

    async def _follow_room(self, tasks: asyncio.TaskGroup) -> None:
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._offline_seconds) as offline_timeout:
                async for event in self._room:
                    await self._handle_event(event)
                    if self._state.connection is ConnectionStatus.ONLINE:
                        offline_timeout.reschedule(None)
                    elif offline_timeout.when() is None:
                        offline_timeout.reschedule(now() + self._offline_seconds)
                    if self._synced and await self._advance(tasks):
                        return
        except TimeoutError:
            raise ServerUnreachable(
                f"The server was unreachable for {self._offline_seconds:g} seconds. Check the "
                "network and the server, then try again."
            ) from None

    # --- Events -------------------------------------------------------------------------------

    async def _handle_event(self, event: RoomEvent) -> None:
        if needs_snapshot(self._state, event):
            await self._room.send(GetAllMessages())
        self._state = apply(self._state, event)
        match event:
            case ConnectionChanged():
                self._synced = False
            case Snapshot():
                self._failed_before = self._state.failed is not None and not self._ever_synced
                self._synced = self._ever_synced = True
            case Accepted(id=id) if id == self._retry_id:
                # The turn is running again, even if its new state has not arrived.
                self._retry_id = ""
                self._state = replace(self._state, failed=None)
            case Accepted() if self._review.handle_response(event):
                pass
            case Failure():
                self._handle_failure(event)
        self._output.show_state(self._state)

    def _handle_failure(self, failure: Failure) -> None:
        if failure.code in ALLOWANCE_CODES:
            raise rate_limited_error(msgspec.convert(failure, Error, from_attributes=True))
        if self._review.handle_response(failure):
            return
        if failure.id and failure.id == self._retry_id:
            self._retry_id = ""  # another client has retried the turn already
        elif failure.id and failure.id == self._answer_id:
            self._handle_refused_answer(failure)
        elif not failure.id and failure.code in (
            ErrorCode.NOTHING_HEARD,
            ErrorCode.SPEECH_DOUBTFUL,
        ):
            # The recording is no answer, so the question is still open.
            self._output.note(failure.message)
            self._refusal = failure.message
            self._answered_id = ""
        elif not failure.id and not failure.retryable and self._state.phase is not Phase.HINTING:
            raise InferenceFailed(failure.message)
        elif not self._ending:
            self._output.note(failure.message)

    def _handle_refused_answer(self, failure: Failure) -> None:
        """Repeat a rejected answer after a retryable error, at most `MAX_REPEATS` times; otherwise
        continue with the next answer."""
        if failure.code == ErrorCode.FRAMES_MISSING:
            return  # the recording resends missing frames itself
        if failure.retryable and self._answer is not None and self._repeats < MAX_REPEATS:
            self._repeats += 1
            self._answers.put_back(self._answer)
        else:
            self._repeats = 0
            self._output.note(failure.message)
        self._answered_id = self._answer_id = ""
        self._ending = False

    # --- Actions ------------------------------------------------------------------------------

    async def _advance(self, tasks: asyncio.TaskGroup) -> bool:
        """Retry a failed turn, review a planned agenda or answer an open question. Return True if
        the interview is over."""
        state = self._state
        if state.deleted:
            raise NotFound("The interview was deleted.")
        if state.phase not in (Phase.IDLE, Phase.HINTING):
            return False
        if is_completed(state):
            return state.phase is Phase.IDLE
        if state.failed is not None and not self._retry_id:
            await self._retry_turn(state.failed)
            return False
        if self._ending or not (self._answer_task is None or self._answer_task.done()):
            return False
        if is_planned(state):
            if self._review.due:
                self._answer_task = tasks.create_task(self._review_agenda())
            return False
        awaiting = _awaiting_message(state)
        if awaiting and awaiting != self._answered_id:
            self._answered_id = awaiting
            self._answer_task = tasks.create_task(self._send_answer())
        return False

    async def _review_agenda(self) -> None:
        if not await self._review.ask(self._state.agenda):
            raise _NoAnswers

    async def _retry_turn(self, failed: Error) -> None:
        # A turn that failed before this conversation can succeed now, whatever its error says.
        failed_before, self._failed_before = self._failed_before, False
        renewed = failed_before and float(failed.details.get("reset", 0.0)) <= time.time()
        if failed.code in ALLOWANCE_CODES and not renewed:
            raise rate_limited_error(failed)
        hopeless = not failed.retryable and not failed_before
        if hopeless or self._retried_at == len(self._state.messages):
            raise InferenceFailed(failed.message)
        self._retried_at = len(self._state.messages)
        self._retry_id = uuid.uuid4().hex
        self._output.note(f"{failed.message} Retrying.")
        await self._room.send(TurnRetry(id=self._retry_id))

    async def _send_answer(self) -> None:
        taken = await take_answer(self._answers, self._output, self._state)
        refusal, self._refusal = self._refusal, ""
        self._answer = None
        self._has_answered = self._has_answered or taken is not None
        match taken:
            case None if not self._has_answered:
                raise _NoAnswers
            case None if refusal:
                raise RecordingRefused(f"{refusal} The interview is saved; resume it to go on.")
            case None:
                self._ending = True
                self._output.note("no more answers: ending the interview")
                await self._room.send(InterviewEnd(id=uuid.uuid4().hex))
            case TypedAnswer(text=text):
                self._answer, self._answer_id = taken, uuid.uuid4().hex
                await self._room.send(UserMessage(id=self._answer_id, text=text))
            case RecordedAnswer(pcm=pcm):
                recording = self._room.start_recording()
                self._answer, self._answer_id = taken, recording.id
                with contextlib.suppress(RecordingRefused):  # reported by the room as well
                    recording.feed(pcm)
                    await recording.stop()
            case request:
                self._answer_id = request.id
                self._ending = isinstance(request, InterviewEnd)
                if isinstance(request, HintRequest):
                    self._answered_id = ""  # a hint may come while the next answer is typed
                await self._room.send(request)


def _awaiting_message(state: RoomState) -> str:
    """Return the id of the open question or, if a request was made, of the reply after which the
    question waits again. Return an empty string if nothing waits for an answer."""
    if open_question(state) is None:
        return ""
    last = next(m for m in reversed(state.messages) if m.kind is not MessageKind.HINT)
    return "" if last.kind is MessageKind.REQUEST else last.id
