"""Stored prompt context of one interview, and names under which the gateway charges requests."""

from prepserver.gateway.gateway import Call
from prepserver.interview.agenda import StoredAgenda
from prepserver.interview.dialogue_store import DialogueStore
from prepserver.interview.prompts.context import HistorySummary, PromptContext
from prepserver.interview.room import Room
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.steps import Step
from prepserver.interview.turns.store import Turn
from prepserver.objects.object import Context
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind

__all__ = ["ContextStore", "request_name", "turn_request_name"]

_HISTORY_SUMMARY = "history_summary"
"""Storage key of the history summary."""


def request_name(subject: str, attempt: int = 0) -> str:
    """Return the name, unique within the interview, under which the gateway charges a request.

    `subject` names a recording or a step of a turn. The live and the final transcription of a
    recording share a name, so that they are charged as one. Each retry of a turn has a name of its
    own.
    """
    return f"{subject}/{attempt}"


def turn_request_name(turn: Turn) -> str:
    """Return the request name of the turn's current step and attempt.

    The assessment of an answer shares the name of the question after it, so they are charged as
    one.
    """
    step = Step.QUESTION if turn.step is Step.ASSESS else turn.step
    return request_name(turn.recording or f"{turn.id}/{step}", turn.attempt)


class ContextStore:
    """Storage of the prompt context, and factory of gateway calls that are charged to the owner."""

    def __init__(
        self, context: Context, room: Room, transcript: Transcript, dialogue: DialogueStore
    ) -> None:
        self._context = context
        self._room = room
        self._transcript = transcript
        self._dialogue = dialogue

    def create_call(self, purpose: str, request: str) -> Call:
        """Create a gateway call. All calls with the same `request` name are charged as one."""
        name = self._context.name
        return Call(
            purpose=purpose,
            user=self._context.storage.get("owner", str) or "",
            interview=name,
            request=f"{name}/{request}",
            model_set=self._room.view.model_set,
        )

    def create_history_summary_call(self, turn: Turn) -> Call:
        """Create the call that summarises the history after `turn` has asked its question.

        The call shares the request name of that question, so the owner is not charged again.
        """
        return self.create_call("history_summary", turn_request_name(turn))

    def spec(self) -> wire.InterviewSpec:
        """Return the specification of the interview."""
        return self._context.storage.get("spec", wire.InterviewSpec) or wire.InterviewSpec()

    def load(self) -> PromptContext:
        storage, messages = self._context.storage, self._transcript.messages()
        answer = next((m for m in reversed(messages) if m.kind is MessageKind.ANSWER), None)
        return PromptContext(
            spec=self.spec(),
            agenda=self._dialogue.agenda() or StoredAgenda(),
            next_move=self._dialogue.next_move(),
            messages=tuple(messages),
            moves=self._dialogue.moves(),
            assessed=self._dialogue.assessment(answer.id) if answer is not None else None,
            history_summary=storage.get(_HISTORY_SUMMARY, HistorySummary) or HistorySummary(),
        )

    def save_history_summary(self, summary: HistorySummary) -> None:
        self._context.storage.put(_HISTORY_SUMMARY, summary)
