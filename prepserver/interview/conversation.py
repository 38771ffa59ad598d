"""Conversation of one interview: what its messages mean, and what follows from them."""

import msgspec

from prepserver.errors import Conflict
from prepserver.interview.agenda import StoredAgenda, edit_agenda
from prepserver.interview.dialogue.decision import Move, MoveKind
from prepserver.interview.dialogue.intents import classify_intent
from prepserver.interview.dialogue.records import AssessedAnswer
from prepserver.interview.dialogue_store import DialogueStore
from prepserver.interview.hints import HintTimer
from prepserver.interview.prompts.context_store import ContextStore
from prepserver.interview.questions.bank import Bank
from prepserver.interview.room import Room
from prepserver.interview.summary import summary_text
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.steps import Step
from prepserver.interview.turns.store import Turn
from prepserver.objects.object import Context
from prepserver.wire import protocol as wire
from prepserver.wire.agenda import EditedTopic
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Intent, MessageKind, Status

__all__ = ["REQUEST_TEXTS", "Conversation"]

_END_REQUESTED = "end_requested"
"""Storage key that is present once a client has ended the interview during a transcription."""

MAX_DIVERSIONS = 2
"""Number of messages beside the subject after which a further one uses up the question."""

_USE_UP = (Intent.ANSWER, Intent.DONT_KNOW, Intent.SKIP)
_DIVERSIONS = (Intent.OFF_TOPIC, Intent.HOSTILE, Intent.UNUSABLE)

REQUEST_TEXTS = {
    Intent.REPEAT: "Could you repeat the question?",
    Intent.REPHRASE: "Could you put the question differently?",
    Intent.SKIP: "I would like to skip this question.",
    Intent.PAUSE: "I need a moment to think.",
}
"""Text in the transcript of a request that a client makes without words."""


