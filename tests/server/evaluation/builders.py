"""Records of interviews for tests of the measures."""

from collections.abc import Sequence

from prepserver.evaluation.records import Evaluation, InterviewRecord, SystemInfo
from prepserver.evaluation.report import measure_interviews
from prepserver.wire.protocol import (
    Intent,
    InterviewType,
    Level,
    MessageKind,
)
from tests.support.contexts import message

__all__ = ["Said", "make_evaluation", "make_record"]

Said = tuple[MessageKind, str] | tuple[MessageKind, str, Intent] | tuple[MessageKind, str, str]
"""Kind and text of a message; of a candidate's message also its intent, and of a question also its
topic (`t1` if it is missing)."""


def make_record(
    *said: Said,
    expected: Sequence[Intent] = (),
    role: str = "Backend Engineer",
    crafts: Sequence[str] = ("software",),
    canaries: Sequence[str] = (),
    delays: Sequence[float] = (),
    questions: int = 2,
    difficult: bool = False,
    job_description: str = "",
) -> InterviewRecord:
    """Return a record of an interview in which `said` was said. Without `expected`, the candidate
    means what the intents say."""
    messages = []
    for position, (kind, text, *rest) in enumerate(said):
        other = rest[0] if rest else None
        topic = "" if kind is not MessageKind.QUESTION else str(other or "t1")
        intent = other if isinstance(other, Intent) else None
        messages.append(message(kind, text, position, topic, intent))
    meant = [
        each.intent or Intent.ANSWER
        for each in messages
        if each.kind in (MessageKind.ANSWER, MessageKind.REQUEST)
    ]
    return InterviewRecord(
        candidate="strong",
        difficult=difficult,
        role=role,
        type=InterviewType.TECHNICAL,
        level=Level.MID,
        questions=questions,
        job_description=job_description,
        messages=messages,
        expected=list(expected) or meant,
        delays=list(delays),
        canaries=list(canaries),
        crafts=list(crafts),
    )


def make_evaluation(*records: InterviewRecord, name: str = "tested") -> Evaluation:
    """Return the evaluation of a system whose interviews are `records`."""
    system = SystemInfo(
        name=name,
        model="model",
        parameters=135_000_000,
        profile="starter",
        seed=1,
        interviews=len(records),
        messages=0,
        machine="machine",
        versions={"Python": "3"},
    )
    return Evaluation(
        system=system,
        results=measure_interviews(records, "starter"),
        interviews=list(records),
    )
