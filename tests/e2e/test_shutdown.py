"""Shutdown from the clients' side: acknowledged messages are kept, and clients reconnect."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from prepcli.client.rest import RestClient
from prepcli.client.room import Room
from prepserver.wire import client_messages, codec, limits
from prepserver.wire import protocol as wire
from tests.e2e.test_server import create_interview
from tests.support.acknowledgements import check_acknowledged, check_all_ended
from tests.support.candidates import Candidate
from tests.support.forked_server import ForkedServer
from tests.support.loop import asynchronous
from tests.support.room_client import open_room
from tests.support.server import Server
from tests.support.stalled_client import StalledClient

pytestmark = pytest.mark.e2e

STOP_TIMEOUT = 10.0
"""Maximum number of seconds from SIGTERM until the server exits."""
ANSWERS_TIMEOUT = 40.0
"""Maximum number of seconds from a restart until the candidates have given a few answers."""
RECONNECT_TIMEOUT = 3.0
"""Maximum number of seconds from the server's restart until all clients have reconnected."""


@asynchronous
async def test_acknowledged_messages_survive_restarts(tmp_path: Path) -> None:
    """When the server is restarted five times while 12 clients type and speak, each exit code is 0,
    and each acknowledged message is stored once and in order."""
    with ForkedServer(tmp_path, "--rate-limit", "0", "--scripted-delay", "0.01") as server:
        keys = [server.add_user(f"candidate {number}") for number in range(12)]
        stop, received = asyncio.Event(), asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            candidates = [
                await stack.enter_async_context(
                    Candidate(server.url, key, seed=number, on_event=received.set)
                )
                for number, key in enumerate(keys)
            ]
            async with asyncio.TaskGroup() as group:
                for one in candidates:
                    group.create_task(one.hold_interviews(stop))
                await asyncio.gather(*(one.first_question.wait() for one in candidates))
                for _ in range(5):
                    assert await asyncio.to_thread(server.terminate, limit=STOP_TIMEOUT) == 0
                    await asyncio.to_thread(server.start)
                    await wait_for_answers(candidates, received, 7)
                stop.set()
            await check_acknowledged(server, dict(zip(keys, candidates, strict=True)))
        assert server.terminate(limit=STOP_TIMEOUT) == 0
        check_all_ended(server)
        assert count_answers(candidates) > 30
        assert "Traceback" not in server.log
        assert "level=error" not in server.log


async def wait_for_answers(
    candidates: Sequence[Candidate], received: asyncio.Event, count: int
) -> None:
    """Wait until the candidates have given `count` more answers; `received` is set at each event of
    their rooms."""
    wanted = count_answers(candidates) + count
    async with asyncio.timeout(ANSWERS_TIMEOUT):
        while count_answers(candidates) < wanted:
            received.clear()
            await received.wait()


def count_answers(candidates: Sequence[Candidate]) -> int:
    return sum(len(each.answers) for one in candidates for each in one.acknowledged.values())


@asynchronous
async def test_clients_reconnect_within_three_seconds_of_the_start(tmp_path: Path) -> None:
    """Twenty connections of prep's client each receive a snapshot within three seconds after a
    restart."""
    with ForkedServer(tmp_path) as server:
        key = server.add_user()
        async with RestClient(server.url, key) as rest, contextlib.AsyncExitStack() as stack:
            base = server.url.replace("http", "ws", 1)

            async def address(renew: bool) -> str:
                token = await rest.get_room_token(renew=renew)
                return f"{base}/parties/user-interviews/me?token={token}"

            rooms = [await stack.enter_async_context(Room(address)) for _ in range(20)]
            await asyncio.gather(*(wait_for_snapshot(room) for room in rooms))
            assert await asyncio.to_thread(server.terminate, limit=STOP_TIMEOUT) == 0
            await asyncio.sleep(2.0)
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(RECONNECT_TIMEOUT):
                await asyncio.gather(*(wait_for_snapshot(room) for room in rooms))


async def wait_for_snapshot(room: Room) -> None:
    async for event in room:
        if isinstance(event, wire.Snapshot):
            return


