"""Times that a candidate waits."""

import math
from collections.abc import Sequence

from prepserver.evaluation.records import InterviewRecord
from prepserver.wire.protocol import MessageKind, Role

__all__ = ["answer_delays", "percentile", "start_delays"]


def answer_delays(records: Sequence[InterviewRecord]) -> list[float]:
    """Return the seconds from the end of each message of a candidate to the first text of the
    question or reply after it."""
    return [
        delay
        for record in records
        for message, delay in _delayed(record)[1:]
        if message in (MessageKind.QUESTION, MessageKind.REPLY)
    ]


def start_delays(records: Sequence[InterviewRecord]) -> list[float]:
    """Return the seconds from the start of each interview to the first text of its first
    question."""
    return [delay for record in records for _, delay in _delayed(record)[:1]]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of the values do not exceed (nearest rank);
    None without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _delayed(record: InterviewRecord) -> list[tuple[MessageKind, float]]:
    spoken = [message.kind for message in record.messages if message.role is Role.INTERVIEWER]
    return list(zip(spoken, record.delays, strict=False))
