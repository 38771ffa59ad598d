"""SIGTERM, seen by those who are connected: the last words arrive, and the next start goes on."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import pytest

from prepcli.client.rest import RestClient
from prepcli.client.room import Room
from prepserver.wire import codec, limits
from prepserver.wire import protocol as wire
from tests.e2e.test_server import interview
from tests.support.candidates import Candidate
from tests.support.loop import asynchronous
from tests.support.promises import check_all_ended, check_promises
from tests.support.room_client import open_room
from tests.support.server import Server
from tests.support.stalled_client import StalledClient
from tests.support.warm import WarmServer

pytestmark = pytest.mark.e2e

STOP = 10.0
"""Seconds that a supervisor waits before it kills."""
RESUME = 3.0
"""Seconds from the next start until everybody is back."""


@asynchronous
async def test_restarts_under_people_who_talk_lose_nothing(tmp_path: Path) -> None:
    """Five times SIGTERM while twelve clients type and speak: exit code 0 each time, and what
    was acknowledged is there once, in order."""
    with WarmServer(tmp_path, "--rate-limit", "0", "--scripted-delay", "0.01") as server:
        keys = [server.add_user(f"candidate {number}") for number in range(12)]
        stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            candidates = [
                await stack.enter_async_context(Candidate(server.url, key, seed=number))
                for number, key in enumerate(keys)
            ]
            async with asyncio.TaskGroup() as talking:
                for one in candidates:
                    talking.create_task(one.hold_interviews(stop))
                await asyncio.gather(*(one.first_question.wait() for one in candidates))
                for _ in range(5):
                    assert await asyncio.to_thread(server.terminate, limit=STOP) == 0
                    await asyncio.to_thread(server.start)
                    await asyncio.sleep(1.0)
                stop.set()
            await check_promises(server, dict(zip(keys, candidates, strict=True)))
        assert server.terminate(limit=STOP) == 0
        check_all_ended(server)
        assert sum(len(p.answers) for one in candidates for p in one.promised.values()) > 30
        assert "Traceback" not in server.log
        assert "level=error" not in server.log


@asynchronous
async def test_clients_are_back_within_three_seconds_of_the_start(tmp_path: Path) -> None:
    """Twenty rooms of prep's own client, and two seconds without a server: all have a snapshot."""
    with WarmServer(tmp_path) as server:
        key = server.add_user()
        async with RestClient(server.url, key) as rest, contextlib.AsyncExitStack() as stack:
            base = server.url.replace("http", "ws", 1)

            async def address(renew: bool) -> str:
                token = await rest.get_room_token(renew=renew)
                return f"{base}/parties/user-interviews/me?token={token}"

            rooms = [await stack.enter_async_context(Room(address)) for _ in range(20)]
            await asyncio.gather(*(snapshot(room) for room in rooms))
            assert await asyncio.to_thread(server.terminate, limit=STOP) == 0
            await asyncio.sleep(2.0)
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(RESUME):
                await asyncio.gather(*(snapshot(room) for room in rooms))


async def snapshot(room: Room) -> None:
    async for event in room:
        if isinstance(event, wire.Snapshot):
            return


def test_a_message_that_was_under_way_is_stored_or_not_acknowledged(tmp_path: Path) -> None:
    """Sent just before SIGTERM: the server answers it and closes with 1012; what it answered is
    there after the restart."""
    with WarmServer(tmp_path) as server:
        key = server.add_user()
        id = interview(server, key, questions=5)
        acknowledged = []
        for number in range(6):
            with open_room(server.room("interview", id, server.token(key))) as room:
                room.wait_for_question()
                room.send(wire.UserMessage(text=f"Answer {number}.", id=f"m{number}"))
                time.sleep(number * 0.004)
                assert server.terminate(limit=STOP) == 0
                assert room.wait_for_close() == wire.CLOSE_RESTART
                if wire.Accepted(id=f"m{number}") in room.messages:
                    acknowledged.append(f"Answer {number}.")
            server.start()
        said = server.request("GET", f"/api/interviews/{id}/messages", key=key).body["messages"]
        assert [one["text"] for one in said if one["kind"] == "answer"] == acknowledged
        assert acknowledged


@pytest.mark.parametrize("full", [True, False])
def test_a_client_that_reads_nothing_does_not_delay_the_end(tmp_path: Path, full: bool) -> None:
    """Not even with a full socket and while a turn streams: exit 0 in time, and who reads has the
    1012 long before."""
    with Server(tmp_path, "--scripted-delay", "0.1") as server:
        key = server.add_user()
        id = interview(server, key)
        url = server.room("interview", id, server.token(key))
        with StalledClient(url) as deaf, open_room(url) as room:
            room.wait_for_question()
            room.send(wire.UserMessage(text="x" * limits.MAX_ANSWER, id="1"))
            room.wait_for(lambda m: isinstance(m, wire.Delta))
            for _ in range(500 if full else 0):
                deaf.send(wire.GetAllMessages())  # each answer is as long as the transcript
            begun = time.monotonic()
            server.signal()
            assert room.wait_for_close() == wire.CLOSE_RESTART
            assert time.monotonic() - begun < STOP / 2
            assert server.wait(STOP) == 0
            assert time.monotonic() - begun < STOP
        assert "Traceback" not in server.log


def test_a_client_in_the_middle_of_a_recording_is_told_to_come_back(tmp_path: Path) -> None:
    """Frames that were acknowledged before SIGTERM are there after it."""
    frame = b"\x00\x10\x00\xf0" * (wire.BYTES_PER_SECOND // 100)
    with WarmServer(tmp_path) as server:
        key = server.add_user()
        id = interview(server, key)
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.wait_for_question()
            room.send(wire.AudioStart(id="r"))
            for number in range(50):
                room.send(codec.pack_frame(number, frame))
            while (acknowledged := room.next(wire.AudioAck).frame) < 30:
                pass
            assert server.terminate(limit=STOP) == 0
            assert room.wait_for_close() == wire.CLOSE_RESTART
        server.start()
        with open_room(server.room("interview", id, server.token(key))) as room:
            room.send(wire.AudioStart(id="r"))
            assert room.next(wire.AudioAck).frame >= acknowledged


def test_a_stop_that_comes_during_the_start(tmp_path: Path) -> None:
    """At twelve moments: it ends at once, of the signal as long as nothing is served, with no
    traceback and no ready file."""
    codes = []
    for number in range(12):
        server = WarmServer(tmp_path)
        server.spawn()
        time.sleep(number * 0.015)
        codes.append(server.terminate(limit=STOP))
        assert not server.ready_file.exists()
    assert set(codes) <= {0, -signal.SIGTERM}
    assert "Traceback" not in server.log
    with WarmServer(tmp_path) as server:
        assert server.request("GET", "/health/live").status == 200
