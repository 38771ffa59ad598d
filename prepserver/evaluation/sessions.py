"""Interviews with scripted candidates, held in this process by the server's own objects.

Nobody waits in these interviews: a candidate answers as soon as the model has read the draft of the
answer, and hints, which need minutes of silence, never come.
"""

import asyncio

from prepserver.clock import wait_for
from prepserver.engines.scripted import record_text
from prepserver.errors import InferenceError
from prepserver.evaluation.candidates import Candidate, Utterance
from prepserver.evaluation.plans import PlannedInterview
from prepserver.evaluation.records import InterviewRecord
from prepserver.evaluation.scripts import Scripts
from prepserver.http.interviews import create_interview
from prepserver.http.services import Services
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects.connection import Connection
from prepserver.objects.instance import Instance
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.agenda import Agenda
from prepserver.wire.client_messages import ClientMessage, UserMessage, UserTyping
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Intent, MessageKind, Role

__all__ = ["USER", "hold_interview"]

USER = "evaluation"
"""User who holds all interviews."""

REPLY_TIMEOUT = 600.0
"""Maximum seconds to wait for a message of the interviewer."""

TYPING_SECONDS = 20.0
"""Maximum seconds that a candidate types, while the model reads the draft."""

MAX_MESSAGES_PER_QUESTION = 5
"""Maximum number of messages of the candidate per question, after which the interview is given
up."""

DRAFT_SHARE = 0.8
"""Share of an answer that the last draft before it holds."""


async def hold_interview(
    services: Services, scripts: Scripts, planned: PlannedInterview
) -> InterviewRecord:
    """Hold one whole interview and return its record. An interview that fails is recorded too."""
    documents = {"resume": planned.role.resume, "job": planned.role.job_description}
    documents["job"] += scripts.job_ending
    documents["resume"] += scripts.resume_ending
    for injection in planned.injections:
        if injection.place in documents:
            documents[injection.place] += f"\n\n{injection.text}"
    request = wire.CreateInterview(
        id=planned.name,
        role=planned.role.name,
        company=planned.role.company,
        type=planned.type,
        level=planned.level,
        questions=planned.questions,
        job_description=documents["job"],
        resume=documents["resume"],
    )
    spoken = [one for one in planned.injections if one.place not in documents]
    candidate = Candidate(scripts, planned.style, planned.role, planned.name, spoken)
    session = _Session(services)
    try:
        failed = await session.run(request, candidate)
    finally:
        await session.leave()
    return InterviewRecord(
        candidate=planned.style.name,
        difficult=planned.style.difficult or bool(planned.injections),
        role=planned.role.name,
        company=planned.role.company,
        type=planned.type,
        level=planned.level,
        questions=planned.questions,
        job_description=request.job_description,
        resume=request.resume,
        messages=session.messages,
        expected=session.expected,
        delays=session.delays,
        canaries=[canary for one in planned.injections for canary in one.canaries],
        crafts=list(planned.role.crafts),
        agenda=session.agenda,
        failed=failed,
    )


class _Session:
    """Client in the room of one interview, and the record of what was said."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._connection = Connection(USER)
        self._instance: Instance | None = None
        self._received: asyncio.Queue[tuple[float, wire.ServerMessages]] = asyncio.Queue()
        self._sent_at = 0.0
        self._first_text: float | None = None
        self._id = ""
        self.messages: list[wire.Message] = []
        self.expected: list[Intent] = []
        self.delays: list[float] = []
        self.agenda: Agenda | None = None

    async def run(self, request: wire.CreateInterview, candidate: Candidate) -> str:
        """Hold the interview; return the error that ended it early, or an empty string."""
        registry = self._services.registry
        limit = request.questions * MAX_MESSAGES_PER_QUESTION
        self._sent_at = self._services.clock.monotonic()
        view = await create_interview(registry, USER, request)
        self._id = view.id
        quota = await self._services.rate_limiter.quota(USER)
        self._connection.state = {"user": USER, "quota": quota}
        self._connection.attach(self)
        self._instance = registry.connect(InterviewStub.kind, view.id, self._connection)
        question: wire.Message | None = None
        try:
            while (message := await self._next_message()).kind is not MessageKind.SUMMARY:
                if message.kind is MessageKind.QUESTION:
                    question = message
                if question is None or message.kind is MessageKind.CLOSING:
                    continue
                if len(self.expected) == limit:
                    return f"the interview did not end after {limit} messages of the candidate"
                await self._say(candidate.reply(question))
        except InferenceError as error:
            return error.message
        except TimeoutError:
            return f"the interviewer said nothing for {REPLY_TIMEOUT:g} seconds"
        self.agenda = await registry.call(InterviewStub(view.id).agenda())
        return ""

    async def leave(self) -> None:
        """Leave the room and delete the interview."""
        if self._instance is not None:
            self._instance.disconnect(self._connection)
        if self._id:
            await self._services.registry.call(UserInterviewsStub(USER).delete(self._id))

    # --- Socket -------------------------------------------------------------------------------

    def write(self, message: bytes) -> bool:
        decoded = codec.decode_server(message)
        if decoded is not None:
            self._received.put_nowait((self._services.clock.monotonic(), decoded))
        return True

    def close(self, code: int, reason: str) -> None:
        return

    # --- Conversation -------------------------------------------------------------------------

    async def _next_message(self) -> wire.Message:
        """Return the interviewer's next complete message, and record it with those before it.

        Raises InferenceError if the interviewer fails, and TimeoutError.
        """
        while True:
            at, received = await wait_for(self._services.clock, self._received.get(), REPLY_TIMEOUT)
            match received:
                case wire.Delta():
                    self._first_text = self._first_text or at
                case wire.DeltaDropped():
                    self._first_text = None
                case wire.Snapshot(messages=messages, failed=None):
                    for message in messages:
                        self._record(message, at)
                    if messages:
                        return messages[-1]
                case wire.InterviewMessage(message=message):
                    new = self._record(message, at)
                    if new and message.role is Role.INTERVIEWER:
                        return message
                case wire.Failure(message=text) | wire.Snapshot(failed=wire.Error(message=text)):
                    raise InferenceError(text, code=ErrorCode.TURN_FAILED)

    def _record(self, message: wire.Message, at: float) -> bool:
        """Store a message; one that is known is replaced. Return True if it is new."""
        for place, known in enumerate(self.messages):
            if known.id == message.id:
                self.messages[place] = message
                return False
        self.messages.append(message)
        if message.role is Role.INTERVIEWER:
            self.delays.append((self._first_text or at) - self._sent_at)
            self._first_text, self._sent_at = None, at
        return True

    async def _say(self, utterance: Utterance) -> None:
        self.expected.append(utterance.intent)
        if utterance.spoken:
            self._sent_at = self._services.clock.monotonic()
            await self._send(record_text(utterance.text))
            return
        draft = utterance.text[: int(DRAFT_SHARE * len(utterance.text))]
        await self._send(UserTyping(draft=draft))
        await self._wait_for_reading()
        self._sent_at = self._services.clock.monotonic()
        await self._send(UserMessage(text=utterance.text))

    async def _send(self, message: ClientMessage | bytes) -> None:
        assert self._instance is not None
        frame = message if isinstance(message, bytes) else codec.encode(message).decode()
        await self._instance.deliver(self._connection, frame)

    async def _wait_for_reading(self) -> None:
        """Wait until the model has read the draft, as it does while a candidate types."""
        assert self._instance is not None
        clock = self._services.clock
        end = clock.monotonic() + TYPING_SECONDS
        while not self._instance.idle and clock.monotonic() < end:
            await clock.sleep(0.01)
