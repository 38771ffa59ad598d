"""The wire between the server and an engine's process: msgpack frames over a pipe.

Each frame is its length in bytes (`HEADER`, big-endian) and then one msgpack value of a tagged
union. The first frame to the engine is `ConfigureFrame`; the first one back is `ReadyFrame`, or a
`FailedFrame` with id 0. Every later frame carries the id that the server gave its request. The
payloads of requests and events belong to the engine and travel as raw msgpack.
"""

import struct
from typing import Any

import msgspec
from msgspec import Raw, Struct

from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "HEADER",
    "MAX_FRAME",
    "CancelFrame",
    "Command",
    "ConfigureFrame",
    "DoneFrame",
    "EndOfInputFrame",
    "EventFrame",
    "FailedFrame",
    "HeartbeatFrame",
    "InputFrame",
    "ReadyFrame",
    "Reply",
    "RequestFrame",
    "decode_command",
    "decode_reply",
    "encode",
    "pack",
]

HEADER = struct.Struct(">I")

MAX_FRAME = 64 * 1024 * 1024
"""Bytes. The longest real frame is a recording of some ten minutes, 19 MB; a length beyond this
means that something other than a frame was written to the pipe."""


class ConfigureFrame(Struct, frozen=True, tag="configure"):
    """First: what to load and how."""

    options: Raw


class RequestFrame(Struct, frozen=True, tag="request"):
    id: int
    """From 1 up."""
    payload: Raw


class CancelFrame(Struct, frozen=True, tag="cancel"):
    """Nobody waits for this request any more."""

    id: int


class InputFrame(Struct, frozen=True, tag="feed"):
    """More input of a request that is open, such as what was said since the last one."""

    id: int
    payload: Raw


class EndOfInputFrame(Struct, frozen=True, tag="finish"):
    """The input of a request is whole."""

    id: int


Command = ConfigureFrame | RequestFrame | InputFrame | EndOfInputFrame | CancelFrame
"""Server to engine."""


class ReadyFrame(Struct, frozen=True, tag="ready"):
    """The engine is loaded; `info` says what it is."""

    info: Raw


class HeartbeatFrame(Struct, frozen=True, tag="alive"):
    """Work goes on, there is only nothing to show yet."""


class EventFrame(Struct, frozen=True, tag="event"):
    id: int
    payload: Raw


class DoneFrame(Struct, frozen=True, tag="done"):
    """The last frame of a request that went well, or that was cancelled."""

    id: int


class FailedFrame(Struct, frozen=True, kw_only=True, tag="failed"):
    """The last frame of a request that did not go well; of id 0, the engine cannot be loaded."""

    id: int
    code: ErrorCode
    message: str
    retryable: bool
    details: dict[str, Any] = {}


Reply = ReadyFrame | HeartbeatFrame | EventFrame | DoneFrame | FailedFrame
"""Engine to server."""

_encoder = msgspec.msgpack.Encoder()
_down_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_up_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode(value: object) -> Raw:
    """A request's or an event's content, to put into a frame."""
    return Raw(_encoder.encode(value))


def pack(frame: Command | Reply) -> bytes:
    """A frame with its header. Raises ValueError when it is longer than `MAX_FRAME`."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME:
        raise ValueError(f"a frame of {len(body)} bytes is longer than {MAX_FRAME}")
    return HEADER.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """Raises msgspec.DecodeError."""
    return _down_decoder.decode(body)


def decode_reply(body: bytes) -> Reply:
    """Raises msgspec.DecodeError."""
    return _up_decoder.decode(body)
