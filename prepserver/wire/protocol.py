"""The wire: every message between a client and a room, and the things they speak of.

JSON text frames, one tagged union each way (`type`), plus binary frames for audio. Depends on
msgspec alone, so a client can import it without anything else of the server.

Binary frames from a client:

- After `audio.start`, each binary message is one numbered frame: `FRAME_HEADER` bytes of
  big-endian frame number, counted from 0, then PCM16 little-endian, 16 kHz, mono.
- With no recording open, a binary message is one whole recording: a WAV file, or bare PCM16
  little-endian, 16 kHz, mono.
"""

import enum
import struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from prepserver.wire.limits import (
    MAX_ANSWER,
    MAX_COMPANY,
    MAX_DOCUMENT,
    MAX_ID,
    MAX_QUESTIONS,
    MAX_ROLE,
    MAX_TITLE,
)

PROTOCOL_VERSION = 1
"""Raised when a client of the previous version would misunderstand the server."""

SAMPLE_RATE = 16_000
"""Samples a second of all audio on the wire."""

BYTES_PER_SECOND = SAMPLE_RATE * 2
"""PCM16 mono."""

FRAME_HEADER = 4
"""Bytes before the samples of a numbered audio frame."""

CLOSE_TOO_BIG = 1009
"""A message from the client exceeds its size limit."""

CLOSE_RESTART = 1012
"""The server is shutting down; the client reconnects in a moment."""

CLOSE_DELETED = 4004
"""The room was deleted; the client must not reconnect."""

CLOSE_SLOW = 4008
"""The client fell behind the room; it reconnects and receives a snapshot."""

Id = Annotated[str, Meta(max_length=MAX_ID, pattern=r"^[A-Za-z0-9_-]*$")]
"""An id made by a client: empty when the client does not care to name the message.

A message is answered once: sent again with the same id it gets the same answer, also when it was
refused. Only a recording of which frames are missing is sent again under its id.
"""


class InterviewType(enum.StrEnum):
    BEHAVIOURAL = "behavioural"
    TECHNICAL = "technical"
    SYSTEM_DESIGN = "system-design"
    MIXED = "mixed"


class Level(enum.StrEnum):
    """How difficult the questions are."""

    JUNIOR = "junior"
    MID = "mid"
    SENIOR = "senior"


class Phase(enum.StrEnum):
    """What the interview is doing right now, as clients show it."""

    IDLE = "idle"
    EXTRACTING = "ai.extracting.skills"
    TRANSCRIBING = "ai.transcribing.text"
    GENERATING = "ai.generating.message"
    HINTING = "ai.generating.hint"
    REVIEWING = "ai.reviewing"


class Status(enum.StrEnum):
    ACTIVE = "active"
    COMPLETED = "completed"


class Role(enum.StrEnum):
    INTERVIEWER = "interviewer"
    CANDIDATE = "candidate"


class MessageKind(enum.StrEnum):
    QUESTION = "question"
    ANSWER = "answer"
    HINT = "hint"
    CLOSING = "closing"
    SUMMARY = "summary"


class Source(enum.StrEnum):
    """Where the words of a message came from."""

    MODEL = "model"
    BANK = "bank"
    SPEECH = "speech"
    TEXT = "text"


# --- Things -----------------------------------------------------------------------------------


class InterviewSpec(Struct, frozen=True, kw_only=True):
    """What a person asks for when an interview is created."""

    role: Annotated[str, Meta(min_length=1, max_length=MAX_ROLE)] = "Software Engineer"
    company: Annotated[str, Meta(max_length=MAX_COMPANY)] = ""
    type: InterviewType = InterviewType.MIXED
    level: Level = Level.MID
    questions: Annotated[int, Meta(ge=1, le=MAX_QUESTIONS)] = 5
    """How many questions the candidate answers."""
    job_description: Annotated[str, Meta(max_length=MAX_DOCUMENT)] = ""
    resume: Annotated[str, Meta(max_length=MAX_DOCUMENT)] = ""


class CreateInterview(InterviewSpec, frozen=True, kw_only=True):
    """Body of `POST /api/interviews`."""

    id: Id = ""
    """Made by the client so that a repeated request creates one interview; may be empty."""


class ChangeInterview(Struct, frozen=True, kw_only=True):
    """Body of `PATCH /api/interviews/{id}`: what is absent stays as it is."""

    title: Annotated[str, Meta(min_length=1, max_length=MAX_TITLE)] | None = None


class Interview(Struct, frozen=True, kw_only=True):
    """One interview as lists show it."""

    id: str
    title: str
    role: str
    company: str
    type: InterviewType
    level: Level
    questions: int
    asked: int = 0
    """Questions asked so far."""
    answered: int = 0
    status: Status = Status.ACTIVE
    skills: list[str] = []
    created_at: float
    """Seconds since the Unix epoch, UTC, like every time on the wire."""
    updated_at: float


