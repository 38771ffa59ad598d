"""Bodies of the REST API that are not things of the protocol themselves.

Like the protocol it depends on msgspec alone, and clients import it.
"""

from typing import Literal

from msgspec import Struct

from prepserver.protocol import Error, Interview, Message

__all__ = ["ErrorBody", "Health", "Interviews", "Messages", "Token"]


class ErrorBody(Struct, frozen=True):
    error: Error


class Token(Struct, frozen=True):
    token: str
    expires_at: float


class Interviews(Struct, frozen=True):
    interviews: list[Interview]


class Messages(Struct, frozen=True):
    messages: list[Message]


class Health(Struct, frozen=True, kw_only=True):
    status: Literal["ok", "starting", "unavailable"]
    version: str
    models: dict[str, str] = {}
    """Each model's job and its state: `loading`, `ready` or `failed`."""
