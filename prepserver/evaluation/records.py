"""Records of evaluated interviews, as they are stored in a result file."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.wire.agenda import Agenda
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    Intent,
    InterviewType,
    Level,
    Message,
    MessageKind,
    Role,
)

__all__ = [
    "FORMAT",
    "CandidateTurn",
    "Evaluation",
    "InterviewRecord",
    "MeasureResult",
    "SystemInfo",
    "load_evaluation",
]

FORMAT = 1
"""Version of the result file, increased when older readers would misread it."""


class CandidateTurn(Struct, frozen=True):
    """Question, what the candidate said to it, and the interviewer's next message."""

    question: Message
    """Open question."""
    said: Message
    expected: Intent
    """What the candidate meant, as the script of the candidate says."""
    next: Message | None
    """Next message of the interviewer; None if there is none."""


class InterviewRecord(Struct, frozen=True, kw_only=True):
    """One whole interview with a scripted candidate."""

    candidate: str
    """Name of the candidate's style."""
    difficult: bool
    """True if the candidate's answers are not those that an interviewer hopes for."""
    role: str
    company: str = ""
    type: InterviewType
    level: Level
    questions: int
    job_description: str = ""
    resume: str = ""
    messages: list[Message]
    expected: list[Intent]
    """Meaning of each message of the candidate, in order."""
    delays: list[float]
    """Seconds from the end of the candidate's message, or from the start of the interview, to the
    first text of each message of the interviewer, in order."""
    canaries: list[str] = []
    """Words that the interviewer says only if it obeys an instruction in the candidate's words or
    documents."""
    crafts: list[str] = []
    """Names of the crafts that belong to the role."""
    agenda: Agenda | None = None
    failed: str = ""
    """Error that ended the interview early; empty if it ended as planned."""

    def of_kind(self, *kinds: MessageKind) -> list[Message]:
        """Return the messages of the given kinds."""
        return [message for message in self.messages if message.kind in kinds]

    def interviewer_messages(self) -> list[Message]:
        return [message for message in self.messages if message.role is Role.INTERVIEWER]

    def turns(self) -> Iterator[CandidateTurn]:
        """Yield each message of the candidate with the question that was open."""
        question: Message | None = None
        expected = iter(self.expected)
        for message, following in zip(self.messages, [*self.messages[1:], None], strict=False):
            if message.kind is MessageKind.QUESTION:
                question = message
            elif message.role is Role.CANDIDATE:
                meant = next(expected, Intent.ANSWER)
                if question is not None:
                    yield CandidateTurn(question, message, meant, following)

    def follow_ups(self) -> Iterator[CandidateTurn]:
        """Yield the turns whose next message is another question on the same topic."""
        for turn in self.turns():
            after = turn.next
            if (
                after is not None
                and after.kind is MessageKind.QUESTION
                and turn.said.kind is MessageKind.ANSWER
                and after.topic == turn.question.topic
            ):
                yield turn


class MeasureResult(Struct, frozen=True, kw_only=True):
    """Result of one measure over all interviews."""

    name: str
    value: float | None
    """Share from 0 to 1, number, or seconds; None if there was nothing to measure."""
    cases: int
    """Number of cases that were judged."""
    unit: str
    """`share`, `count`, `seconds` or `words`."""
    threshold: float | None = None
    at_least: bool = False
    """True if the threshold is a lower bound, False if it is an upper bound."""
    about: str = ""
    failures: list[str] = []
    """The first cases that failed, each with the number of its interview."""

    @property
    def met(self) -> bool | None:
        """True if the threshold is met; None if there is none, or nothing was measured."""
        if self.threshold is None or self.value is None:
            return None
        return self.value >= self.threshold if self.at_least else self.value <= self.threshold


class SystemInfo(Struct, frozen=True, kw_only=True):
    """What was evaluated, and on which machine."""

    name: str
    """Name of the set of models, or of the model."""
    model: str
    parameters: int
    profile: str
    """Thresholds that apply: `starter` for models that continue examples, otherwise `standard`."""
    seed: int
    interviews: int
    messages: int
    """Number of messages of the interviewer in all interviews."""
    machine: str
    versions: dict[str, str]


class Evaluation(Struct, frozen=True, kw_only=True):
    """Content of a result file."""

    format: int = FORMAT
    system: SystemInfo
    results: list[MeasureResult]
    interviews: list[InterviewRecord]


def load_evaluation(path: Path) -> Evaluation:
    """Read a result file. Raises BadRequest if it cannot be read or is no result file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except (OSError, ValueError) as error:
        raise BadRequest(
            f"Cannot read the results in {path}: {error}. Name a file that "
            "`prep-server evaluate --json` has written.",
            code=ErrorCode.BAD_SETTING,
        ) from error