class Message(Struct, frozen=True, kw_only=True):
    """One thing that was said, whole."""

    id: str
    role: Role
    kind: MessageKind
    text: str
    source: Source
    position: int
    """Counted from 0 within the interview."""
    created_at: float
    edited: bool = False


class StreamingMessage(Struct, frozen=True, kw_only=True):
    """A message that is still being said."""

    id: str
    kind: MessageKind
    text: str
    """All of it so far."""
    offset: int
    """Code points in `text`: where the next delta is appended."""


class Quota(Struct, frozen=True, kw_only=True):
    """Model requests that a user may still make."""

    limit: int
    """0 means that nothing is counted."""
    remaining: int
    reset: float | None = None
    """When the window ends; null before the first request of a window."""


class Error(Struct, frozen=True, kw_only=True):
    """What went wrong, wherever it is reported."""

    code: str
    message: str
    retryable: bool = False
    details: dict[str, Any] = {}


# --- Server -> client -------------------------------------------------------------------------


class ServerMessage(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of what a room sends."""


class Hello(ServerMessage, frozen=True, kw_only=True, tag="hello"):
    """First on every connection."""

    protocol: int
    server: str
    connection: str
    party: str
    room: str


class Snapshot(ServerMessage, frozen=True, kw_only=True, tag="snapshot"):
    """The whole truth of a room; a client replaces what it knew with it.

    `interview` and what follows it are of the party `interview`; `interviews` is of the party
    `user-interviews`.
    """

    interview: Interview | None = None
    state: Phase | None = None
    messages: list[Message] = []
    streaming: StreamingMessage | None = None
    hint: Message | None = None
    """The hint to the question that is open, if one was given."""
    ratelimit: Quota | None = None
    failed: Error | None = None
    """Why the last turn stopped; `turn.retry` tries it again."""
    interviews: list[Interview] | None = None


class InterviewCreated(ServerMessage, frozen=True, kw_only=True, tag="interview.created"):
    interview: Interview


class InterviewUpdated(ServerMessage, frozen=True, kw_only=True, tag="interview.updated"):
    interview: Interview


class InterviewDeleted(ServerMessage, frozen=True, kw_only=True, tag="interview.deleted"):
    interview_id: str


class StateChanged(ServerMessage, frozen=True, kw_only=True, tag="interview.state"):
    state: Phase
    failed: Error | None = None
    """Why the last turn stopped, when it did; `turn.retry` tries it again."""


class InterviewMessage(ServerMessage, frozen=True, kw_only=True, tag="interview.message"):
    """A whole message: put it in the place of one with the same id, or at the end."""

    message: Message


class Delta(ServerMessage, frozen=True, kw_only=True, tag="interview.delta"):
    """More of the message that is being said: one at a time in a room."""

    message_id: str = ""
    """With the first text of a message; more of it has none, since it comes many times a second."""
    kind: MessageKind | None = None
    """With the first text, as the id."""
    offset: int
    """Code points that must already be there; if they are not, ask for a snapshot."""
    text: str


class DeltaDropped(ServerMessage, frozen=True, kw_only=True, tag="interview.delta.dropped"):
    """The message that was being said will not be finished as it was: forget its text."""

    message_id: str


class Caption(ServerMessage, frozen=True, kw_only=True, tag="interview.caption"):
    """What the candidate seems to be saying; not yet final."""

    text: str
    stable: int = 0
    """Code points of `text` that will hardly change any more."""


class AudioAck(ServerMessage, frozen=True, kw_only=True, tag="audio.ack"):
    id: str
    """Of the recording."""
    frame: int
    """The highest frame that is stored; -1 when none is. Send what comes after it."""


class Accepted(ServerMessage, frozen=True, kw_only=True, tag="accepted"):
    """The client message with this id is stored and will not be lost."""

    id: str


class RateLimit(ServerMessage, frozen=True, kw_only=True, tag="ratelimit"):
    limit: int
    remaining: int
    reset: float | None = None


class Failure(ServerMessage, frozen=True, kw_only=True, tag="error"):
    code: str
    message: str
    retryable: bool = False
    details: dict[str, Any] = {}
    id: str = ""
    """The client message it answers, if it answers one."""


ServerMessages = (
    Hello
    | Snapshot
    | InterviewCreated
    | InterviewUpdated
    | InterviewDeleted
    | StateChanged
    | InterviewMessage
    | Delta
    | DeltaDropped
    | Caption
    | AudioAck
    | Accepted
    | RateLimit
    | Failure
)


# --- Client -> server -------------------------------------------------------------------------


class ClientMessage(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of what a client sends."""

    id: Id = ""
    """With an id, what the message asks for is done once, however often it is sent."""


class GetAllMessages(ClientMessage, frozen=True, kw_only=True, tag="get_all_messages"):
    """Ask for a snapshot."""


class UserTyping(ClientMessage, frozen=True, kw_only=True, tag="user.typing"):
    """The candidate is typing: the hint waits."""

    draft: Annotated[str, Meta(max_length=MAX_ANSWER)] = ""
    """What stands there so far, if the model may read it ahead; it is not stored."""


class UserRecording(ClientMessage, frozen=True, kw_only=True, tag="user.recording"):
    """The candidate is speaking: the hint waits."""


class UserMessage(ClientMessage, frozen=True, kw_only=True, tag="user.message"):
    """A typed answer."""

    text: Annotated[str, Meta(max_length=MAX_ANSWER)]


class AudioStart(ClientMessage, frozen=True, kw_only=True, tag="audio.start"):
    """A recording begins; sent again with the same id after a reconnect, it goes on."""

    id: Annotated[Id, Meta(min_length=1)]


class AudioStop(ClientMessage, frozen=True, kw_only=True, tag="audio.stop"):
    """The recording is whole: answer with it."""

    id: Annotated[Id, Meta(min_length=1)]
    frames: Annotated[int, Meta(ge=0)]
    """How many frames were sent; the server waits for all of them."""


class AudioCancel(ClientMessage, frozen=True, kw_only=True, tag="audio.cancel"):
    """Forget the recording."""

    id: Annotated[Id, Meta(min_length=1)]


class HintRequest(ClientMessage, frozen=True, kw_only=True, tag="hint.request"):
    """Ask for a hint to the open question."""


class TurnStop(ClientMessage, frozen=True, kw_only=True, tag="turn.stop"):
    """Stop the model."""


class TurnRetry(ClientMessage, frozen=True, kw_only=True, tag="turn.retry"):
    """Try the stopped or failed turn again."""


class MessageEdit(ClientMessage, frozen=True, kw_only=True, tag="message.edit"):
    """Correct one's own answer, above all a transcription."""

    message_id: str
    text: Annotated[str, Meta(min_length=1, max_length=MAX_ANSWER)]


class InterviewEnd(ClientMessage, frozen=True, kw_only=True, tag="interview.end"):
    """Come to the end now."""


ClientMessages = (
    GetAllMessages
    | UserTyping
    | UserRecording
    | UserMessage
    | AudioStart
    | AudioStop
    | AudioCancel
    | HintRequest
    | TurnStop
    | TurnRetry
    | MessageEdit
    | InterviewEnd
)


# --- Codecs -----------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder()
_server_decoder: msgspec.json.Decoder[ServerMessages] = msgspec.json.Decoder(ServerMessages)
_client_decoder: msgspec.json.Decoder[ClientMessages] = msgspec.json.Decoder(ClientMessages)
_frame_number = struct.Struct(">I")


def encode(message: ServerMessage | ClientMessage | Struct) -> bytes:
    """UTF-8 JSON of a message or a REST body."""
    return _encoder.encode(message)


def decode_client(data: str | bytes) -> ClientMessages:
    """Raises msgspec.DecodeError on bad JSON, msgspec.ValidationError on a bad message."""
    try:
        return _client_decoder.decode(data)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def decode_message_id(data: str | bytes) -> str:
    """The client-made id in a message that is otherwise bad; empty when there is none."""
    try:
        return msgspec.json.decode(data, type=_Envelope).id
    except (msgspec.DecodeError, RecursionError):
        return ""


def decode_server(data: str | bytes) -> ServerMessages | None:
    """None for a tag this version does not know: clients skip those.

    Raises msgspec.DecodeError or msgspec.ValidationError on anything else that is wrong.
    """
    try:
        return _server_decoder.decode(data)
    except msgspec.ValidationError:
        tag = msgspec.json.decode(data, type=_Envelope).type
        if tag in _SERVER_TAGS:
            raise
        return None


class _Envelope(Struct):
    type: str = ""
    id: Id = ""


_SERVER_TAGS = frozenset(t.__struct_config__.tag for t in ServerMessages.__args__)


def pack_frame(number: int, pcm: bytes) -> bytes:
    """One numbered audio frame."""
    return _frame_number.pack(number) + pcm


def unpack_frame(data: bytes) -> tuple[int, bytes]:
    """Raises ValueError when the frame has no header or not whole samples."""
    if len(data) < FRAME_HEADER or len(data) % 2:
        raise ValueError("an audio frame is a 4-byte number and whole 16-bit samples")
    return _frame_number.unpack_from(data)[0], data[FRAME_HEADER:]
