"""What the models are asked with: who asks, for which interview, and what it is about."""

from prepserver.gateway.gateway import Call
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import HistorySummary, PromptContext
from prepserver.interview.room import Room
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.store import Turn
from prepserver.objects.object import Context
from prepserver.wire import protocol as wire

__all__ = ["ContextReader", "request_name", "request_of"]

_CONDENSED = "condensed"
"""Key of what stands for the beginning of a long interview in prompts."""


def request_name(what: str, attempt: int = 0) -> str:
    """Names a request within its interview: `what` is a recording, or a step of a turn.

    A recording has one name, and so is charged once, whether the ears follow it or are given the
    whole; each time that it is tried again it has another.
    """
    return f"{what}/{attempt}"


def request_of(turn: Turn) -> str:
    """Names what a turn asks for as it stands."""
    return request_name(turn.recording or f"{turn.id}/{turn.step}", turn.attempt)


class ContextReader:
    """Reads what is stored of one interview; every call is charged to its owner."""

    def __init__(self, context: Context, room: Room, transcript: Transcript, bank: Bank) -> None:
        self._context = context
        self._room = room
        self._transcript = transcript
        self._bank = bank

    def call(self, purpose: str, request: str) -> Call:
        """What has the same `request_name` is charged once."""
        name = self._context.name
        return Call(
            purpose=purpose,
            user=self._context.storage.get("owner", str) or "",
            interview=name,
            request=f"{name}/{request}",
        )

    def condensing_call(self, asked: Turn) -> Call:
        """For what is done behind the question of a turn. It has the name of what was charged for
        the question, so it costs no request of its own."""
        return self.call("condense", request_of(asked))

    def brief(self) -> PromptContext:
        storage = self._context.storage
        ids = storage.get("questions", list[str]) or []
        return PromptContext(
            spec=storage.get("spec", wire.InterviewSpec) or wire.InterviewSpec(),
            skills=tuple(self._room.view.skills),
            questions=self._bank.named(ids),
            messages=tuple(self._transcript.messages()),
            condensed=storage.get(_CONDENSED, HistorySummary) or HistorySummary(),
        )

    def condense(self, condensed: HistorySummary) -> None:
        """From now on this stands for the beginning of the interview."""
        self._context.storage.put(_CONDENSED, condensed)