class Conversation:
    """Rules of the conversation: each method stores what happened, and returns the next step."""

    def __init__(
        self,
        context: Context,
        transcript: Transcript,
        dialogue: DialogueStore,
        context_store: ContextStore,
        room: Room,
        hints: HintTimer,
        bank: Bank,
    ) -> None:
        self._context = context
        self._transcript = transcript
        self._dialogue = dialogue
        self._context_store = context_store
        self._room = room
        self._hints = hints
        self._bank = bank

    # --- Agenda -------------------------------------------------------------------------------

    def plan(self, agenda: StoredAgenda) -> Step | None:
        """Store the agenda of a new interview. The interview waits if the candidate wants to see
        the agenda first."""
        view, waits = self._room.view, self._context_store.spec().review_agenda
        if not waits:
            agenda = self._open_first_topic(agenda)
        self._dialogue.save_agenda(agenda)
        status = Status.PLANNED if waits else Status.ACTIVE
        names = [skill.name for skill in agenda.skills[:6]]
        self._room.save_view(msgspec.structs.replace(view, skills=names, status=status))
        self._room.broadcast_agenda()
        if self.end_requested:
            return Step.CLOSING
        return None if waits else Step.QUESTION

    def start(self) -> None:
        """Open the first topic. Raises Conflict (`already_started`) if the interview does not
        wait."""
        view, agenda = self._room.view, self._dialogue.agenda()
        if view.status is not Status.PLANNED or agenda is None:
            raise Conflict("The interview has started already.", code=ErrorCode.ALREADY_STARTED)
        self._dialogue.save_agenda(self._open_first_topic(agenda))
        self._room.save_view(msgspec.structs.replace(view, status=Status.ACTIVE))
        self._room.broadcast_agenda()

    def edit_agenda(self, topics: list[EditedTopic]) -> None:
        """Replace the topics that are still planned. Raises the errors of `edit_agenda`, and
        Conflict if the agenda is hidden or not planned yet."""
        self._room.require_visible_agenda()
        agenda, spec = self._dialogue.agenda(), self._context_store.spec()
        if agenda is None:
            raise Conflict(
                "The agenda is not planned yet. Try again in a moment.",
                code=ErrorCode.NOT_READY,
                retryable=True,
            )
        self._dialogue.save_agenda(edit_agenda(agenda, topics, self._bank, spec))
        self._room.broadcast_agenda()

    def _open_first_topic(self, agenda: StoredAgenda) -> StoredAgenda:
        self._dialogue.save_next_move(Move(MoveKind.NEXT))
        return agenda.advance()

    # --- Messages of the candidate ------------------------------------------------------------

    def add_answer(
        self, turn: Turn, text: str, source: wire.Source, intent: Intent | None = None
    ) -> tuple[wire.Message, Step]:
        """Store a message of the candidate. Return it with the step that follows.

        The rules find out what the message is, unless `intent` says so.
        """
        question = self._transcript.open_question()
        if intent is None:
            intent = classify_intent(text, question.text if question is not None else "")
        kind = self._kind_of(intent or Intent.ANSWER)
        now = self._context.clock.now()
        message = self._transcript.add(
            f"{turn.id}-answer", kind, text, source, at=now, intent=intent
        )
        self._room.broadcast_message(message)
        if kind is MessageKind.REQUEST:
            return message, Step.REPLY
        self._room.update_counts()
        return message, Step.CLOSING if self.end_requested else Step.ASSESS

    def assess_answer(self, assessed: AssessedAnswer, next_move: Move) -> Step:
        """Store what the last answer was and covered, and the next move."""
        answer = self._transcript.last_candidate_message()
        assert answer is not None
        kind = self._kind_of(assessed.intent)
        changed = self._transcript.set_intent(answer.id, kind, assessed.intent)
        if changed != answer:
            self._room.broadcast_message(changed)
        if changed.kind is not answer.kind:
            self._room.update_counts()
        if kind is MessageKind.REQUEST:
            return Step.REPLY
        self._dialogue.add_assessment(answer.id, assessed)
        if self.end_requested or next_move.kind is MoveKind.CLOSE:
            return Step.CLOSING
        agenda = self._dialogue.agenda()
        if next_move.kind is MoveKind.NEXT and agenda is not None:
            if not agenda.planned:
                next_move = Move(MoveKind.DEEPER)
            else:
                self._dialogue.save_agenda(agenda.advance())
                self._room.broadcast_agenda()
        self._dialogue.save_next_move(next_move)
        return Step.QUESTION

    def _kind_of(self, intent: Intent) -> MessageKind:
        """Return the kind of a message with this intent. An endless diversion uses up the
        question."""
        if intent in _USE_UP:
            return MessageKind.ANSWER
        if (
            intent in _DIVERSIONS
            and self._transcript.count_open_requests(_DIVERSIONS) >= MAX_DIVERSIONS
        ):
            return MessageKind.ANSWER
        return MessageKind.REQUEST

    # --- Messages of the interviewer ----------------------------------------------------------

    def add_reply(self, turn: Turn, text: str, source: wire.Source) -> Step | None:
        """Store a message of the interviewer."""
        kind = MessageKind(turn.step.value)
        topic, intent, agenda = "", None, self._dialogue.agenda()
        if kind is MessageKind.SUMMARY:
            text = summary_text(self._context_store.load(), text)
        elif (
            kind is MessageKind.REPLY
            and (request := self._transcript.last_candidate_message()) is not None
        ):
            intent = request.intent
        elif kind is MessageKind.QUESTION and agenda is not None and agenda.current is not None:
            topic = agenda.current.topic.id
        now = self._context.clock.now()
        message = self._transcript.add(
            f"{turn.id}-{kind}", kind, text, source, at=now, intent=intent, topic=topic
        )
        self._room.broadcast_message(message)
        match kind:
            case MessageKind.QUESTION:
                self._dialogue.add_question(message)
                self._hints.schedule()
                self._room.update_counts()
            case MessageKind.REPLY:
                self._hints.schedule()
            case MessageKind.CLOSING:
                return Step.SUMMARY
            case MessageKind.SUMMARY:
                view = self._room.view
                self._room.save_view(msgspec.structs.replace(view, status=Status.COMPLETED))
                if agenda is not None:
                    self._dialogue.save_agenda(agenda.end())
                self._room.broadcast_agenda()
        return None

    # --- End ----------------------------------------------------------------------------------

    def request_end(self) -> None:
        """Let the closing follow the answer that is being transcribed."""
        self._context.storage.put(_END_REQUESTED, True)

    @property
    def end_requested(self) -> bool:
        """True once a client has ended the interview during a transcription."""
        return self._context.storage.get(_END_REQUESTED, bool) is not None
