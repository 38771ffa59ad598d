"""What the interviewer does after an answer.

The first rule whose condition holds decides:

| # | condition                                                  | move                  |
|---|------------------------------------------------------------|-----------------------|
| 1 | no question is left, or less than `CLOSING_MINUTES`        | close                 |
| 2 | the candidate skipped                                      | next                  |
| 3 | a follow-up would cost a later topic its question or time  | next                  |
| 4 | "don't know", and the topic was not made easier yet        | easier                |
| 5 | "don't know"                                               | next                  |
| 6 | `MAX_PROBES` probes were made on the topic                 | next                  |
| 7 | the answer is vague, and nothing concrete was asked for yet| concrete              |
| 8 | the answer is vague                                        | next                  |
| 9 | the answer is strong, and the topic was not deepened yet   | deeper                |
|10 | the answer is strong                                       | next                  |
|11 | a point is open that was not probed yet                    | probe for that point  |
|12 | otherwise                                                  | next                  |

"Next" closes the interview if no topic is left. Moves to a concrete or deeper question are probes
as well. A model may name the point that is missing; it changes the point of rule 11, and no limit.
"""

import enum

from msgspec import Struct

from prepserver.interview.dialogue.coverage import Assessment
from prepserver.wire.protocol import Intent

__all__ = ["PROBES", "Move", "MoveKind", "Situation", "decide_move"]

MAX_PROBES = 2
"""Maximum number of probes on one topic."""

CLOSING_MINUTES = 1.0
"""Minutes that are kept for the closing."""

QUESTION_MINUTES = 2.0
"""Minutes that are kept for each question of a later topic, and that a follow-up needs."""


class MoveKind(enum.StrEnum):
    """Kind of the interviewer's next question."""

    PROBE = "probe"
    """Ask for a point that is open."""
    CONCRETE = "concrete"
    """Ask for something concrete."""
    DEEPER = "deeper"
    """Ask the harder form of the question."""
    EASIER = "easier"
    """Ask the easier form of the question."""
    NEXT = "next"
    """Ask the question of the next topic."""
    CLOSE = "close"
    """End the interview."""


PROBES = frozenset((MoveKind.PROBE, MoveKind.CONCRETE, MoveKind.DEEPER))
"""Kinds of moves that count as probes."""


class Move(Struct, frozen=True):
    """The interviewer's next move."""

    kind: MoveKind
    point: str = ""
    """Point to ask for, if the move is a probe for a point."""


class Situation(Struct, frozen=True, kw_only=True):
    """State of an interview after a message that used up a question."""

    intent: Intent | None = None
    """Meaning of the message; None counts as an answer."""
    assessment: Assessment
    """What the message covered of the topic."""
    moves: tuple[Move, ...] = ()
    """Moves made on the topic so far, after its first question."""
    questions_left: int
    """Number of questions that may still be asked."""
    minutes_left: float | None = None
    """Minutes until the end of the interview, or None if its length is not limited."""
    topics_left: int
    """Number of topics that were not begun yet."""
    reserved: int = 0
    """Number of questions, beyond the first of each topic, that are kept for later topics."""

    def _made(self, kind: MoveKind) -> bool:
        return any(move.kind is kind for move in self.moves)


def decide_move(situation: Situation, suggested: str = "") -> Move:
    """Return the interviewer's next move; the table of this module states the rules.

    `suggested` is the point that a model finds missing, if there is a model. Raises ValueError if
    the message did not use up the question, such as a request to repeat it.
    """
    intent = situation.intent or Intent.ANSWER
    if intent not in (Intent.ANSWER, Intent.DONT_KNOW, Intent.SKIP):
        raise ValueError(
            f"a message with the intent {intent!r} leaves the question open: answer it"
        )
    if situation.questions_left < 1 or not _has_minutes(situation, CLOSING_MINUTES):
        return Move(MoveKind.CLOSE)
    follow_up = None
    if intent is not Intent.SKIP and _has_room(situation):
        follow_up = _follow_up(situation, intent, suggested)
    return follow_up or Move(MoveKind.NEXT if situation.topics_left > 0 else MoveKind.CLOSE)


def _follow_up(situation: Situation, intent: Intent, suggested: str) -> Move | None:
    """Return the follow-up on the topic (rules 4 to 12), or None if the topic is done."""
    assessment = situation.assessment
    if intent is Intent.DONT_KNOW:
        return None if situation._made(MoveKind.EASIER) else Move(MoveKind.EASIER)
    if sum(move.kind in PROBES for move in situation.moves) >= MAX_PROBES:
        return None
    if assessment.vague:
        return None if situation._made(MoveKind.CONCRETE) else Move(MoveKind.CONCRETE)
    if assessment.strong:
        return None if situation._made(MoveKind.DEEPER) else Move(MoveKind.DEEPER)
    probed = {move.point for move in situation.moves}
    wanted = (suggested.strip(), *assessment.open_points)
    point = next((each for each in wanted if each and each not in probed), None)
    return None if point is None else Move(MoveKind.PROBE, point)


def _has_room(situation: Situation) -> bool:
    """Return True if a follow-up leaves the questions and the time that later topics need."""
    needed = CLOSING_MINUTES + QUESTION_MINUTES * (situation.topics_left + 1)
    kept = situation.topics_left + situation.reserved
    return situation.questions_left > kept and _has_minutes(situation, needed)


def _has_minutes(situation: Situation, minutes: float) -> bool:
    return situation.minutes_left is None or situation.minutes_left >= minutes
