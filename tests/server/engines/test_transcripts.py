"""What whisper made up is set aside with a reason; what was said is kept."""

import pytest

from prepserver.engines.transcripts import UNLIKELY, filter_hallucinations, repeats, without_marks
from prepserver.engines.whisper.transcriber import RawSegment


def heard(text: str, probability: float = 0.9, start: float = 0.0) -> RawSegment:
    return RawSegment(start, start + 1.0, text, probability)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" [BLANK_AUDIO]", ""),
        ("(music)", ""),
        ("*coughs* I agree", "I agree"),
        ("♪ la la la ♪", ""),
        (" I [inaudible] would  add an index.", "I would add an index."),
        ("f(x) is O(n)", "f is O"),
    ],
)
def test_marks_of_sounds_are_taken_out(text: str, words: str) -> None:
    """Only what was spoken stays, and nobody speaks brackets."""
    assert without_marks(text) == words


@pytest.mark.parametrize(
    "text",
    [
        "so so so so so so so so",
        "Thank you. Thank you. Thank you. Thank you. Thank you.",
        "I think we should go. " * 6,
        "and we shipped it on a Monday and we shipped it on a Monday " * 4,
        "Well, the the the the the the the the the the thing",
    ],
)
def test_a_loop_is_a_repetition(text: str) -> None:
    """One phrase that fills the text and does not end."""
    assert repeats(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No.",
        "No, no, no, no.",
        "It was very, very, very important to us.",
        "We tested it, we deployed it, we tested it again, and we deployed it again.",
        "the more you test the more you know the more you ship",
        "In my last project I led a team of four engineers to migrate our payment service from a "
        "monolith to microservices. We started with the ledger, because it had the clearest "
        "boundary, and we ran both systems side by side for six weeks.",
    ],
)
def test_how_people_speak_is_no_repetition(text: str) -> None:
    """Emphasis, stutter and parallel clauses are speech."""
    assert not repeats(text)


def test_each_doubt_has_its_reason_and_the_rest_is_kept_in_order() -> None:
    """Silence, low probability and loops are told apart."""
    kept, dropped = filter_hallucinations(
        [
            heard(" I would add an index.", start=0),
            heard("[BLANK_AUDIO]", start=1),
            heard("Thanks for watching!", UNLIKELY - 0.01, start=2),
            heard("on on on on on on on", start=3),
            heard(" On the identifier.", UNLIKELY, start=4),
        ]
    )
    assert [segment.text for segment in kept] == ["I would add an index.", "On the identifier."]
    assert [(segment.start, segment.text, segment.drop_reason) for segment in dropped] == [
        (1, "[BLANK_AUDIO]", "silence"),
        (2, "Thanks for watching!", "unlikely"),
        (3, "on on on on on on on", "repetition"),
    ]
    assert all(segment.drop_reason == "" for segment in kept)


def test_a_sentence_said_again_at_once_is_a_loop_and_a_short_word_is_not() -> None:
    """Whisper repeats whole segments; people repeat "yes"."""
    kept, dropped = filter_hallucinations(
        [heard("We shipped on Monday."), heard("we shipped on Monday")]
    )
    assert (len(kept), dropped[0].drop_reason) == (1, "repetition")
    kept, dropped = filter_hallucinations([heard("Yes."), heard("Yes.")])
    assert (len(kept), len(dropped)) == (2, 0)
