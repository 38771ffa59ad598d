"""Context of a prompt: everything from which the model's input is built."""

from msgspec import Struct

from prepserver.interview.questions.bank import Question
from prepserver.interview.questions.plan import FOLLOW_UPS
from prepserver.wire.protocol import InterviewSpec, Message, MessageKind

__all__ = ["HistorySummary", "PromptContext"]


class HistorySummary(Struct, frozen=True, kw_only=True):
    """Short text that, in prompts, replaces the oldest exchanges of a long interview."""

    covered: int = 0
    """Number of oldest questions and answers that the text replaces."""
    text: str = ""


class PromptContext(Struct, frozen=True, kw_only=True):
    """Specification, plan and conversation of one interview, from which prompts are built."""

    spec: InterviewSpec
    skills: tuple[str, ...]
    main_questions: tuple[Question, ...]
    """Bank questions of the plan, in order of preference."""
    messages: tuple[Message, ...]
    """All messages of the transcript."""
    visible_messages: tuple[Message, ...] = ()
    """Questions and answers that the prompt contains, truncated to fit the model's context."""
    history_summary: HistorySummary = HistorySummary()
    """Summary that replaces the oldest questions and answers in the prompt."""
    document_tokens: int = 600
    """Maximum number of tokens that each document (job description, resume) may fill in a
    prompt."""

    @property
    def asked_questions(self) -> tuple[str, ...]:
        return tuple(m.text for m in self.messages if m.kind is MessageKind.QUESTION)

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(m.text for m in self.messages if m.kind is MessageKind.ANSWER)

    @property
    def answers_on_topic(self) -> tuple[str, ...]:
        """Answers since the main question that was asked last; all answers if there is none."""
        current, answers = self.current_question, list[str]()
        for message in self.messages:
            if message.kind is MessageKind.QUESTION and current and current.text in message.text:
                answers = []
            elif message.kind is MessageKind.ANSWER:
                answers.append(message.text)
        return tuple(answers)

    @property
    def hint_level(self) -> int:
        """Number of the next hint about the open question, counted from 1."""
        kinds = [
            m.kind for m in self.messages if m.kind in (MessageKind.QUESTION, MessageKind.HINT)
        ]
        return 1 + next((n for n, k in enumerate(reversed(kinds)) if k is MessageKind.QUESTION), 0)

    @property
    def main_question_next(self) -> bool:
        """True while the plan requires the next question to be a main question, which opens a new
        topic."""
        return len(self.asked_questions) % (FOLLOW_UPS + 1) == 0

    @property
    def unasked_questions(self) -> tuple[Question, ...]:
        """Main questions that the interviewer has not asked yet."""
        asked = self.asked_questions
        return tuple(q for q in self.main_questions if not any(q.text in text for text in asked))

    @property
    def current_question(self) -> Question | None:
        """Main question that was asked last, or None if none has been asked."""
        for text in reversed(self.asked_questions):
            for question in self.main_questions:
                if question.text in text:
                    return question
        return None