def test_a_message_sent_at_shutdown_is_stored_if_acknowledged(tmp_path: Path) -> None:
    """A message sent just before SIGTERM is stored if and only if it was acknowledged, and the
    connection is closed with code 1012."""
    with ForkedServer(tmp_path) as server:
        key = server.add_user()
        id = create_interview(server, key, questions=7)
        acknowledged = []
        for number in range(6):
            with open_room(server.room("interview", id, server.token(key))) as room:
                room.wait_for_question()
                room.send(client_messages.UserMessage(text=f"Answer {number}.", id=f"m{number}"))
                time.sleep(number * 0.004)
                assert server.terminate(limit=STOP_TIMEOUT) == 0
                assert room.wait_for_close() == wire.CLOSE_RESTART
                if wire.Accepted(id=f"m{number}") in room.messages:
                    acknowledged.append(f"Answer {number}.")
            server.start()
        messages = server.request("GET", f"/api/interviews/{id}/messages", key=key).body["messages"]
        assert [m["text"] for m in messages if m["kind"] == "answer"] == acknowledged
        assert acknowledged


@pytest.mark.parametrize("full", [True, False])
def test_a_client_that_does_not_read_does_not_delay_the_shutdown(
    tmp_path: Path, full: bool
) -> None:
    """After SIGTERM, a client that reads nothing does not keep the server from closing other
    connections with code 1012 and exiting with code 0 within ten seconds, whether or not that
    client's socket is full."""
    with Server(tmp_path, "--scripted-delay", "0.1") as server:
        key = server.add_user()
        id = create_interview(server, key)
        url = server.room("interview", id, server.token(key))
        with StalledClient(url) as stalled, open_room(url) as room:
            room.wait_for_question()
            room.send(client_messages.UserMessage(text="word " * (limits.MAX_ANSWER // 5), id="1"))
            room.wait_for(lambda m: isinstance(m, wire.Delta))
            for _ in range(500 if full else 0):
                # Each snapshot is as long as the transcript.
                stalled.send(client_messages.GetAllMessages())
            started = time.monotonic()
            server.signal()
            assert room.wait_for_close() == wire.CLOSE_RESTART
            assert time.monotonic() - started < STOP_TIMEOUT / 2
            assert server.wait(STOP_TIMEOUT) == 0
            assert time.monotonic() - started < STOP_TIMEOUT
        assert "Traceback" not in server.log


def test_a_recording_continues_after_a_restart(tmp_path: Path) -> None:
    """SIGTERM during a recording closes the connection with code 1012, and all acknowledged frames
    are still stored after the restart."""
    frame = b"\x00\x10\x00\xf0" * (wire.BYTES_PER_SECOND // 100)
    with ForkedServer(tmp_path) as server:
        key = server.add_user()
        id = create_interview(server, key)
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.wait_for_question()
            room.send(client_messages.AudioStart(id="r"))
            for number in range(50):
                room.send(codec.pack_frame(number, frame))
            while (acknowledged := room.next(wire.AudioAck).frame) < 30:
                pass
            assert server.terminate(limit=STOP_TIMEOUT) == 0
            assert room.wait_for_close() == wire.CLOSE_RESTART
        server.start()
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.send(client_messages.AudioStart(id="r"))
            assert room.next(wire.AudioAck).frame >= acknowledged


def test_sigterm_during_the_start_ends_the_server(tmp_path: Path) -> None:
    """A server that receives SIGTERM at any of twelve moments during its start exits by the signal
    or with code 0, and leaves neither a traceback nor a ready file."""
    codes = []
    for number in range(12):
        server = ForkedServer(tmp_path)
        server.spawn()
        time.sleep(number * 0.015)
        codes.append(server.terminate(limit=STOP_TIMEOUT))
        assert not server.ready_file.exists()
    assert set(codes) <= {0, -signal.SIGTERM}
    assert "Traceback" not in server.log
    with ForkedServer(tmp_path) as server:
        assert server.request("GET", "/health/live").status == 200
