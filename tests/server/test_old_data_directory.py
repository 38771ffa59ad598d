"""Data directory of an earlier version, opened by the current server.

The fixture is the data directory of a server that was killed in the middle of a turn. One interview
is finished. Another is open: an answer is waiting for the next question, and 13 frames of a
recording are stored.
"""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from prepserver.accounts.budgets import BudgetUsage
from prepserver.app import create_services
from prepserver.config import Config
from prepserver.http.services import Services
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects.connection import Connection
from prepserver.telemetry.call_log import CallQuery
from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.rooms import Client

ARCHIVE = Path(__file__).parent / "fixtures" / "data-directory-1.tar.gz"
KEY = "prep_beb5ce3b82388899_163d412b5629d6973b373dc6feb6639fa939928aa206bffe"
USER = "6fa4510377a74699b81b2fb885aa9ea8"
OPEN = InterviewStub("c817014e17551ee279d474b5a1bf2463")
FINISHED = InterviewStub("ba8a4ef455f0e8ac1ba3fdcedcfb9841")
BOOT = "7dd39db3-215c-4362-bfe4-5ed9a94b1677"
"""Boot id of the machine when the fixture's alarm index was written."""

WINDOW_START = 1_795_655_136.151952
"""Time of the user's first counted request, in seconds since the Unix epoch."""
KILLED = 1_795_655_139.5
"""Time at which the server was killed, in seconds since the Unix epoch."""

ANSWERS = [
    "I split the ledger in two.\n\n日本語 🙂",
    "I spoke for 2.0 seconds and my mark is 58a4d4.",
    "We measured first.",
]


@asynccontextmanager
async def started(folder: Path, clock: ManualClock) -> AsyncIterator[Services]:
    """Unpack the fixture, and yield the services of a server that runs scripted models on the
    fixture's data directory."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    config = Config(data_dir=folder / "server-data", model="scripted", stt_model="scripted")
    services = create_services(config, clock)
    await services.start()
    try:
        yield services
    finally:
        await services.close()


async def advance_until(clock: ManualClock, condition: Callable[[], Awaitable[bool]]) -> None:
    """Advance virtual time until `condition` holds; raise TimeoutError after 20 real seconds."""
    async with asyncio.timeout(20):
        while not await condition():
            await clock.advance(0.25)
            await asyncio.sleep(0.01)


async def questions_generated(services: Services) -> int:
    """Return the number of questions generated in the open interview since the server was
    killed."""
    query = CallQuery(interview=OPEN.name, purpose="question", since=KILLED)
    return sum(call.outcome == "ok" for call in await services.call_log.find(query))


@pytest.mark.parametrize("boot", [BOOT, "another"], ids=["same-boot", "after-a-reboot"])
@asynchronous
async def test_an_old_data_directory_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str
) -> None:
    """The server finishes the active turn of an old data directory without a client, and a client
    can continue the interview and its recording."""
    monkeypatch.setattr("prepserver.objects.registry.read_boot_id", lambda: boot)
    clock = ManualClock(start=KILLED + 10.0)
    async with started(tmp_path, clock) as services:
        # Without calls and connections, only alarms can wake the interview.
        await advance_until(clock, lambda: _is(1, questions_generated(services)))

        messages = await services.registry.call(OPEN.messages())
        kinds = "question hint answer question answer question answer question"
        assert [message.kind for message in messages] == kinds.split()
        assert [m.text for m in messages if m.kind is wire.MessageKind.ANSWER] == ANSWERS

        connection = Connection("c")
        instance = services.registry.connect(OPEN.kind, OPEN.name, connection)
        client = Client(connection, instance)
        snapshot = await client.next(wire.Snapshot)
        assert (snapshot.state, snapshot.messages) == (wire.Phase.IDLE, messages)

        await client.send(client_messages.AudioStart(id="half"))
        assert (await client.next(wire.AudioAck)).frame == 12

        await client.send(client_messages.UserMessage(id="new", text="Then we cached."))
        assert (await client.next_message(wire.MessageKind.ANSWER)).text == "Then we cached."
        assert (await client.next_message(wire.MessageKind.QUESTION)).text
        await client.leave()


async def _is(expected: int, counted: Awaitable[int]) -> bool:
    return await counted == expected


@asynchronous
async def test_an_old_data_directory_is_readable(tmp_path: Path) -> None:
    """The users, interviews, transcripts, quotas, budgets and calls of an old data directory are
    readable."""
    async with started(tmp_path, ManualClock(start=KILLED)) as services:
        assert await services.authenticator.authenticate(KEY) == USER
        assert [user.name for user in services.authenticator.users.list()] == ["ada", "grace"]

        views = await services.registry.call(UserInterviewsStub(USER).list())
        assert {view.id: (view.title, view.status) for view in views} == {
            OPEN.name: ("Backend Engineer at Röhren & Söhne", wire.Status.ACTIVE),
            FINISHED.name: ("Gardener", wire.Status.COMPLETED),
        }
        messages = await services.registry.call(FINISHED.messages())
        assert [message.kind for message in messages] == "question answer closing summary".split()
        assert messages[1].text == "I planted “everything” twice — naïve."
        spoken = await services.registry.call(
            OPEN.transcription("5f13356c15ba4fc8bad0c54757d04ff2-answer")
        )
        assert (spoken.text, spoken.seconds, len(spoken.segments)) == (ANSWERS[1], 2.0, 1)

        quota = await services.rate_limiter.quota(USER)
        assert quota.reset == WINDOW_START + 86_400.0
        assert quota.limit - quota.remaining >= 12
        assert await services.budgets.usage(USER) == BudgetUsage()

        calls = await services.call_log.find(CallQuery(user=USER, until=KILLED))
        assert len(calls) == 15
        assert {call.interview for call in calls} == {OPEN.name, FINISHED.name}
        (transcription,) = [call for call in calls if call.purpose == "transcribe"]
        assert (transcription.audio, transcription.outcome) == (2.0, "ok")
