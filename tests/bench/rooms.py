"""Cost of rooms: delivered messages, idle interviews, new rooms and wake-ups.

The servers run on one core and their clients on another; CPU time and memory are read from the
kernel. prep's side is an ordinary `prep-server serve` on a real disk. Its scripted model runs in
the same process, so the model's work is included.
"""

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from prepserver.wire import client_messages, codec
from tests.bench.clients import CountingClient, RestClient, connect
from tests.bench.processes import benchmark_cores, cpu_seconds, pin_to_core, resident_bytes
from tests.bench.report import Row, make_row
from tests.bench.server import BenchServer, running_server

__all__ = ["run"]

WORD_INTERVAL = 0.1
"""Seconds between two words of the scripted model; each word is sent as one message."""
RATES = (20, 100)
"""Tokens per second at which the measured replies are generated: a slow and a fast rate."""
PEER = "websockets"

MAX_RATIO = 1.5
MAX_IDLE_MEMORY = 70.0
"""Maximum memory per idle interview, in KiB."""
MAX_REPLY_SIZE = 28.0
"""Maximum size of a reply on the wire, in KiB."""


QUESTION_BACK = client_messages.UserMessage(text="What tech stack does your team use?")
"""Question of the candidate, to which the scripted model gives a long reply."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    pairs: int = 5
    seconds: float = 5.0
    clients: int = 100
    idle: int = 1_000
    samples: int = 200
    words: int = 600
    settle: float = 15.0
    """Seconds to wait before measuring the memory of idle interviews. Objects hibernate after ten
    idle seconds, and the heap is trimmed after that."""


QUICK = Sizes(pairs=1, seconds=1.0, clients=10, idle=20, samples=10, words=60, settle=12.0)


def run(quick: bool) -> list[Row]:
    sizes = QUICK if quick else Sizes()
    _, client_core = benchmark_cores()
    os.sched_setaffinity(0, {client_core})
    with tempfile.TemporaryDirectory(prefix="prep-bench-", dir=os.environ.get("TMPDIR")) as folder:
        rows = asyncio.run(_measure_streaming(Path(folder, "streaming"), sizes))
        rows += asyncio.run(_measure_reply_size(Path(folder, "answer"), sizes))
        rows += asyncio.run(_measure_storing(Path(folder, "storing"), sizes))
        rows += asyncio.run(_measure_joining(Path(folder, "opening"), sizes))
        rows += asyncio.run(_measure_idle(Path(folder, "idle"), sizes))
    return rows


# --- CPU time -----------------------------------------------------------------------------------


async def _measure_streaming(folder: Path, sizes: Sizes) -> list[Row]:
    """Compare the server's CPU time per delivered message with the peer's, in alternating runs."""
    rows = []
    for name, rooms, clients_per_room in (
        (f"1 room with {sizes.clients} clients", 1, sizes.clients),
        (f"{sizes.clients} rooms with 1 client each", sizes.clients, 1),
    ):
        prep, peer, size = [], [], 0
        for pair in range(sizes.pairs):
            cost, size = await _stream_from_prep(
                folder / f"{rooms}-{pair}", sizes, rooms, clients_per_room
            )
            prep.append(cost)
            mode = "broadcast" if rooms == 1 else "send"
            peer.append(await _stream_from_peer(mode, size, sizes))
        rows.append(
            make_row(
                f"server CPU per delivered message, {name}",
                "us",
                prep,
                peer,
                peer_name=PEER,
                target=MAX_RATIO,
                note=f"{size} bytes each, every {WORD_INTERVAL * 1000:g} ms",
            )
        )
    return rows


async def _stream_from_prep(
    folder: Path, sizes: Sizes, rooms: int, clients_per_room: int
) -> tuple[float, int]:
    """Return prep's CPU microseconds per delivered message, and the mean message size in bytes."""
    words = int((sizes.seconds + 10) / WORD_INTERVAL)
    with running_server(folder, scripted_delay=WORD_INTERVAL, scripted_words=words) as server:
        joined = [await server.create_interview() for _ in range(rooms)]
        for room in joined:
            await room.wait_for_question()
        others = [await room.join() for room in joined for _ in range(clients_per_room - 1)]
        clients = [room.client for room in joined] + others
        for room in joined:
            room.client.send(codec.encode(QUESTION_BACK))
        for client in clients:
            await client.next("interview.delta")
            client.only_count()
        await asyncio.sleep(0.5)
        before = sum(client.bytes for client in clients)
        cost, delivered = await _measure_cpu(server.pid, clients, sizes.seconds)
        size = round((sum(client.bytes for client in clients) - before) / delivered)
    return cost, size


async def _stream_from_peer(mode: str, size: int, sizes: Sizes) -> float:
    """Return the peer's CPU time per delivered message of `size` bytes, in microseconds."""
    header = 2 if size < 128 else 4
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.bench.peer_websockets",
            mode,
            str(size - header),
            str(WORD_INTERVAL),
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        pin_to_core(process.pid, benchmark_cores()[0])
        clients = [await connect(port, "/") for _ in range(sizes.clients)]
        for client in clients:
            client.only_count()
        await asyncio.sleep(1.0)
        cost, _ = await _measure_cpu(process.pid, clients, sizes.seconds)
        return cost
    finally:
        process.kill()
        await process.wait()


async def _measure_cpu(
    pid: int, clients: Sequence[CountingClient], seconds: float
) -> tuple[float, int]:
    """Return the CPU time per delivered message in microseconds, and the number of messages."""
    messages, used = sum(client.messages for client in clients), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    used = cpu_seconds(pid) - used
    messages = sum(client.messages for client in clients) - messages
    expected = len(clients) * seconds / WORD_INTERVAL
    assert messages > 0.5 * expected, f"only {messages} of {expected:g} messages were delivered"
    return used / messages * 1e6, messages


