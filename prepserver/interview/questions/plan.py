"""What the interview is about: skills, main questions from the bank, and what comes when."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from prepserver.interview.prompts.phrases import same_question
from prepserver.interview.questions.bank import Bank, Question
from prepserver.wire.protocol import InterviewSpec, InterviewType, Message, MessageKind

__all__ = [
    "HistorySummary",
    "PromptContext",
    "acceptable",
    "checked_skills",
    "planned",
    "skill_choices",
    "vocabulary",
]

MAX_SKILLS = 6

ENOUGH_SKILLS = 3
"""With fewer named in the documents, the model adds some that go with them."""

CLOSEST = 8
"""Skills that it chooses those from."""

FOLLOW_UPS = 2
"""After each main question from the bank, the model writes this many of its own."""

SHORTEST_QUESTION, LONGEST_QUESTION = 15, 400
"""Characters of an acceptable question."""


class HistorySummary(Struct, frozen=True, kw_only=True):
    """The beginning of a long interview, in short."""

    upto: int = 0
    """How many of the oldest questions and answers it stands for."""
    text: str = ""


class PromptContext(Struct, frozen=True, kw_only=True):
    """All that a prompt is made of."""

    spec: InterviewSpec
    skills: tuple[str, ...]
    questions: tuple[Question, ...]
    """Main questions, in the order of preference."""
    messages: tuple[Message, ...]
    """Everything that was said."""
    shown: tuple[Message, ...] = ()
    """Questions and answers that a prompt shows, shortened to fit the model's context."""
    condensed: HistorySummary = HistorySummary()
    """What stands for the questions and answers before those."""
    document_tokens: int = 600
    """Of the job description, and of the resume, in a prompt."""

    @property
    def asked(self) -> tuple[str, ...]:
        return tuple(m.text for m in self.messages if m.kind is MessageKind.QUESTION)

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(m.text for m in self.messages if m.kind is MessageKind.ANSWER)

    @property
    def main_next(self) -> bool:
        """Whether the next question opens a new topic."""
        return len(self.asked) % (FOLLOW_UPS + 1) == 0

    @property
    def unasked(self) -> tuple[Question, ...]:
        """Main questions that are still to be asked."""
        return tuple(q for q in self.questions if not any(q.text in text for text in self.asked))

    @property
    def current(self) -> Question | None:
        """The main question that the conversation is on."""
        for text in reversed(self.asked):
            for question in self.questions:
                if question.text in text:
                    return question
        return None


def named_skills(bank: Bank, spec: InterviewSpec) -> list[str]:
    """Skills that the role and the documents name, the most frequent first."""
    return bank.find_skills(f"{spec.role}\n{spec.job_description}\n{spec.resume}")


def skill_choices(bank: Bank, spec: InterviewSpec) -> list[str]:
    """What a model may choose from: what is named, and where that is little, what goes with it.

    Two skills go together when questions of the bank are about both.
    """
    named = named_skills(bank, spec)
    if len(named) >= ENOUGH_SKILLS:
        return named
    together = Counter(
        skill
        for question in bank.questions
        if (not set(named).isdisjoint(question.skills) if named else _anybody(question))
        for skill in question.skills
        if skill not in named
    )
    return [*named, *(skill for skill, _ in together.most_common(CLOSEST))]


def _anybody(question: Question) -> bool:
    """Whether anybody may be asked, whatever the role."""
    return question.type is InterviewType.BEHAVIOURAL


def checked_skills(bank: Bank, spec: InterviewSpec, extracted: Sequence[str]) -> list[str]:
    """What is named first if it is little, else the model's choice first, then the rest.

    A skill that is not among the choices is dropped.
    """
    named, choices = named_skills(bank, spec), skill_choices(bank, spec)
    chosen = [skill.strip().lower() for skill in extracted]
    known = [skill for skill in chosen if skill in choices]
    order = [*known, *named] if len(named) >= ENOUGH_SKILLS else [*named, *known]
    return list(dict.fromkeys(order))[:MAX_SKILLS]


def vocabulary(brief: PromptContext) -> str:
    """Words for the ears to expect, as sentences; empty when no document names any.

    whisper.cpp goes on in the style of this text: on the bundled recordings a bare list of words
    cost capitals, commas and once the whole first sentence; a sentence did not.
    """
    if not (brief.spec.job_description or brief.spec.resume) or not brief.skills:
        return ""
    return f"A job interview for the role of {brief.spec.role}. Topics: {', '.join(brief.skills)}."


def planned(
    bank: Bank, spec: InterviewSpec, skills: Sequence[str], seed: int
) -> tuple[Question, ...]:
    """Main questions for the whole interview, with some to choose from."""
    count = min(30, max(6, spec.questions))
    return tuple(bank.select(spec.type, spec.level, skills, count, seed))


def acceptable(text: str, asked: Sequence[str]) -> bool:
    """One question, of a sensible length, that was not asked before."""
    return (
        SHORTEST_QUESTION <= len(text) <= LONGEST_QUESTION
        and text.endswith("?")
        and text.count("?") == 1
        and not any(same_question(text, earlier) for earlier in asked)
    )
