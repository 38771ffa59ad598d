"""Fakes of a session, its rooms and a microphone, and functions that drive the app."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from io import StringIO
from typing import Self

import pytest
from rich.console import Console
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from prepcli.client.state import ConnectionChanged, ConnectionStatus, RoomEvent
from prepcli.errors import PrepError
from prepcli.tui.app import PrepApp
from prepcli.tui.screens import recorder
from prepcli.tui.screens.recorder import Blocks
from prepcli.tui.widgets.message import MessageView
from prepserver.wire.client_messages import ClientMessages
from prepserver.wire.protocol import (
    Delta,
    Hello,
    Interview,
    InterviewCreated,
    InterviewDeleted,
    InterviewSpec,
    InterviewType,
    Level,
    Message,
    MessageKind,
    Phase,
    Quota,
    Role,
    Snapshot,
    Source,
    Status,
)

NOW = 1_790_000_000.0
"""Current time in the tests, in seconds since the Unix epoch."""


class Clock:
    """Clock that only a test advances."""

    def __init__(self, start: float = 0.0) -> None:
        self.time = start

    def __call__(self) -> float:
        return self.time


def interview(
    interview_id: str = "one",
    *,
    title: str = "Backend Engineer at Acme",
    asked: int = 1,
    answered: int = 0,
    status: Status = Status.ACTIVE,
    created_at: float = NOW - 7200,
    updated_at: float = NOW - 180,
) -> Interview:
    return Interview(
        id=interview_id,
        title=title,
        role="Backend Engineer",
        company="Acme",
        type=InterviewType.TECHNICAL,
        level=Level.SENIOR,
        questions=5,
        asked=asked,
        answered=answered,
        status=status,
        created_at=created_at,
        updated_at=updated_at,
    )


def message(
    position: int,
    kind: MessageKind,
    text: str,
    *,
    source: Source = Source.TEXT,
    message_id: str = "",
) -> Message:
    return Message(
        id=message_id or f"m{position}",
        role=Role.CANDIDATE if kind is MessageKind.ANSWER else Role.INTERVIEWER,
        kind=kind,
        text=text,
        source=source,
        position=position,
        created_at=NOW,
    )


def question(position: int, text: str = "How do you test a migration?") -> Message:
    return message(position, MessageKind.QUESTION, text, source=Source.MODEL)


def answer(position: int, text: str = "On a copy of the real data.") -> Message:
    return message(position, MessageKind.ANSWER, text)


class FakeRecording:
    """Recording that keeps its audio.

    `ended` is `stopped`, `cancelled`, or an empty string before the end.
    """

    def __init__(self) -> None:
        self.pcm = b""
        self.ended = ""

    def feed(self, pcm: bytes) -> None:
        self.pcm += pcm

    async def stop(self) -> None:
        self.ended = "stopped"

    def cancel(self) -> None:
        self.ended = "cancelled"


class FakeRoom:
    """Room that emits the events that a test passes to `emit`, and keeps what the app sends."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[RoomEvent | PrepError] = asyncio.Queue()
        self.sent: list[ClientMessages] = []
        self.recordings: list[FakeRecording] = []
        self.entered = False

    def emit(self, *events: RoomEvent | PrepError) -> None:
        for event in events:
            self._events.put_nowait(event)

    async def __aenter__(self) -> Self:
        self.entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RoomEvent:
        event = await self._events.get()
        if isinstance(event, PrepError):
            raise event
        return event

    async def send(self, message: ClientMessages) -> None:
        self.sent.append(message)

    def start_recording(self) -> FakeRecording:
        self.recordings.append(FakeRecording())
        return self.recordings[-1]


class FakeRest:
    """REST client that creates and deletes interviews, and notifies the lobby as a server would."""

    def __init__(self, lobby: FakeRoom, interviews: Sequence[Interview]) -> None:
        self._lobby = lobby
        self._interviews = list(interviews)
        self.created: list[InterviewSpec] = []
        self.deleted: list[str] = []
        self.error: PrepError | None = None

    async def list_interviews(self) -> Sequence[Interview]:
        return self._interviews

    async def get_interview(self, interview_id: str) -> Interview:
        if self.error:
            raise self.error
        found = [each for each in self._interviews if each.id == interview_id]
        return found[0] if found else interview(interview_id)

    async def create_interview(self, spec: InterviewSpec) -> Interview:
        if self.error:
            raise self.error
        self.created.append(spec)
        made = interview("new", title=spec.role, asked=0, created_at=NOW, updated_at=NOW)
        self._lobby.emit(InterviewCreated(interview=made))
        return made

    async def delete_interview(self, interview_id: str) -> None:
        if self.error:
            raise self.error
        self.deleted.append(interview_id)
        self._lobby.emit(InterviewDeleted(interview_id=interview_id))


