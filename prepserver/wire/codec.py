"""Encoding and decoding of protocol messages and audio frames."""

import struct

import msgspec
from msgspec import Struct

from prepserver.wire.client_messages import ClientMessage, ClientMessages
from prepserver.wire.protocol import (
    FRAME_HEADER,
    Id,
    ServerMessage,
    ServerMessages,
)

__all__ = [
    "decode_client",
    "decode_message_id",
    "decode_server",
    "encode",
    "pack_frame",
    "unpack_frame",
]

_encoder = msgspec.json.Encoder()
_server_decoder: msgspec.json.Decoder[ServerMessages] = msgspec.json.Decoder(ServerMessages)
_client_decoder: msgspec.json.Decoder[ClientMessages] = msgspec.json.Decoder(ClientMessages)
_frame_number = struct.Struct(">I")


def encode(message: ServerMessage | ClientMessage | Struct) -> bytes:
    """Encode a message or a REST body as UTF-8 JSON."""
    return _encoder.encode(message)


def decode_client(data: str | bytes) -> ClientMessages:
    """Decode a client message.

    Raises msgspec.DecodeError if the JSON is invalid, and msgspec.ValidationError if the message
    is invalid.
    """
    try:
        return _client_decoder.decode(data)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def decode_message_id(data: str | bytes) -> str:
    """Return the id of a message, even of an invalid one; empty if the id cannot be decoded."""
    try:
        return msgspec.json.decode(data, type=_Envelope).id
    except (msgspec.DecodeError, RecursionError):
        return ""


def decode_server(data: str | bytes) -> ServerMessages | None:
    """Decode a server message; return None for an unknown type, so that the client can skip it.

    Raises msgspec.DecodeError or msgspec.ValidationError if the message is invalid.
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
    """Return an audio frame: the frame number, followed by the PCM16 samples."""
    return _frame_number.pack(number) + pcm


def unpack_frame(data: bytes) -> tuple[int, bytes]:
    """Split an audio frame into the frame number and the PCM16 samples.

    Raises ValueError if the frame number or the last sample is incomplete.
    """
    if len(data) < FRAME_HEADER or len(data) % 2:
        raise ValueError(
            "The audio frame is invalid: send a 4-byte number, then whole 16-bit samples."
        )
    return _frame_number.unpack_from(data)[0], data[FRAME_HEADER:]
