"""Samples of follow-up questions for readers."""

import csv
from pathlib import Path

import pytest

from prepserver.errors import BadRequest
from prepserver.evaluation.records import Evaluation
from prepserver.evaluation.samples import draw_samples, key_path, write_samples
from prepserver.wire.protocol import Intent, MessageKind
from tests.server.evaluation.builders import Said, make_evaluation, make_record


def evaluation(name: str, count: int) -> Evaluation:
    """Return results with `count` different follow-up questions and one after a request."""
    said: list[Said] = [(MessageKind.QUESTION, "What did you move?")]
    for number in range(count):
        said += [
            (MessageKind.ANSWER, f"Ledger, number {number}, =1+1.", Intent.ANSWER),
            (MessageKind.QUESTION, f"{name}: why number {number}?"),
        ]
    said += [
        (MessageKind.REQUEST, "Again?", Intent.REPEAT),
        (MessageKind.REPLY, "What did you move?"),
    ]
    return make_evaluation(make_record(*said), name=name)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_samples_do_not_name_their_system(tmp_path: Path) -> None:
    """The file for readers holds no system, and the key beside it has a line for each sample."""
    drawn = draw_samples([evaluation("one", 9), evaluation("two", 9)], 10, seed=3)
    path = tmp_path / "labels.csv"
    write_samples(drawn, path)
    rows, key = read(path), read(key_path(path))
    assert list(rows[0]) == ["number", "role", "question", "answer", "follow_up", "label"]
    assert [row["number"] for row in rows] == [row["number"] for row in key]
    for row, entry in zip(rows, key, strict=True):
        assert row["follow_up"].startswith(f"{entry['system']}: ")
        assert row["label"] == ""


def test_each_system_has_an_equal_share() -> None:
    """Each system gets the same number of samples, or one more, in a mixed order."""
    drawn = draw_samples([evaluation("one", 9), evaluation("two", 9)], 11, seed=3)
    systems = [sample.system for sample in drawn]
    assert (systems.count("one"), systems.count("two")) == (5, 6)
    assert systems != sorted(systems)
    assert drawn == draw_samples([evaluation("one", 9), evaluation("two", 9)], 11, seed=3)
    assert drawn != draw_samples([evaluation("one", 9), evaluation("two", 9)], 11, seed=4)


def test_no_follow_up_is_drawn_twice() -> None:
    """All follow-up questions can be drawn, each once, and replies to requests are none."""
    drawn = draw_samples([evaluation("one", 5)], 5, seed=1)
    assert len({sample.follow_up for sample in drawn}) == 5


def test_too_few_follow_ups_are_an_error() -> None:
    """More samples than there are follow-up questions are refused with both numbers."""
    with pytest.raises(BadRequest, match="hold 5 follow-up questions, and 6"):
        draw_samples([evaluation("one", 5)], 6, seed=1)