# --- Bytes --------------------------------------------------------------------------------------


async def _measure_reply_size(folder: Path, sizes: Sizes) -> list[Row]:
    """Measure the total size on the wire of a reply's deltas and final message."""
    rows = []
    for rate in RATES:
        with running_server(
            folder / str(rate), scripted_delay=1 / rate, scripted_words=sizes.words
        ) as server:
            room = await server.create_interview()
            await room.wait_for_question()
            before = room.client.bytes
            room.client.send(codec.encode(QUESTION_BACK))
            while b'"kind":"reply"' not in (await room.client.next("interview.message"))[1]:
                pass
            size = (room.client.bytes - before) / 1024
        rows.append(
            make_row(
                f"size on the wire of a {sizes.words}-token reply, {rate} tokens/s",
                "KiB",
                [size],
                target=MAX_REPLY_SIZE,
                note="deltas and final message",
            )
        )
    return rows


# --- Latency ------------------------------------------------------------------------------------


async def _measure_storing(folder: Path, sizes: Sizes) -> list[Row]:
    """Measure the times from a message to its acceptance and to the first delta of the reply."""
    accepted: list[float] = []
    first: list[float] = []
    with running_server(folder) as server:
        while len(first) < sizes.samples:
            room = await server.create_interview(questions=30)
            await room.wait_for_question()
            for _ in range(min(29, sizes.samples - len(first))):
                message = client_messages.UserMessage(text="I measured.", id=os.urandom(8).hex())
                sent = time.perf_counter()
                room.client.send(codec.encode(message))
                accepted.append(((await room.client.next("accepted"))[0] - sent) * 1e3)
                first.append(((await room.client.next("interview.delta"))[0] - sent) * 1e3)
                await room.wait_until_idle()
            await room.client.close()
        syncs = _time_syncs(folder, sizes.samples)
    return [
        make_row("time to store and accept a message, p50", "ms", [statistics.median(accepted)]),
        make_row(
            "time to first delta after a message, p50",
            "ms",
            [statistics.median(first)],
            [statistics.median(syncs)],
            peer_name="one write and fdatasync on the same disk",
        ),
        make_row(
            "time to first delta after a message, p99",
            "ms",
            [_percentile(first, 99)],
            [_percentile(syncs, 99)],
            peer_name="one write and fdatasync on the same disk",
        ),
    ]


def _time_syncs(folder: Path, samples: int) -> list[float]:
    """Return the time in milliseconds of each of `samples` synced writes of 4 KiB."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(samples):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1e3)
    return times


async def _measure_joining(folder: Path, sizes: Sizes) -> list[Row]:
    """Measure the rates at which sixteen concurrent clients create rooms and reconnect."""
    with running_server(folder, scripted_delay=WORD_INTERVAL) as server:
        target = (await server.create_interview()).target

        async def create(rest: RestClient) -> None:
            room = await server.create_interview(rest)
            await room.client.next("snapshot")
            await room.client.close()

        async def reconnect(rest: RestClient) -> None:
            client = await connect(server.port, target)
            await client.next("snapshot")
            await client.close()

        created = await _measure_rate(server, create, sizes.seconds)
        await asyncio.sleep(2.0)
        reconnected = await _measure_rate(server, reconnect, sizes.seconds)
    return [
        make_row(
            "rooms created and joined",
            "/s",
            [created],
            at_least=True,
            note="stored on disk, up to the snapshot",
        ),
        make_row(
            "reconnects to a room",
            "/s",
            [reconnected],
            at_least=True,
            note="handshake, snapshot and close",
        ),
    ]


async def _measure_rate(
    server: BenchServer, action: Callable[[RestClient], Awaitable[None]], seconds: float
) -> float:
    """Return the number of actions per second that sixteen concurrent clients complete."""
    done, started = 0, time.perf_counter()

    async def repeat_action() -> None:
        nonlocal done
        with contextlib.closing(RestClient(server.port, server.key)) as rest:
            while time.perf_counter() - started < seconds:
                await action(rest)
                done += 1

    await asyncio.gather(*(repeat_action() for _ in range(16)))
    return done / (time.perf_counter() - started)


# --- Idle interviews ----------------------------------------------------------------------------


async def _measure_idle(folder: Path, sizes: Sizes) -> list[Row]:
    """Measure hibernated interviews with one connection each: memory, open files, wake-up time."""
    with running_server(folder) as server:
        await (await server.create_interview()).wait_for_question()
        await asyncio.sleep(sizes.settle)
        base, open_before = resident_bytes(server.pid), len(server.open_databases)
        rooms = []
        for _ in range(sizes.idle):
            rooms.append(await server.create_interview())
        for room in rooms:
            await room.wait_for_question()
        await asyncio.sleep(sizes.settle)
        for room in rooms:
            assert not room.client.closed.done(), "an idle client was disconnected"
        memory = (resident_bytes(server.pid) - base) / len(rooms) / 1024
        open_files = len(server.open_databases) - open_before
        wake_times = []
        for room in rooms[: sizes.samples]:
            sent = time.perf_counter()
            room.client.send(b'{"type":"get_all_messages"}')
            wake_times.append(((await room.client.next("snapshot"))[0] - sent) * 1e3)
    return [
        make_row(
            "memory per idle interview with an open socket",
            "KiB",
            [memory],
            target=MAX_IDLE_MEMORY,
            note=f"{sizes.idle} interviews",
        ),
        make_row(
            f"open database files of {sizes.idle} idle interviews", "", [open_files], target=0
        ),
        make_row("time to wake an idle interview, p50", "ms", [statistics.median(wake_times)]),
        make_row("time to wake an idle interview, p99", "ms", [_percentile(wake_times, 99)]),
    ]


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
