"""What an answer covered of the points of a good answer."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prepserver.interview.dialogue.coverage import (
    MAX_EVIDENCE,
    Assessment,
    Coverage,
    assess_answer,
)
from prepserver.interview.dialogue.cues import Cue
from prepserver.interview.questions.bank import Question, load_bank
from tests.server.interview.dialogue.corpus import read_answers

QUESTION = "How did you move the service to a queue?"
POINTS = ("why you moved it", "how you checked it", "what you would do differently")


def _read(name: str) -> Iterator[tuple[Question, str, str, str]]:
    """Yield the question, level, labels and text of each answer."""
    for id, level, labels, text in read_answers(name):
        yield load_bank().get_questions([id])[0], level, labels, text


def _assess(question: Question, text: str) -> Assessment:
    return assess_answer(question.text, question.listen_for, text)


@pytest.mark.parametrize(
    ("name", "agreed", "invented", "found"),
    [("answers-tuning", 0.82, 0.05, 0.58), ("answers-held", 0.75, 0.1, 0.5)],
)
def test_points_agree_with_a_reader(
    name: str, agreed: float, invented: float, found: float
) -> None:
    """Most points are told from missing ones, and few missing points are claimed."""
    counts: Counter[tuple[bool, bool]] = Counter()
    for question, _, labels, text in _read(name):
        for point, label in zip(_assess(question, text).points, labels, strict=True):
            counts[label != "m", point.coverage is not Coverage.MISSING] += 1
    present, missing = (counts[each, True] + counts[each, False] for each in (True, False))
    assert (counts[True, True] + counts[False, False]) / counts.total() >= agreed
    assert counts[False, True] / missing <= invented
    assert counts[True, True] / present >= found


@pytest.mark.parametrize("name", ["answers-tuning", "answers-held"])
def test_relevance_ranks_good_answers_first(name: str) -> None:
    """A strong answer is more relevant than vague and foreign ones in nearly all pairs."""
    by_id: dict[str, dict[str, float]] = {}
    for question, level, _, text in _read(name):
        by_id.setdefault(question.id, {})[level] = _assess(question, text).relevance
    pairs = [each["strong"] > each[worse] for each in by_id.values() for worse in ("vague", "off")]
    assert sum(pairs) / len(pairs) >= 0.95


@pytest.mark.parametrize("name", ["answers-tuning", "answers-held"])
def test_levels_are_told_apart(name: str) -> None:
    """No strong answer is called vague, no other answer strong, and most vague answers vague."""
    vague: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for question, level, _, text in _read(name):
        assessment = _assess(question, text)
        assert level == "strong" or not assessment.strong, text
        vague[level] += assessment.vague
        total[level] += 1
    assert vague["strong"] == 0
    assert vague["vague"] / total["vague"] >= 0.7
    assert vague["average"] / total["average"] <= 0.3


def test_evidence_is_a_quote() -> None:
    """The evidence of each point occurs in the answer letter by letter."""
    for name in ("answers-tuning", "answers-held"):
        for question, _, _, text in _read(name):
            for point in _assess(question, text).points:
                assert point.evidence in text
                assert bool(point.evidence) is (point.coverage is not Coverage.MISSING)
                assert len(point.evidence) <= MAX_EVIDENCE


@pytest.mark.parametrize(
    ("answer", "cue"),
    [
        ("I rebuilt the importer on my own.", Cue.OWN_SHARE),
        ("It was slow because every row was locked.", Cue.REASON),
        ("Latency dropped a lot.", Cue.RESULT),
        ("We compared both versions for a week.", Cue.CHECK),
        ("Next time I would start smaller.", Cue.LEARNING),
        ("I asked the customer.", Cue.PEOPLE),
        ("We considered a cron job instead.", Cue.ALTERNATIVE),
        ("The worst case was a crash.", Cue.RISK),
        ("It took three weeks.", Cue.TIME),
        ("It was 40 percent.", Cue.NUMBER),
        ("We moved to PostgreSQL.", Cue.NAME),
    ],
)
def test_cues_are_found(answer: str, cue: Cue) -> None:
    """Each kind of information is found by the words that give it."""
    assert cue in assess_answer(QUESTION, POINTS, answer).cues


def test_points_are_covered_by_cues() -> None:
    """A reason, a check and a lesson cover points that name them in other words."""
    answer = (
        "We moved the service because the importer blocked it. "
        "I measured the queue's lag for a week. "
        "Next time I would move one service at a time."
    )
    assessment = assess_answer(QUESTION, POINTS, answer)
    assert [each.coverage for each in assessment.points] != [Coverage.MISSING] * 3
    assert assessment.points[0].evidence.startswith("We moved the service because")
    assert assess_answer(QUESTION, POINTS, "I like pizza.").open_points == POINTS


@pytest.mark.parametrize("answer", ["", " ", "...", "\n\n", "?!", "\x00", "🙂"])
def test_an_empty_answer_covers_nothing(answer: str) -> None:
    """Text without words is vague, irrelevant and covers no point."""
    assessment = assess_answer(QUESTION, POINTS, answer)
    assert (assessment.vague, assessment.strong, assessment.relevance) == (True, False, 0.0)
    assert assessment.open_points == POINTS


@pytest.mark.parametrize("points", [(), ("",), ("what you did",), ("who", "when")])
def test_points_of_function_words_are_accepted(points: tuple[str, ...]) -> None:
    """A point without a word of its own is assessed by its cues alone, and there may be none."""
    assessment = assess_answer("", points, "I moved it in three weeks with Anna.")
    assert [each.point for each in assessment.points] == list(points)
    assert 0 <= assessment.relevance <= 1


@pytest.mark.parametrize("piece", ["we used a queue ", "a", "I. ", "1 ", "\n", ".", "Queue,"])
def test_huge_answers_are_assessed_at_once(piece: str) -> None:
    """The time is proportional to the length of the answer."""
    text = (piece * 40_000)[:40_000]
    assess_answer(QUESTION, POINTS, "warm up")
    start = time.process_time()
    assess_answer(QUESTION, POINTS, text)
    assert time.process_time() - start < 1


@settings(max_examples=60)
@given(st.text(max_size=300), st.lists(st.text(max_size=40), max_size=4), st.text(max_size=600))
def test_any_text_is_assessed(question: str, points: list[str], answer: str) -> None:
    """No text makes the rules fail, and evidence is always a quote."""
    assessment = assess_answer(question, points, answer)
    assert all(each.evidence in answer for each in assessment.points)
    assert 0 <= assessment.relevance <= 1
