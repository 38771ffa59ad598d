"""The wire between the server and an engine's process: msgpack frames over a pipe.

Each frame is its length in bytes (`HEADER`, big-endian) and then one msgpack value of a tagged
union. The first frame down is `Configure`, the first frame up is `Ready` or a `Failed` of id 0;
after that requests are told apart by the id that the server gave them. What is inside a request
or an event is the engine's own affair and travels as raw msgpack.
"""

import struct
from typing import Any

import msgspec
from msgspec import Raw, Struct

__all__ = [
    "HEADER",
    "MAX_FRAME",
    "Alive",
    "Cancel",
    "Configure",
    "Done",
    "Down",
    "Event",
    "Failed",
    "Feed",
    "Finish",
    "Ready",
    "Request",
    "Up",
    "decode_down",
    "decode_up",
    "encode",
    "pack",
]

HEADER = struct.Struct(">I")

MAX_FRAME = 64 * 1024 * 1024
"""Bytes. The longest real frame is a recording of some ten minutes, 19 MB; a length beyond this
means that something other than a frame was written to the pipe."""


class Configure(Struct, frozen=True, tag="configure"):
    """First: what to load and how."""

    options: Raw


class Request(Struct, frozen=True, tag="request"):
    id: int
    """From 1 up."""
    payload: Raw


class Cancel(Struct, frozen=True, tag="cancel"):
    """Nobody waits for this request any more."""

    id: int


class Feed(Struct, frozen=True, tag="feed"):
    """More input of a request that is open, such as what was said since the last one."""

    id: int
    payload: Raw


class Finish(Struct, frozen=True, tag="finish"):
    """The input of a request is whole."""

    id: int


Down = Configure | Request | Feed | Finish | Cancel
"""Server to engine."""


class Ready(Struct, frozen=True, tag="ready"):
    """The engine is loaded; `info` says what it is."""

    info: Raw


class Alive(Struct, frozen=True, tag="alive"):
    """Work goes on, there is only nothing to show yet."""


class Event(Struct, frozen=True, tag="event"):
    id: int
    payload: Raw


class Done(Struct, frozen=True, tag="done"):
    """The last frame of a request that went well, or that was cancelled."""

    id: int


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """The last frame of a request that did not go well; of id 0, the engine cannot be loaded."""

    id: int
    code: str
    message: str
    retryable: bool
    details: dict[str, Any] = {}


Up = Ready | Alive | Event | Done | Failed
"""Engine to server."""

_encoder = msgspec.msgpack.Encoder()
_down_decoder: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
_up_decoder: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)


def encode(value: object) -> Raw:
    """A request's or an event's content, to put into a frame."""
    return Raw(_encoder.encode(value))


def pack(frame: Down | Up) -> bytes:
    """A frame with its header. Raises ValueError when it is longer than `MAX_FRAME`."""
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME:
        raise ValueError(f"a frame of {len(body)} bytes is longer than {MAX_FRAME}")
    return HEADER.pack(len(body)) + body


def decode_down(body: bytes) -> Down:
    """Raises msgspec.DecodeError."""
    return _down_decoder.decode(body)


def decode_up(body: bytes) -> Up:
    """Raises msgspec.DecodeError."""
    return _up_decoder.decode(body)
