"""Server without HTTP: a registry on a data directory, scripted models, and clients in rooms."""

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedLanguageModel, ScriptedSpeechModel
from prepserver.engines.types import LanguageModel, SpeechModel
from prepserver.gateway.gateway import Gateway
from prepserver.http.interviews import create_interview
from prepserver.interview.interview import InterviewObject, InterviewSettings
from prepserver.interview.questions import bank
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.interview.user_interviews import UserInterviews
from prepserver.objects.connection import Close, Connection
from prepserver.objects.instance import Instance, Kind
from prepserver.objects.registry import Registry
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from tests.support.clock import ManualClock
from tests.support.fake_socket import FakeSocket
from tests.support.models import one_set

__all__ = ["Client", "Rooms"]

REPLY_TIMEOUT = 10.0
"""Seconds of real time that a client waits for an expected message."""

USER = "user-1"

M = TypeVar("M")


class Rooms:
    """Objects and models of a server, which `async with Rooms(tmp_path) as rooms:` starts and
    stops.

    To restart the server, leave the block and enter a new one with the same folder.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: ManualClock | None = None,
        language: LanguageModel | None = None,
        speech: SpeechModel | None = None,
        delay: float = 0.0,
        hint_after: float = 180.0,
        max_recording: float = 600.0,
        rate_limit: int = 100,
        executor: Executor | None = None,
        limiter_folder: Path | None = None,
        vfs: str | None = None,
        boot: str | None = None,
    ) -> None:
        """Build the objects with `root` as their data directory; the defaults are suitable for
        tests.

        `delay` is the time before each word or transcription of the scripted models, in virtual
        seconds. `limiter_folder` is the folder of the rate limiter's database. `executor`, `vfs`
        and `boot` are passed to the registry.
        """
        self.clock = clock or ManualClock()
        self.limiter = RateLimiter(
            (limiter_folder or root) / "ratelimit.sqlite", self.clock, limit=rate_limit
        )
        self.gateway = Gateway(
            one_set(
                language or ScriptedLanguageModel(self.clock, delay=delay),
                speech or ScriptedSpeechModel(self.clock, delay=delay),
            ),
            self.limiter,
            self.clock,
        )
        settings = InterviewSettings(
            hint_after=hint_after, max_recording=max_recording, version="test"
        )
        questions = bank.load_bank()
        kinds = (
            Kind(
                InterviewStub.kind,
                lambda context: InterviewObject(context, self.gateway, questions, settings),
                InterviewObject.migrations,
                handles_close=False,
            ),
            Kind(
                UserInterviewsStub.kind,
                lambda context: UserInterviews(context, "test", self.gateway.choose_set),
                UserInterviews.migrations,
                handles_close=False,
            ),
        )
        self.registry = Registry(
            root,
            kinds,
            self.clock,
            executor=executor or self.clock.create_executor(),
            vfs=vfs,
            boot=boot,
        )
        self._clients: list[Client] = []

    async def __aenter__(self) -> "Rooms":
        asyncio.get_running_loop().set_default_executor(self.clock.create_executor())
        await self.registry.start()
        self.gateway.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for client in self._clients:
            await client.leave()
        await self.registry.close()
        await self.gateway.close()
        self.limiter.close()

    async def advance(self, seconds: float) -> None:
        """Advance the clock, then wait for the handlers that have started.

        Without the wait, time could pass during a commit that runs in a thread.
        """
        await self.clock.advance(seconds)
        await self.registry.wait_for_handlers()

    async def create(self, user: str = USER, **spec: Any) -> wire.Interview:
        """Create an interview as the HTTP route does."""
        request = wire.CreateInterview(**spec)
        return await create_interview(self.registry, user, request)

    async def join(
        self, room: str, *, party: str = "interview", user: str = USER, id: str = ""
    ) -> "Client":
        """Connect a client to a room, as after a handshake, without waiting for a message."""
        connection = Connection(id or uuid.uuid4().hex)
        connection.state = {"user": user, "quota": await self.limiter.quota(user)}
        client = Client(connection, self.registry.connect(party, room, connection))
        self._clients.append(client)
        return client


class Client:
    """Client program without a socket, which sends frames and collects the received messages."""

    def __init__(self, connection: Connection, instance: Instance) -> None:
        self.connection = connection
        self.messages: list[wire.ServerMessages] = []
        """Messages received so far."""
        self.closed: Close | None = None
        """Code and reason with which the server closed the connection; None while it is open."""
        self.room = instance.name
        self._instance = instance
        self._position = 0
        self._arrived = asyncio.Event()
        self._reader = asyncio.create_task(self._read(FakeSocket(connection)))

    async def _read(self, sink: FakeSocket) -> None:
        while self.closed is None:
            frame = await sink.next()
            if isinstance(frame, Close):
                self.closed = frame
            else:
                message = codec.decode_server(frame)
                assert message is not None, f"unknown tag: {frame!r}"
                self.messages.append(message)
            self._arrived.set()

    @property
    def room_idle(self) -> bool:
        """True while the room has no handler and no background task."""
        return self._instance.idle

    async def send(self, message: client_messages.ClientMessage | str | bytes) -> None:
        """Deliver a message as one frame, binary for bytes, and wait until the message is
        handled."""
        if isinstance(message, client_messages.ClientMessage):
            message = codec.encode(message).decode()
        await asyncio.wait([self._instance.deliver(self.connection, message)])

    async def until(
        self, predicate: Callable[[wire.ServerMessages], bool], *, limit: float = REPLY_TIMEOUT
    ) -> wire.ServerMessages:
        """Return the next message that matches `predicate`, after the last returned message.

        Raise AssertionError with the latest messages after `limit` real seconds.
        """
        try:
            async with asyncio.timeout(limit):
                while True:
                    while self._position < len(self.messages):
                        message = self.messages[self._position]
                        self._position += 1
                        if predicate(message):
                            return message
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            seen = "\n".join(map(str, self.messages[-20:]))
            raise AssertionError(
                f"no matching message within {limit:g} s; closed: {self.closed}; "
                f"latest messages:\n{seen}"
            ) from None

    async def next(self, kind: type[M]) -> M:
        """Return the next message of the type `kind`, after the last returned message."""
        message = await self.until(lambda m: isinstance(m, kind))
        assert isinstance(message, kind)
        return message

    async def next_message(self, kind: wire.MessageKind) -> wire.Message:
        """Return the next complete transcript message of the given kind, after the last returned
        message."""
        message = await self.until(
            lambda m: isinstance(m, wire.InterviewMessage) and m.message.kind is kind
        )
        assert isinstance(message, wire.InterviewMessage)
        return message.message

    async def wait_for_phase(self, phase: wire.Phase) -> None:
        """Wait for a state change or a snapshot with the given phase."""
        await self.until(
            lambda m: isinstance(m, wire.StateChanged | wire.Snapshot) and m.state is phase
        )

    async def wait_closed(self, *, limit: float = REPLY_TIMEOUT) -> Close:
        """Wait until the server closes the connection; return the code and the reason."""
        async with asyncio.timeout(limit):
            while self.closed is None:
                self._arrived.clear()
                await self._arrived.wait()
        return self.closed

    async def leave(self) -> None:
        """Disconnect without a close frame, as when a cable is pulled."""
        self._instance.disconnect(self.connection)
        self._reader.cancel()
        await asyncio.wait([self._reader])
