"""Cases that a measure judges."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from prepserver.evaluation.records import InterviewRecord

__all__ = ["Case", "Rule", "judge"]


class Case(Struct, frozen=True):
    """One thing that a rule judged."""

    text: str
    """Words that show the case to a reader."""
    failed: bool
    interview: int = 0
    """Number of the interview, counted from 1."""


Rule = Callable[[InterviewRecord], Iterable[Case]]
"""Pure function that judges one interview."""


def judge(rule: Rule, records: Sequence[InterviewRecord]) -> Iterator[Case]:
    """Yield the cases of all interviews."""
    for number, record in enumerate(records, 1):
        for case in rule(record):
            yield Case(case.text, case.failed, number)
