"""The protocol between the server and an engine's process: msgpack frames over pipes.

A frame consists of a header, which holds the length of the body in bytes (`FRAME_HEADER`,
big-endian), and the body, which is one msgpack value of a tagged union. The first command is
`ConfigureFrame`; the first reply is `ReadyFrame`, or `FailedFrame` with id 0. Every later frame
except `HeartbeatFrame` carries the id that the server gave the request. Payloads of requests,
inputs and events are defined by each engine and travel as raw msgpack.
"""

import struct
from typing import Any

import msgspec
from msgspec import Raw, Struct

from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "FRAME_HEADER",
    "MAX_FRAME_BYTES",
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
    "encode_payload",
    "pack_frame",
]

FRAME_HEADER = struct.Struct(">I")

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Maximum length of a frame's body in bytes. If a header holds a greater length, something other
than a frame was written to the pipe."""


class ConfigureFrame(Struct, frozen=True, tag="configure"):
    """First command, which carries the engine's options."""

    options: Raw


class RequestFrame(Struct, frozen=True, tag="request"):
    id: int
    """Number of the request, counted from 1."""
    payload: Raw


class CancelFrame(Struct, frozen=True, tag="cancel"):
    """Command to cancel a request whose result the caller no longer needs."""

    id: int


class InputFrame(Struct, frozen=True, tag="input"):
    """Input for an open request, such as the audio recorded since the previous frame."""

    id: int
    payload: Raw


class EndOfInputFrame(Struct, frozen=True, tag="end_of_input"):
    """Notice that a request's input is complete."""

    id: int


Command = ConfigureFrame | RequestFrame | InputFrame | EndOfInputFrame | CancelFrame
"""Frames from the server to the engine."""


class ReadyFrame(Struct, frozen=True, tag="ready"):
    """First reply from an engine that has been loaded; `info` describes the engine."""

    info: Raw


class HeartbeatFrame(Struct, frozen=True, tag="heartbeat"):
    """Sign of life from an engine that is working, even if the engine has no event to send."""


class EventFrame(Struct, frozen=True, tag="event"):
    id: int
    payload: Raw


class DoneFrame(Struct, frozen=True, tag="done"):
    """Last frame in reply to a request that succeeded or was cancelled."""

    id: int


class FailedFrame(Struct, frozen=True, kw_only=True, tag="failed"):
    """Last frame in reply to a request that failed. Id 0 means that the engine could not be
    loaded."""

    id: int
    code: ErrorCode
    message: str
    retryable: bool
    details: dict[str, Any] = {}


Reply = ReadyFrame | HeartbeatFrame | EventFrame | DoneFrame | FailedFrame
"""Frames from the engine to the server."""

_encoder = msgspec.msgpack.Encoder()
_command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode_payload(value: object) -> Raw:
    """Encode the payload of a request, input or event frame."""
    return Raw(_encoder.encode(value))


def pack_frame(frame: Command | Reply) -> bytes:
    """Encode a frame with its header. Raises ValueError if the body exceeds `MAX_FRAME_BYTES`."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes exceeds the limit of {MAX_FRAME_BYTES}")
    return FRAME_HEADER.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """Decode the body of a command. Raises msgspec.DecodeError if the body is invalid."""
    return _command_decoder.decode(body)


def decode_reply(body: bytes) -> Reply:
    """Decode the body of a reply. Raises msgspec.DecodeError if the body is invalid."""
    return _reply_decoder.decode(body)
