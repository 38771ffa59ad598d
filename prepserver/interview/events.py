"""Events of an interview: results of background tasks, and confirmations from the user's list."""

from msgspec import Struct

from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.errors import PrepServerError
from prepserver.interview.agenda import StoredAgenda
from prepserver.interview.dialogue.decision import Move
from prepserver.interview.dialogue.records import AssessedAnswer
from prepserver.interview.prompts.context import HistorySummary
from prepserver.wire.protocol import Quota, Source

__all__ = [
    "AgendaPlanned",
    "AnswerAssessed",
    "AnswerTranscribed",
    "CaptionUpdated",
    "EpochEvent",
    "HistorySummarized",
    "InterviewEvent",
    "ListUpdated",
    "PrefillDropped",
    "ReplyCompleted",
    "ReplyRestarted",
    "TextProduced",
    "TimedOut",
    "TranscriptionFailed",
    "TurnFailed",
    "WorkerLost",
]


class EpochEvent(Struct, frozen=True, kw_only=True):
    """Event that is valid only in the epoch in which its background task started.

    A new epoch starts with each step of a turn, at the end of a turn, and when an answer is edited
    between two turns.
    """

    epoch: int


# --- Turns --------------------------------------------------------------------------------------


class TextProduced(EpochEvent, frozen=True, kw_only=True):
    """Text that continues the streamed reply."""

    text: str


class ReplyRestarted(EpochEvent, frozen=True, kw_only=True):
    """The reply starts again from the beginning; the text streamed so far must be discarded."""


class ReplyCompleted(EpochEvent, frozen=True, kw_only=True):
    text: str
    """Whole text of the reply."""
    source: Source
    quota: Quota | None = None
    """Remaining quota; None if no model was asked."""


class AgendaPlanned(EpochEvent, frozen=True, kw_only=True):
    agenda: StoredAgenda


class AnswerAssessed(EpochEvent, frozen=True, kw_only=True):
    assessed: AssessedAnswer
    next_move: Move


class AnswerTranscribed(EpochEvent, frozen=True, kw_only=True):
    transcription: Transcription
    quota: Quota


class TranscriptionFailed(EpochEvent, frozen=True, kw_only=True):
    """Live transcription failed; the stored recording must be transcribed as a whole."""


class HistorySummarized(EpochEvent, frozen=True, kw_only=True):
    """The oldest exchanges were summarised, during a turn or ahead of the next turn."""

    summary: HistorySummary


class TurnFailed(EpochEvent, frozen=True, kw_only=True):
    error: PrepServerError


# --- Live transcription -------------------------------------------------------------------------


class CaptionUpdated(Struct, frozen=True, kw_only=True):
    recording: str
    caption: PartialTranscript


class WorkerLost(Struct, frozen=True, kw_only=True):
    """The speech engine died after it had consumed audio; live transcription must restart from the
    beginning of the recording."""

    recording: str


class TimedOut(Struct, frozen=True, kw_only=True):
    """No audio arrived for `AUDIO_TIMEOUT` seconds, and the transcriber was released."""

    recording: str


# --- Prefill, and the user's list ---------------------------------------------------------------


class PrefillDropped(Struct, frozen=True):
    """The prefill of `draft` failed or was dropped."""

    draft: str


class ListUpdated(Struct, frozen=True):
    """The user's list has stored the version of the interview's view that has this `updated_at`."""

    updated_at: float


InterviewEvent = (
    TextProduced
    | ReplyRestarted
    | ReplyCompleted
    | AgendaPlanned
    | AnswerAssessed
    | AnswerTranscribed
    | TranscriptionFailed
    | HistorySummarized
    | TurnFailed
    | CaptionUpdated
    | WorkerLost
    | TimedOut
    | PrefillDropped
    | ListUpdated
)
"""Events that `InterviewObject.on_event` handles."""
