"""Reading of interviews for the commands that print them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from prepcli.local_server.server import LocalServer
from prepcli.local_server.stored import StoredInterviews
from prepserver.wire.agenda import Agenda
from prepserver.wire.protocol import Interview, Message
from prepserver.wire.rest import SpokenAnswer

__all__ = ["InterviewReader", "open_reader"]


class InterviewReader(Protocol):
    """Read access to the user's interviews. Every call may raise PrepError."""

    async def list_interviews(self) -> list[Interview]: ...
    async def get_interview(self, interview_id: str) -> Interview: ...
    async def get_messages(self, interview_id: str) -> list[Message]: ...
    async def get_agenda(self, interview_id: str) -> Agenda: ...
    async def get_spoken_answer(self, interview_id: str, message_id: str) -> SpokenAnswer: ...


@contextlib.asynccontextmanager
async def open_reader(server: str | None) -> AsyncIterator[InterviewReader]:
    """Open a reader of the interviews on the server with the URL `server` or, if it is None, on
    this machine.

    The local server is not started: if it is not running, its files are read. Raises PrepError.
    """
    if server is not None:
        from prepcli.local_server.sessions import connect  # imports an HTTP client

        async with await connect(server) as rest:
            yield rest
        return
    local = LocalServer()
    try:
        async with local.exclusive() as running:
            if not running:
                yield StoredInterviews(local.directory)
                return
        from prepcli.client.rest import RestClient  # imports an HTTP client

        async with RestClient(local.url, local.access_key) as rest:
            yield rest
    finally:
        await local.stop()
