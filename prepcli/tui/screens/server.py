"""What the screens ask of a connection to a server, so that tests can stand in for one.

`prepcli.client` is the real thing.
"""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from prepcli.client.state import RoomEvent
from prepserver.wire.protocol import ClientMessages, Interview, InterviewSpec


class RecordingLink(Protocol):
    """A recording on its way to the server. Nothing fed is lost by a reconnect."""

    def feed(self, pcm: bytes) -> None: ...
    async def stop(self) -> None: ...
    def cancel(self) -> None: ...


class RoomLink(Protocol):
    """A room: entered, it yields what happens there, and takes what is said. Raises PrepError."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> bool | None: ...
    def __aiter__(self) -> AsyncIterator[RoomEvent]: ...
    async def send(self, message: ClientMessages) -> None: ...
    def start_recording(self) -> RecordingLink: ...


class RestLink(Protocol):
    """Raises PrepError."""

    async def list_interviews(self) -> Sequence[Interview]: ...
    async def create_interview(self, spec: InterviewSpec) -> Interview: ...
    async def delete_interview(self, interview_id: str) -> None: ...


class SessionLink(Protocol):
    """A server that somebody is logged in to."""

    @property
    def rest(self) -> RestLink: ...
    def room(self, party: str, name: str) -> RoomLink: ...
    async def close(self) -> None: ...
