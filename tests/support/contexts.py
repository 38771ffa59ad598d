"""Prompt contexts of interviews in which some questions were answered."""

from collections.abc import Sequence

from prepserver.interview.agenda import PlannedTopic, StoredAgenda
from prepserver.interview.dialogue.decision import Move, MoveKind
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.questions.bank import Question, load_bank
from prepserver.interview.questions.plan import select_main_questions
from prepserver.wire.agenda import Topic, TopicStatus
from prepserver.wire.protocol import (
    Intent,
    InterviewSpec,
    Message,
    MessageKind,
    Source,
    speaker_of,
)

OPEN_TOPIC = Move(MoveKind.NEXT)
PROBE = Move(MoveKind.PROBE, "how it turned out")


def message(
    kind: MessageKind, text: str, position: int = 0, topic: str = "", intent: Intent | None = None
) -> Message:
    return Message(
        id=f"{position}-{kind}",
        role=speaker_of(kind),
        kind=kind,
        text=text,
        source=Source.TEXT,
        position=position,
        created_at=0.0,
        topic=topic,
        intent=intent,
    )


def context_after(
    answers: Sequence[str], spec: InterviewSpec | None = None, next_move: Move = PROBE
) -> PromptContext:
    """Return the context of an interview in which the candidate has given `answers`, in order, to
    the main questions of as many topics.

    The topic of the last question is current, and `next_move` comes next. Without an answer, the
    first topic is current and is to be opened.
    """
    spec = spec or InterviewSpec(role="Backend Engineer", questions=9)
    bank = load_bank()
    skills = bank.find_evidence(spec.role, spec.job_description, spec.resume)
    names = [skill.name for skill in skills] or ["sql", "messaging"]
    current = max(0, len(answers) - 1)
    topics = [
        _plan_topic(question, number, current)
        for number, question in enumerate(select_main_questions(bank, spec, names, 7))
    ]
    messages: list[Message] = []
    moves: dict[str, Move] = {}
    for planned, text in zip(topics, answers, strict=False):
        topic, position = planned.topic, len(messages)
        question = message(MessageKind.QUESTION, topic.question, position, topic.id)
        moves[question.id] = OPEN_TOPIC
        answer = message(MessageKind.ANSWER, text, position + 1, intent=Intent.ANSWER)
        messages += (question, answer)
    return PromptContext(
        spec=spec,
        agenda=StoredAgenda(topics=tuple(topics), skills=tuple(skills)),
        next_move=next_move if answers else OPEN_TOPIC,
        messages=tuple(messages),
        moves=moves,
    )


def _plan_topic(question: Question, number: int, current: int) -> PlannedTopic:
    if number == current:
        status = TopicStatus.CURRENT
    else:
        status = TopicStatus.DONE if number < current else TopicStatus.PLANNED
    topic = Topic(id=f"topic-{number}", question=question.text, minutes=3, status=status)
    return PlannedTopic(topic=topic, question=question)
