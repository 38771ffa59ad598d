"""Agenda of an interview: its topics, the edits that a candidate may make, and its progress."""

import re
import uuid
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from prepserver.errors import BadRequest, Conflict
from prepserver.interview.questions.bank import Bank, Question
from prepserver.interview.questions.plan import select_main_questions
from prepserver.wire.agenda import (
    Agenda,
    EditedTopic,
    SkillEvidence,
    Topic,
    TopicKind,
    TopicStatus,
    Where,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import InterviewSpec

__all__ = ["MINUTES_PER_QUESTION", "PlannedTopic", "StoredAgenda", "edit_agenda", "plan_agenda"]

MAX_TOPICS = 6
"""Maximum number of topics between the opening and the closing."""

CLOSING_FROM = 6
"""Minimum number of questions of an interview that ends with a closing topic. A shorter interview
has no question to spare."""

MINUTES_PER_QUESTION = 3
"""Minutes planned for a question and its answer if the interview has no time limit."""

MIN_QUESTION_LENGTH = 10
"""Minimum length of a question that a candidate writes, in characters."""


class PlannedTopic(Struct, frozen=True, kw_only=True):
    """Topic with the question of the bank on which it is based."""

    topic: Topic
    question: Question | None = None
    """Question of the bank; None if the candidate wrote the question."""

    @property
    def points(self) -> tuple[str, ...]:
        """Parts of a good answer to the main question; empty if they are unknown."""
        return self.question.listen_for if self.question is not None else ()


class StoredAgenda(Struct, frozen=True, kw_only=True):
    """Agenda as it is stored with an interview."""

    topics: tuple[PlannedTopic, ...] = ()
    skills: tuple[SkillEvidence, ...] = ()

    @property
    def view(self) -> Agenda:
        """Agenda in the form that clients see."""
        return Agenda(topics=[each.topic for each in self.topics], skills=list(self.skills))

    @property
    def current(self) -> PlannedTopic | None:
        """Topic of the last question, or None before the first question."""
        return next((each for each in self.topics if _status(each) is TopicStatus.CURRENT), None)

    @property
    def planned(self) -> tuple[PlannedTopic, ...]:
        """Topics that no question has opened yet, in order."""
        return tuple(each for each in self.topics if _status(each) is TopicStatus.PLANNED)

    def find(self, id: str) -> PlannedTopic | None:
        """Return the topic with this id, or None."""
        return next((each for each in self.topics if each.topic.id == id), None)

    def advance(self) -> "StoredAgenda":
        """Return the agenda with the current topic done, and with the next one, if any, current."""
        return self._replace_statuses(self.planned[:1])

    def end(self) -> "StoredAgenda":
        """Return the agenda with the current topic done."""
        return self._replace_statuses(())

    def _replace_statuses(self, upcoming: Sequence[PlannedTopic]) -> "StoredAgenda":
        topics = []
        for each in self.topics:
            if _status(each) is TopicStatus.CURRENT:
                each = _with_status(each, TopicStatus.DONE)
            elif each in upcoming:
                each = _with_status(each, TopicStatus.CURRENT)
            topics.append(each)
        return msgspec.structs.replace(self, topics=tuple(topics))


def plan_agenda(bank: Bank, spec: InterviewSpec, seed: int) -> StoredAgenda:
    """Plan the agenda of a new interview from the skills that the role and the documents name.

    Equal arguments give equal agendas, so that an interview that was interrupted by a crash gets
    the same agenda again.
    """
    skills = bank.find_evidence(spec.role, spec.job_description, spec.resume)
    names = [skill.name for skill in skills] or list(bank.typical_skills(spec.role))
    closing = spec.questions >= CLOSING_FROM
    count = min(MAX_TOPICS, max(1, (spec.questions - 1 - closing) // 2))
    opener = bank.select_opener(seed) if spec.questions > 1 else None
    main = _main_questions(bank, spec, names, count, seed)
    closers = bank.select_closers(int(closing), seed)
    planned = [
        *((question, TopicKind.OPENING, "") for question in (opener,) if question is not None),
        *((question, TopicKind.TOPIC, line) for question, line in main),
        *((question, TopicKind.CLOSING, "") for question in closers),
    ]
    minutes = _minutes_per_topic(spec, len(planned))
    return StoredAgenda(
        topics=tuple(
            _plan_topic(question, kind, skills, minutes, number, line)
            for number, (question, kind, line) in enumerate(planned, 1)
        ),
        skills=tuple(skills),
    )


def edit_agenda(
    agenda: StoredAgenda, edited: Sequence[EditedTopic], bank: Bank, spec: InterviewSpec
) -> StoredAgenda:
    """Return the agenda with the edited topics in place of those that are still planned.

    Raises BadRequest (`bad_agenda`) if a topic is invalid, and Conflict (`topic_asked`) if a topic
    was asked already.
    """
    planned = {each.topic.id: each for each in agenda.planned}
    asked = tuple(each for each in agenda.topics if each.topic.id not in planned)
    topics: list[PlannedTopic] = []
    for number, edit in enumerate(edited, 1):
        if edit.id and edit.id not in planned:
            if any(each.topic.id == edit.id for each in asked):
                raise Conflict(
                    f"Topic {number} was asked already. Leave it out of the edited topics.",
                    code=ErrorCode.TOPIC_ASKED,
                )
            raise _bad_agenda(number, "its id is unknown or occurs twice")
        used = [each.topic.question for each in (*asked, *topics)]
        if edit.id:
            topics.append(_edit_topic(planned.pop(edit.id), edit, number))
        else:
            topics.append(_new_topic(edit, number, used, bank, spec))
    if not asked and not topics:
        raise BadRequest("The agenda needs at least one topic.", code=ErrorCode.BAD_AGENDA)
    if len(asked) + len(topics) > spec.questions:
        raise BadRequest(
            f"The agenda has more topics than the {spec.questions} questions of the interview. "
            "Remove a topic.",
            code=ErrorCode.BAD_AGENDA,
        )
    return msgspec.structs.replace(agenda, topics=(*asked, *topics))


def _edit_topic(planned: PlannedTopic, edit: EditedTopic, number: int) -> PlannedTopic:
    minutes = edit.minutes or planned.topic.minutes
    text = edit.question.strip()
    if not text or text == planned.topic.question:
        topic = msgspec.structs.replace(planned.topic, minutes=minutes)
        return msgspec.structs.replace(planned, topic=topic)
    question = _require_question(text, number)
    topic = msgspec.structs.replace(planned.topic, question=question, minutes=minutes)
    return PlannedTopic(topic=topic)


def _new_topic(
    edit: EditedTopic, number: int, used: Sequence[str], bank: Bank, spec: InterviewSpec
) -> PlannedTopic:
    skill, minutes = " ".join(edit.skill.split()), edit.minutes or MINUTES_PER_QUESTION
    id = uuid.uuid4().hex
    if edit.question.strip():
        text, question = _require_question(edit.question, number), None
    elif skill:
        question = _find_question(bank, spec, skill, used)
        text = (
            question.text
            if question is not None
            else f"Where have you used {skill}, and what did you do with it yourself?"
        )
    else:
        raise _bad_agenda(number, "it has neither a question nor a skill")
    topic = Topic(id=id, skill=skill, question=text, minutes=minutes)
    return PlannedTopic(topic=topic, question=question)


def _find_question(
    bank: Bank, spec: InterviewSpec, skill: str, used: Sequence[str]
) -> Question | None:
    """Return a question about the skill that the agenda does not contain, or None."""
    named = bank.find_skills(skill)
    found = bank.select_questions(spec.type, spec.level, named, 10, 0, role=spec.role)
    fitting = (each for each in found if not set(named).isdisjoint(each.skills))
    return next((each for each in fitting if each.text not in used), None)


def _require_question(text: str, number: int) -> str:
    question = re.sub(r"\s+", " ", text).strip()
    if not question.endswith("?") or len(question) < MIN_QUESTION_LENGTH:
        raise _bad_agenda(number, "its question is not a sentence that ends with a question mark")
    return question


def _bad_agenda(number: int, problem: str) -> BadRequest:
    return BadRequest(
        f"Topic {number} is invalid: {problem}. Correct it and send the agenda again.",
        code=ErrorCode.BAD_AGENDA,
    )


def _main_questions(
    bank: Bank, spec: InterviewSpec, skills: Sequence[str], count: int, seed: int
) -> list[tuple[Question, str]]:
    """Return the main questions, each with the line of the job description from which it was made,
    or an empty text.

    Every third question is made from the job description if it has lines of which a question can be
    made; for a role of an unknown craft, every second one.
    """
    selected = [
        (question, "")
        for question in select_main_questions(bank, spec, skills, seed)
        # The opening is about the candidate already.
        if not question.usual and not (question.opener and set(skills).isdisjoint(question.skills))
    ]
    every = 3 if bank.typical_skills(spec.role) else 2
    made = iter(bank.make_job_questions(spec.job_description))
    for position in range(every - 1, count, every):
        if (job := next(made, None)) is not None:
            selected.insert(position, (job.question, job.line))
    return selected[:count]


def _plan_topic(
    question: Question,
    kind: TopicKind,
    skills: Sequence[SkillEvidence],
    minutes: int,
    number: int,
    line: str,
) -> PlannedTopic:
    """Plan a topic whose reason is `line` or, if that is empty, the evidence for its skill."""
    evidence = next((skill for skill in skills if skill.name in question.skills), None)
    topic = Topic(
        id=f"topic-{number}",
        kind=kind,
        skill=evidence.name if evidence is not None else "",
        question=question.text,
        reason=line or (evidence.quote if evidence is not None else ""),
        where=Where.JOB if line else evidence.where if evidence is not None else None,
        minutes=minutes,
    )
    return PlannedTopic(topic=topic, question=question)


def _minutes_per_topic(spec: InterviewSpec, topics: int) -> int:
    total = spec.minutes or MINUTES_PER_QUESTION * spec.questions
    return max(1, total // max(1, topics))


def _status(planned: PlannedTopic) -> TopicStatus:
    return planned.topic.status


def _with_status(planned: PlannedTopic, status: TopicStatus) -> PlannedTopic:
    topic = msgspec.structs.replace(planned.topic, status=status)
    return msgspec.structs.replace(planned, topic=topic)
