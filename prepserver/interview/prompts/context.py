"""Context of a prompt: everything from which the model's input is built."""

from msgspec import Struct

from prepserver.interview.agenda import PlannedTopic, StoredAgenda
from prepserver.interview.dialogue.decision import Move, MoveKind
from prepserver.interview.dialogue.records import AssessedAnswer
from prepserver.interview.questions.bank import Question
from prepserver.wire.protocol import InterviewSpec, Message, MessageKind

__all__ = ["HistorySummary", "PromptContext"]


class HistorySummary(Struct, frozen=True, kw_only=True):
    """Short text that, in prompts, replaces the oldest exchanges of a long interview."""

    covered: int = 0
    """Number of oldest questions and answers that the text replaces."""
    text: str = ""


class PromptContext(Struct, frozen=True, kw_only=True):
    """Specification, agenda and conversation of one interview, from which prompts are built."""

    spec: InterviewSpec
    agenda: StoredAgenda
    next_move: Move
    """Move for which the next question is asked."""
    messages: tuple[Message, ...]
    """All messages of the transcript."""
    moves: dict[str, Move] = {}
    """Moves for which the questions were asked, by message id."""
    assessed: AssessedAnswer | None = None
    """What the last answer covered, or None if it was not assessed."""
    visible_messages: tuple[Message, ...] = ()
    """Messages that the prompt contains, truncated to fit the model's context."""
    history_summary: HistorySummary = HistorySummary()
    """Summary that replaces the oldest questions and answers in the prompt."""
    quote_tokens: int = 200
    """Maximum length, in tokens, of each shorter text that the prompt quotes, such as the role or
    all skills together. The maximum of the history summary is twice as long."""

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the skills that the documents name, the most important first."""
        return tuple(skill.name for skill in self.agenda.skills)

    @property
    def asked_questions(self) -> tuple[str, ...]:
        return tuple(m.text for m in self.messages if m.kind is MessageKind.QUESTION)

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(m.text for m in self.messages if m.kind is MessageKind.ANSWER)

    @property
    def answers_on_topic(self) -> tuple[str, ...]:
        """Answers since the main question of the current topic; all answers if it was not asked."""
        main, answers = self.topic.topic.question if self.topic else None, list[str]()
        for message in self.messages:
            if message.kind is MessageKind.QUESTION and main and main in message.text:
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
    def topic(self) -> PlannedTopic | None:
        """Topic of the next question, which is the current topic of the agenda."""
        return self.agenda.current

    @property
    def current_question(self) -> Question | None:
        """Question of the bank on which the current topic is based, or None."""
        return self.topic.question if self.topic is not None else None

    @property
    def main_questions(self) -> tuple[Question, ...]:
        """Questions of the bank on which the topics of the agenda are based."""
        return tuple(each.question for each in self.agenda.topics if each.question is not None)

    @property
    def opens_topic(self) -> bool:
        """True if the next question is the main question of a topic."""
        return self.next_move.kind is MoveKind.NEXT

    @property
    def open_question(self) -> Message | None:
        """Last question that was asked, or None before the first question."""
        return next((m for m in reversed(self.messages) if m.kind is MessageKind.QUESTION), None)
