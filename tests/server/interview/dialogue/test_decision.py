"""The interviewer's next move."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prepserver.interview.dialogue.coverage import (
    STRONG_WORDS,
    Assessment,
    Coverage,
    CoveredPoint,
)
from prepserver.interview.dialogue.cues import Cue
from prepserver.interview.dialogue.decision import (
    CLOSING_MINUTES,
    MAX_PROBES,
    PROBES,
    QUESTION_MINUTES,
    Move,
    MoveKind,
    Situation,
    decide_move,
)
from prepserver.wire.protocol import Intent

POINTS = ("the reason", "the result", "the check")


def _assessment(missing: int = 1, *, vague: bool = False, strong: bool = False) -> Assessment:
    """Return an assessment that leaves the last `missing` of the points open."""
    first_missing = len(POINTS) - missing
    return Assessment(
        points=tuple(
            CoveredPoint(point, Coverage.MISSING if index >= first_missing else Coverage.COVERED)
            for index, point in enumerate(POINTS)
        ),
        relevance=0.5,
        vague=vague,
        cues=frozenset((Cue.NUMBER, Cue.RESULT, Cue.REASON)) if strong else frozenset(),
        words=STRONG_WORDS if strong else 10,
    )


AVERAGE = _assessment()
ALL_COVERED = _assessment(0)
VAGUE = _assessment(3, vague=True)
STRONG = _assessment(0, strong=True)

EASIER, CONCRETE, DEEPER = (
    Move(kind) for kind in (MoveKind.EASIER, MoveKind.CONCRETE, MoveKind.DEEPER)
)
NEXT, CLOSE = Move(MoveKind.NEXT), Move(MoveKind.CLOSE)
CHECK, RESULT = Move(MoveKind.PROBE, "the check"), Move(MoveKind.PROBE, "the result")


@pytest.mark.parametrize(
    ("intent", "assessment", "moves", "expected"),
    [
        (Intent.SKIP, AVERAGE, (), NEXT),
        (Intent.SKIP, VAGUE, (EASIER,), NEXT),
        (Intent.DONT_KNOW, VAGUE, (), EASIER),
        (Intent.DONT_KNOW, STRONG, (), EASIER),
        (Intent.DONT_KNOW, VAGUE, (CHECK, RESULT), EASIER),
        (Intent.DONT_KNOW, VAGUE, (EASIER,), NEXT),
        (Intent.DONT_KNOW, VAGUE, (EASIER, CONCRETE), NEXT),
        (Intent.ANSWER, VAGUE, (), CONCRETE),
        (None, VAGUE, (), CONCRETE),
        (Intent.ANSWER, VAGUE, (CONCRETE,), NEXT),
        (Intent.ANSWER, VAGUE, (CHECK,), CONCRETE),
        (Intent.ANSWER, VAGUE, (CHECK, RESULT), NEXT),
        (Intent.ANSWER, VAGUE, (EASIER,), CONCRETE),
        (Intent.ANSWER, STRONG, (), DEEPER),
        (Intent.ANSWER, STRONG, (DEEPER,), NEXT),
        (Intent.ANSWER, STRONG, (CONCRETE,), DEEPER),
        (Intent.ANSWER, STRONG, (CONCRETE, CHECK), NEXT),
        (Intent.ANSWER, AVERAGE, (), CHECK),
        (None, AVERAGE, (), CHECK),
        (Intent.ANSWER, AVERAGE, (CHECK,), NEXT),
        (Intent.ANSWER, AVERAGE, (EASIER,), CHECK),
        (Intent.ANSWER, AVERAGE, (DEEPER,), CHECK),
        (Intent.ANSWER, AVERAGE, (CONCRETE, DEEPER), NEXT),
        (Intent.ANSWER, _assessment(2), (), RESULT),
        (Intent.ANSWER, _assessment(2), (RESULT,), CHECK),
        (Intent.ANSWER, _assessment(2), (RESULT, CHECK), NEXT),
        (Intent.ANSWER, ALL_COVERED, (), NEXT),
    ],
)
def test_each_rule_decides(
    intent: Intent | None, assessment: Assessment, moves: tuple[Move, ...], expected: Move
) -> None:
    """With questions and time in plenty, the answer and the earlier moves decide."""
    situation = Situation(
        intent=intent, assessment=assessment, moves=moves, questions_left=10, topics_left=2
    )
    assert decide_move(situation) == expected


@pytest.mark.parametrize(
    ("questions", "minutes", "topics", "expected"),
    [
        (0, None, 3, CLOSE),
        (-1, None, 3, CLOSE),
        (5, CLOSING_MINUTES - 0.1, 3, CLOSE),
        (5, 0.0, 3, CLOSE),
        (5, -3.0, 3, CLOSE),
        (5, None, 5, NEXT),
        (5, None, 6, NEXT),
        (5, None, 4, CHECK),
        (1, None, 0, CHECK),
        (5, CLOSING_MINUTES, 3, NEXT),
        (5, CLOSING_MINUTES, 0, CLOSE),
        (5, CLOSING_MINUTES + 4 * QUESTION_MINUTES, 3, CHECK),
        (5, CLOSING_MINUTES + 4 * QUESTION_MINUTES - 0.1, 3, NEXT),
        (5, CLOSING_MINUTES + QUESTION_MINUTES, 0, CHECK),
    ],
)
def test_questions_and_time_limit_follow_ups(
    questions: int, minutes: float | None, topics: int, expected: Move
) -> None:
    """A follow-up never takes the question or the time of a later topic."""
    situation = Situation(
        assessment=AVERAGE, questions_left=questions, minutes_left=minutes, topics_left=topics
    )
    assert decide_move(situation) == expected


@pytest.mark.parametrize(("questions", "expected"), [(5, CHECK), (4, NEXT), (3, NEXT)])
def test_reserved_questions_limit_follow_ups(questions: int, expected: Move) -> None:
    """A follow-up never takes a question that is kept for a follow-up on a later topic."""
    situation = Situation(assessment=AVERAGE, questions_left=questions, topics_left=2, reserved=2)
    assert decide_move(situation) == expected


@pytest.mark.parametrize("intent", sorted(set(Intent) - {"answer", "dont_know", "skip"}))
def test_a_request_is_no_situation(intent: Intent) -> None:
    """A message that leaves the question open cannot be followed by another question."""
    situation = Situation(intent=intent, assessment=AVERAGE, questions_left=5, topics_left=2)
    with pytest.raises(ValueError, match="leaves the question open"):
        decide_move(situation)


@pytest.mark.parametrize(
    ("suggested", "moves", "expected"),
    [
        ("who paid for it", (), Move(MoveKind.PROBE, "who paid for it")),
        (" the result ", (), RESULT),
        ("", (), CHECK),
        ("  ", (), CHECK),
        ("the result", (RESULT,), CHECK),
        ("who paid for it", (CHECK, RESULT), NEXT),
    ],
)
def test_a_model_names_the_missing_point(
    suggested: str, moves: tuple[Move, ...], expected: Move
) -> None:
    """A suggested point takes the place of the first open one, within the same limits."""
    situation = Situation(assessment=AVERAGE, moves=moves, questions_left=9, topics_left=1)
    assert decide_move(situation, suggested) == expected


@pytest.mark.parametrize("assessment", [VAGUE, STRONG])
def test_a_suggestion_does_not_change_the_kind_of_move(assessment: Assessment) -> None:
    """A vague or strong answer is followed by its own kind of question in spite of a suggestion."""
    situation = Situation(assessment=assessment, questions_left=9, topics_left=1)
    assert decide_move(situation, "who paid for it") == decide_move(situation)


@dataclasses.dataclass(frozen=True)
class _Reply:
    """Message of a simulated candidate, and what it takes and suggests."""

    intent: Intent | None
    assessment: Assessment
    minutes: float
    suggested: str


_REPLIES = st.builds(
    _Reply,
    st.sampled_from([Intent.ANSWER, Intent.DONT_KNOW, Intent.SKIP, None]),
    st.sampled_from([AVERAGE, ALL_COVERED, VAGUE, STRONG, _assessment(2), _assessment(3)]),
    st.floats(0, 12),
    st.sampled_from(["", *POINTS, "who paid for it", "how it ended"]),
)


@given(
    st.lists(_REPLIES, min_size=60, max_size=60),
    st.integers(1, 12),
    st.integers(1, 12),
    st.one_of(st.none(), st.floats(0, 60)),
)
def test_limits_hold_in_any_interview(
    replies: list[_Reply], questions: int, topics: int, minutes: float | None
) -> None:
    """No candidate and no model makes the interviewer exceed a limit or starve a topic."""
    asked, begun = 1, 1
    moves: tuple[Move, ...] = ()
    for reply in replies:
        minutes = None if minutes is None else minutes - reply.minutes
        situation = Situation(
            intent=reply.intent,
            assessment=reply.assessment,
            moves=moves,
            questions_left=questions - asked,
            minutes_left=minutes,
            topics_left=topics - begun,
        )
        move = decide_move(situation, reply.suggested)
        if move.kind is MoveKind.CLOSE:
            break
        asked += 1
        if move.kind is MoveKind.NEXT:
            begun, moves = begun + 1, ()
            continue
        moves += (move,)
        assert sum(each.kind in PROBES for each in moves) <= MAX_PROBES
        assert len(set(moves)) == len(moves)
        assert questions - asked >= topics - begun
        if minutes is not None:
            assert minutes >= CLOSING_MINUTES + QUESTION_MINUTES * (topics - begun + 1)
    else:
        pytest.fail("the interview does not end")
    assert asked <= questions
    assert begun <= topics
    if minutes is None:
        assert begun == min(topics, questions)
