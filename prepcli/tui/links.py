"""Protocols for the parts of a session that screens use, implemented in `prepcli.client`."""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from prepcli.client.state import RoomEvent
from prepserver.wire.client_messages import ClientMessages
from prepserver.wire.protocol import Interview, InterviewSpec


class RecordingLink(Protocol):
    """A recording that is being sent. No audio is lost in a reconnect."""

    def feed(self, pcm: bytes) -> None: ...
    async def stop(self) -> None: ...
    def cancel(self) -> None: ...


class RoomLink(Protocol):
    """A room: an async context manager that yields events and sends messages. Iterating and calling
    methods may raise PrepError."""

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
    """The REST calls that the screens use. Every call may raise PrepError."""

    async def list_interviews(self) -> Sequence[Interview]: ...
    async def get_interview(self, interview_id: str) -> Interview: ...
    async def create_interview(self, spec: InterviewSpec) -> Interview: ...
    async def delete_interview(self, interview_id: str) -> None: ...


class SessionLink(Protocol):
    """Authenticated access to a server."""

    @property
    def rest(self) -> RestLink: ...
    @property
    def local(self) -> bool:
        """True if the server is the local server, which is restarted if it ends."""

    def allow_restart(self) -> None: ...
    def room(self, party: str, name: str) -> RoomLink: ...
    async def close(self) -> None: ...
