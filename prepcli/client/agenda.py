"""Changes of an agenda, each given as the edited list of the topics that are still planned.

Topics are numbered from 1, as lists show them. Each function raises UsageError if the change is
impossible; the server checks the rest.
"""

import textwrap
from collections.abc import Callable

from prepcli.errors import UsageError
from prepserver.wire.agenda import Agenda, EditedTopic, Topic, TopicStatus, Where
from prepserver.wire.limits import MAX_MINUTES, MAX_QUESTION, MAX_SKILL

__all__ = [
    "EDIT_HELP",
    "add_topic",
    "change_question",
    "move_topic",
    "parse_edit",
    "reason_text",
    "remove_topic",
    "set_minutes",
]

MAX_REASON = 80
"""Maximum length of a quoted reason, in characters."""

EDIT_HELP = (
    "`remove 2`, `move 3 1`, `add kafka`, `add How do you …?`, `change 2 How …?`, `minutes 2 10`"
)
"""Examples of the commands that `parse_edit` knows."""


def reason_text(topic: Topic) -> str:
    """Return why a topic was chosen, such as `because the job says "Kafka"`, or an empty string."""
    if not topic.reason:
        return ""
    document = "your resume" if topic.where is Where.RESUME else "the job"
    quote = textwrap.shorten(topic.reason, MAX_REASON, placeholder=" …")
    return f'because {document} says "{quote}"'


def remove_topic(agenda: Agenda, number: int) -> list[EditedTopic]:
    """Remove a topic."""
    topics, index = _find(agenda, number)
    if len(agenda.topics) == 1:
        raise UsageError("The agenda needs at least one topic. Add another one first.")
    del topics[index]
    return topics


def move_topic(agenda: Agenda, number: int, to: int) -> list[EditedTopic]:
    """Move a topic to the place of topic `to`."""
    topics, index = _find(agenda, number)
    _, target = _find(agenda, to)
    topics.insert(target, topics.pop(index))
    return topics


def add_topic(agenda: Agenda, text: str) -> list[EditedTopic]:
    """Add a topic at the end: a question if `text` ends with a question mark, otherwise a skill,
    for which the server chooses the question."""
    text = " ".join(text.split())
    if text.endswith("?"):
        return [*_planned(agenda), EditedTopic(question=_require_question(text))]
    if not text:
        raise UsageError("Name a skill or write a question: add kafka, or add How do you …?")
    if len(text) > MAX_SKILL:
        raise UsageError(
            f"A skill has at most {MAX_SKILL} characters. End a question with a question mark."
        )
    return [*_planned(agenda), EditedTopic(skill=text)]


def change_question(agenda: Agenda, number: int, question: str) -> list[EditedTopic]:
    """Replace the question of a topic."""
    topics, index = _find(agenda, number)
    topics[index] = EditedTopic(id=topics[index].id, question=_require_question(question))
    return topics


def set_minutes(agenda: Agenda, number: int, minutes: int) -> list[EditedTopic]:
    """Set the minutes of a topic."""
    topics, index = _find(agenda, number)
    if not 1 <= minutes <= MAX_MINUTES:
        raise UsageError(f"A topic takes 1 to {MAX_MINUTES} minutes. Enter another number.")
    topics[index] = EditedTopic(id=topics[index].id, minutes=minutes)
    return topics


def parse_edit(agenda: Agenda, line: str) -> list[EditedTopic]:
    """Carry out a command such as `move 3 1`; see `EDIT_HELP`. Raises UsageError if the command is
    unknown or incomplete."""
    name, _, rest = line.strip().partition(" ")
    name = name.lower()
    if name not in _COMMANDS:
        raise UsageError(f"There is no command “{name}”. Use one of {EDIT_HELP}.")
    form, edit = _COMMANDS[name]
    try:
        return edit(agenda, rest)
    except ValueError:
        raise UsageError(f"The command needs the form {form}.") from None


def _move(agenda: Agenda, rest: str) -> list[EditedTopic]:
    number, to = rest.split()
    return move_topic(agenda, int(number), int(to))


def _change(agenda: Agenda, rest: str) -> list[EditedTopic]:
    number, question = rest.split(maxsplit=1)
    return change_question(agenda, int(number), question)


def _set_minutes(agenda: Agenda, rest: str) -> list[EditedTopic]:
    number, minutes = rest.split()
    return set_minutes(agenda, int(number), int(minutes))


_COMMANDS: dict[str, tuple[str, Callable[[Agenda, str], list[EditedTopic]]]] = {
    "remove": ("remove 2", lambda agenda, rest: remove_topic(agenda, int(rest))),
    "move": ("move 3 1", _move),
    "add": ("add kafka", add_topic),
    "change": ("change 2 How do you …?", _change),
    "minutes": ("minutes 2 10", _set_minutes),
}


def _planned(agenda: Agenda) -> list[EditedTopic]:
    return [
        EditedTopic(id=topic.id) for topic in agenda.topics if topic.status is TopicStatus.PLANNED
    ]


def _find(agenda: Agenda, number: int) -> tuple[list[EditedTopic], int]:
    """Return the planned topics and the index among them of topic `number`."""
    topics = _planned(agenda)
    first = len(agenda.topics) - len(topics)
    """Number of topics that were asked already; they come first."""
    if not 1 <= number <= len(agenda.topics):
        raise UsageError(
            f"There is no topic {number}. The agenda has topics 1 to {len(agenda.topics)}."
        )
    if number <= first:
        raise UsageError(f"Topic {number} was asked already. Choose a later one.")
    return topics, number - 1 - first


def _require_question(text: str) -> str:
    question = " ".join(text.split())
    if not question.endswith("?"):
        raise UsageError("A question ends with a question mark. Write the whole question.")
    if len(question) > MAX_QUESTION:
        raise UsageError(f"A question has at most {MAX_QUESTION} characters. Shorten it.")
    return question