class FakeSession:
    """Session whose server has the given interviews."""

    local = False
    restarts = 0
    """Number of restarts of the local server that the user has allowed."""

    def __init__(self, interviews: Sequence[Interview] = ()) -> None:
        self.rooms: dict[tuple[str, str], FakeRoom] = {}
        self.lobby = self.room("user-interviews", "me")
        self.rest = FakeRest(self.lobby, interviews)
        self.lobby.emit(*joined(Snapshot(interviews=list(interviews))))

    def room(self, party: str, name: str) -> FakeRoom:
        return self.rooms.setdefault((party, name), FakeRoom())

    def allow_restart(self) -> None:
        self.restarts += 1

    def interview(self, name: str = "one") -> FakeRoom:
        return self.room("interview", name)

    def mute_lobby(self) -> None:
        """Replace the lobby with a room that has emitted no events."""
        self.lobby = self.rooms["user-interviews", "me"] = FakeRoom()

    async def close(self) -> None:
        """Do nothing: no connection is open."""


def joined(snapshot: Snapshot) -> tuple[RoomEvent, ...]:
    """Return the events with which a connection starts, up to the snapshot."""
    hello = Hello(protocol=1, server="test", connection="c", party="p", room="r")
    return ConnectionChanged(status=ConnectionStatus.ONLINE), hello, snapshot


def asked_once(**changes: object) -> Snapshot:
    """Return the snapshot of an interview with one open question; `changes` replace some of the
    fields."""
    snapshot = {
        "interview": interview(),
        "state": Phase.IDLE,
        "messages": [question(0)],
        "ratelimit": Quota(limit=100, remaining=87),
    }
    return Snapshot(**{**snapshot, **changes})  # type: ignore[arg-type]


def streamed(message_id: str, words: Sequence[str], *, start: str = "") -> list[RoomEvent]:
    """Return one delta of a question for each word; the first delta follows the text `start`."""
    text = start
    deltas: list[RoomEvent] = []
    for word in words:
        deltas.append(
            Delta(message_id=message_id, kind=MessageKind.QUESTION, offset=len(text), text=word)
        )
        text += word
    return deltas


class FakeMicrophone:
    """Microphone that delivers the given blocks, then the blocks passed to `add_blocks`.

    If an error is given, opening the microphone raises the error. After the last block, the
    microphone waits for more blocks; `no_stall_timeout` makes the recorder wait as well.
    """

    def __init__(self, *blocks: bytes, error: PrepError | None = None) -> None:
        self._blocks = blocks
        self._error = error
        self._more: asyncio.Queue[bytes] = asyncio.Queue()

    def add_blocks(self, *blocks: bytes) -> None:
        for block in blocks:
            self._more.put_nowait(block)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Blocks]:
        if self._error is not None:
            raise self._error
        yield self._blocks_of_audio()

    async def _blocks_of_audio(self) -> AsyncIterator[bytes]:
        for block in self._blocks:
            yield block
        while True:
            yield await self._more.get()


def drive(
    play: Callable[[PrepApp, Pilot[int]], Awaitable[None]],
    session: FakeSession,
    *,
    size: tuple[int, int] = (80, 24),
    interview_id: str = "",
    microphone: FakeMicrophone | None = None,
    monotonic: Clock | None = None,
) -> None:
    """Run the app without a terminal while `play` presses keys."""

    async def connect(*_: object) -> FakeSession:
        return session

    async def run() -> None:
        app = PrepApp(
            connect,
            microphone=microphone or FakeMicrophone(),
            interview_id=interview_id,
            now=Clock(NOW),
            monotonic=monotonic or Clock(),
        )
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await play(app, pilot)

    asyncio.run(run())


@pytest.fixture(autouse=True)
def no_stall_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the stall timeout, because real time is unreliable on a busy machine."""
    monkeypatch.setattr(recorder, "STALL", 3600.0)


async def settle(pilot: Pilot[int]) -> None:
    """Wait until every event and key press has reached the screen."""
    for _ in range(3):
        await pilot.pause()


async def finish(app: PrepApp, pilot: Pilot[int], group: str) -> None:
    """Wait until all workers of a group have finished and the screen is up to date."""
    await pilot.pause()
    if workers := [worker for worker in app.workers if worker.group == group]:
        # A worker that closes its own screen is cancelled in its last step.
        with suppress(WorkerCancelled):
            await app.workers.wait_for_complete(workers)
    await settle(pilot)


def headings(app: PrepApp) -> list[str]:
    """Return the headings in the transcript from top to bottom."""
    return [each.title for each in app.screen.query(MessageView)]


def words(app: PrepApp) -> list[str]:
    """Return the text below each heading in the transcript."""
    return [each.text for each in app.screen.query(MessageView)]


def notices(app: PrepApp) -> list[str]:
    """Return the notifications on the screen, oldest first."""
    return [notice.message for notice in app._notifications]


def shown(app: PrepApp) -> str:
    """Return the text on the screen, line by line."""
    width, height = app.size
    console = Console(width=width, height=height, file=StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(app.screen._compositor)
    return capture.get()
