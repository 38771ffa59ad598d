"""Changes of an agenda."""

import pytest

from prepcli.client.agenda import parse_edit, reason_text
from prepcli.errors import UsageError
from prepserver.wire.agenda import Agenda, EditedTopic, TopicStatus, Where
from prepserver.wire.limits import MAX_MINUTES, MAX_QUESTION, MAX_SKILL
from tests.cli.client.builders import make_agenda, make_topic

ONE, TWO, THREE = (EditedTopic(id=f"t{number}") for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("line", "topics"),
    [
        ("remove 2", [ONE, THREE]),
        ("  REMOVE   2 ", [ONE, THREE]),
        ("move 3 1", [THREE, ONE, TWO]),
        ("move 1 3", [TWO, THREE, ONE]),
        ("move 2 2", [ONE, TWO, THREE]),
        ("add kafka", [ONE, TWO, THREE, EditedTopic(skill="kafka")]),
        ("add  Event\n sourcing", [ONE, TWO, THREE, EditedTopic(skill="Event sourcing")]),
        ("add How do you test?", [ONE, TWO, THREE, EditedTopic(question="How do you test?")]),
        ("change 2 How  so?", [ONE, EditedTopic(id="t2", question="How so?"), THREE]),
        ("minutes 3 10", [ONE, TWO, EditedTopic(id="t3", minutes=10)]),
    ],
)
def test_a_command_changes_the_planned_topics(line: str, topics: list[EditedTopic]) -> None:
    """A command returns all planned topics with the change."""
    assert parse_edit(make_agenda(3), line) == topics


@pytest.mark.parametrize(
    ("line", "keyword"),
    [
        ("delete 2", "delete"),
        ("remove", "remove 2"),
        ("remove two", "remove 2"),
        ("remove 0", "no topic 0"),
        ("remove 4", "1 to 3"),
        ("remove -1", "no topic -1"),
        ("move 1", "move 3 1"),
        ("move 1 9", "no topic 9"),
        ("move 1 2 3", "move 3 1"),
        ("add", "skill"),
        (f"add {'x' * (MAX_SKILL + 1)}", str(MAX_SKILL)),
        (f"add {'x' * MAX_QUESTION}?", str(MAX_QUESTION)),
        ("change 1", "change 2"),
        ("change 1 Tell me more.", "question mark"),
        ("minutes 1", "minutes 2 10"),
        ("minutes 1 0", str(MAX_MINUTES)),
        (f"minutes 1 {MAX_MINUTES + 1}", str(MAX_MINUTES)),
        (f"remove {'9' * 5000}", "remove 2"),
    ],
)
def test_an_impossible_command_is_refused(line: str, keyword: str) -> None:
    """The error names the command's form, the topics or the limit."""
    with pytest.raises(UsageError, match=keyword):
        parse_edit(make_agenda(3), line)


def test_topics_that_were_asked_stay() -> None:
    """Topics keep their numbers after the start, and one that was asked cannot be changed."""
    done, current = make_topic(1, status=TopicStatus.DONE), make_topic(2, TopicStatus.CURRENT)
    agenda = Agenda(topics=[done, current, make_topic(3), make_topic(4)])
    assert parse_edit(agenda, "move 4 3") == [EditedTopic(id="t4"), EditedTopic(id="t3")]
    for line in ("remove 1", "change 2 How so?", "move 3 2"):
        with pytest.raises(UsageError, match="already"):
            parse_edit(agenda, line)


def test_the_last_topic_cannot_be_removed() -> None:
    """An agenda of one topic is not emptied."""
    with pytest.raises(UsageError, match="at least one"):
        parse_edit(make_agenda(1), "remove 1")


@pytest.mark.parametrize(
    ("where", "reason", "text"),
    [
        (Where.JOB, "PostgreSQL and Kafka", 'because the job says "PostgreSQL and Kafka"'),
        (Where.BOTH, "Python", 'because the job says "Python"'),
        (Where.RESUME, "I use Go.", 'because your resume says "I use Go."'),
        (None, "", ""),
    ],
)
def test_a_reason_names_its_document(where: Where | None, reason: str, text: str) -> None:
    """A reason quotes the document for which the topic was chosen."""
    assert reason_text(make_topic(1, reason=reason, where=where)) == text


def test_a_long_reason_is_shortened() -> None:
    """A long line of a document is cut between two words."""
    text = reason_text(make_topic(1, reason="many words " * 50, where=Where.JOB))
    assert len(text) < 120
    assert text.endswith(' …"')
