"""Pages of the evaluation."""

import msgspec

from prepserver.evaluation.records import Evaluation
from prepserver.wire.protocol import MessageKind
from tests.bench.evaluation import FIGURES, PAGE, choose_transcripts, fill_in
from tests.server.evaluation.builders import make_evaluation, make_record


def test_the_page_shows_the_committed_results() -> None:
    """The page of the evaluation shows the results in evaluation.json."""
    evaluations = msgspec.json.decode(FIGURES.read_bytes(), type=list[Evaluation])
    page = PAGE.read_text("utf-8")
    assert evaluations
    assert fill_in(page, evaluations) == page


def test_new_results_replace_the_previous_ones() -> None:
    """Only the text between the markers changes, and filling it twice changes nothing."""
    page = (
        "# Title\n<!-- results -->\nprevious\n<!-- end -->\ntext\n<!-- failures -->\n<!-- end -->\n"
    )
    evaluation = make_evaluation(make_record((MessageKind.QUESTION, "What? And why?")))
    once = fill_in(page, [evaluation])
    assert "previous" not in once
    assert "\ntext\n" in once
    assert "| one well-formed question a turn | 0.0 % (0 of 1) **missed** | >= 100 % |" in once
    assert "- #1 What? And why?" in once
    assert fill_in(once, [evaluation]) == once


def test_the_transcripts_are_the_first_of_some_candidates() -> None:
    """One interview of each chosen candidate is shown, and none with injections."""
    first = make_record((MessageKind.QUESTION, "One?"))
    second = make_record((MessageKind.QUESTION, "Two?"))
    injected = make_record((MessageKind.QUESTION, "Three?"), canaries=["pineapple"])
    other = msgspec.structs.replace(first, candidate="code")
    evaluation = make_evaluation(injected, other, first, second)
    assert choose_transcripts(evaluation).interviews == [first]
