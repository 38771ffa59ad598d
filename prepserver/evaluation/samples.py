"""Samples of follow-up questions for human readers, who do not learn which system wrote them."""

import csv
import random
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.evaluation.records import Evaluation
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Intent

__all__ = ["Sample", "draw_samples", "key_path", "write_samples"]


class Sample(Struct, frozen=True):
    """Follow-up question with what a reader needs to judge it."""

    system: str
    candidate: str
    interview: int
    role: str
    question: str
    answer: str
    follow_up: str


def draw_samples(evaluations: Sequence[Evaluation], count: int, seed: int) -> list[Sample]:
    """Draw `count` follow-up questions, equally many of each evaluation, in a random order.

    Requests and the replies to them are no follow-ups; questions in the bank's own words are. A
    follow-up is drawn once even if several interviews contain it. Raises BadRequest if an
    evaluation has too few.
    """
    rng = random.Random(f"samples {seed}")
    drawn: list[Sample] = []
    for number, evaluation in enumerate(evaluations):
        share = (count + number) // len(evaluations)
        found = list(dict.fromkeys(_follow_ups(evaluation)))
        if len(found) < share:
            raise BadRequest(
                f"The results of {evaluation.system.name} hold {len(found)} follow-up questions, "
                f"and {share} are needed. Draw fewer, or hold more interviews.",
                code=ErrorCode.BAD_SETTING,
            )
        drawn += rng.sample(found, share)
    rng.shuffle(drawn)
    return drawn


def write_samples(samples: Sequence[Sample], path: Path) -> None:
    """Write the samples as CSV with an empty column for the label, and the key to them beside."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "role", "question", "answer", "follow_up", "label"))
        for number, one in enumerate(samples, 1):
            writer.writerow((number, one.role, one.question, one.answer, one.follow_up, ""))
    with key_path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "system", "interview", "candidate"))
        for number, one in enumerate(samples, 1):
            writer.writerow((number, one.system, one.interview, one.candidate))


def key_path(path: Path) -> Path:
    """Return the path of the key to a file of samples: `labels.key.csv` for `labels.csv`."""
    return path.with_name(f"{path.stem}.key{path.suffix}")


def _follow_ups(evaluation: Evaluation) -> list[Sample]:
    return [
        Sample(
            system=evaluation.system.name,
            candidate=record.candidate,
            interview=number,
            role=record.role,
            question=turn.question.text,
            answer=turn.said.text,
            follow_up=turn.next.text,
        )
        for number, record in enumerate(evaluation.interviews, 1)
        for turn in record.follow_ups()
        if turn.next is not None and turn.expected in (Intent.ANSWER, Intent.DONT_KNOW)
    ]
