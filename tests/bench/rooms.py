"""Rooms: what a delivered message, an idle interview, a new room and a wake cost.

The servers run on one core and whoever drives them on another, and what they cost is read from
the kernel. Ours is `prep-server serve` as it is, on a real disk, with the scripted model in its own
process: the model's work counts as ours.
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

from prepserver.wire import codec
from prepserver.wire import protocol as wire
from tests.bench.clients import Client, Rest, connect
from tests.bench.house import House, serving
from tests.bench.processes import cores, cpu_seconds, pin, resident
from tests.bench.report import Row, row

__all__ = ["run"]

EVERY = 0.1
"""Seconds between the words of the scripted model: each is a message of its own."""
RATES = (20, 100)
"""Tokens a second of the answers that are weighed: a slow model and a quick one."""
PEER = "websockets"

MAX_RATIO = 1.5
MAX_IDLE = 70.0
"""KiB."""
MAX_ANSWER = 28.0
"""KiB."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything."""

    pairs: int = 5
    seconds: float = 5.0
    clients: int = 100
    idle: int = 1_000
    samples: int = 200
    words: int = 600
    settle: float = 15.0
    """Seconds before the memory of idle objects is read: they hibernate after ten, and what is
    freed is given back after that."""


QUICK = Sizes(pairs=1, seconds=1.0, clients=10, idle=20, samples=10, words=60, settle=12.0)


def run(quick: bool) -> list[Row]:
    sizes = QUICK if quick else Sizes()
    _, ours = cores()
    os.sched_setaffinity(0, {ours})
    with tempfile.TemporaryDirectory(prefix="prep-bench-", dir=os.environ.get("TMPDIR")) as folder:
        rows = asyncio.run(_streaming(Path(folder, "streaming"), sizes))
        rows += asyncio.run(_answer(Path(folder, "answer"), sizes))
        rows += asyncio.run(_storing(Path(folder, "storing"), sizes))
        rows += asyncio.run(_opening(Path(folder, "opening"), sizes))
        rows += asyncio.run(_idle(Path(folder, "idle"), sizes))
    return rows


# --- CPU per delivered message ------------------------------------------------------------------


async def _streaming(folder: Path, sizes: Sizes) -> list[Row]:
    """Server CPU per delivered message beside the peer's, in interleaved pairs."""
    rows = []
    for name, rooms, each in (
        (f"one room x {sizes.clients} clients", 1, sizes.clients),
        (f"{sizes.clients} rooms x 1 client", sizes.clients, 1),
    ):
        ours, peers, size = [], [], 0
        for pair in range(sizes.pairs):
            cost, size = await _ours(folder / f"{rooms}-{pair}", sizes, rooms, each)
            ours.append(cost)
            peers.append(await _peers("broadcast" if rooms == 1 else "send", size, sizes))
        rows.append(
            row(
                f"server CPU per delivered message, {name}",
                "us",
                ours,
                peers,
                peer_name=PEER,
                target=MAX_RATIO,
                note=f"{size} bytes each, every {EVERY * 1000:g} ms",
            )
        )
    return rows


async def _ours(folder: Path, sizes: Sizes, rooms: int, each: int) -> tuple[float, int]:
    """Microseconds of our server for a message, and the bytes of one."""
    words = int((sizes.seconds + 10) / EVERY)
    with serving(folder, scripted_delay=EVERY, scripted_words=words) as house:
        entered = [await house.interview() for _ in range(rooms)]
        for room in entered:
            await room.asked()
        others = [await room.join() for room in entered for _ in range(each - 1)]
        clients = [room.client for room in entered] + others
        for room in entered:
            room.client.send(b'{"type":"hint.request"}')
        for client in clients:
            await client.next("interview.delta")
            client.only_count()
        await asyncio.sleep(0.5)
        before = sum(client.bytes for client in clients)
        cost, delivered = await _measure(house.pid, clients, sizes.seconds)
        size = round((sum(client.bytes for client in clients) - before) / delivered)
    return cost, size


async def _peers(mode: str, size: int, sizes: Sizes) -> float:
    """The same of the peer, for messages of the same size."""
    header = 2 if size < 128 else 4
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.peer", mode, str(size - header), str(EVERY)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        pin(process.pid, cores()[0])
        clients = [await connect(port, "/") for _ in range(sizes.clients)]
        for client in clients:
            client.only_count()
        await asyncio.sleep(1.0)
        cost, _ = await _measure(process.pid, clients, sizes.seconds)
        return cost
    finally:
        process.kill()
        await process.wait()


async def _measure(pid: int, clients: Sequence[Client], seconds: float) -> tuple[float, int]:
    """Microseconds of a process for each message that its clients receive, and how many."""
    messages, spent = sum(client.messages for client in clients), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    spent = cpu_seconds(pid) - spent
    messages = sum(client.messages for client in clients) - messages
    wanted = len(clients) * seconds / EVERY
    assert messages > 0.5 * wanted, f"only {messages} of {wanted:g} messages were delivered"
    return spent / messages * 1e6, messages


# --- Bytes --------------------------------------------------------------------------------------


async def _answer(folder: Path, sizes: Sizes) -> list[Row]:
    """Bytes that one client receives of an answer, from its first word to its whole."""
    rows = []
    for rate in RATES:
        with serving(
            folder / str(rate), scripted_delay=1 / rate, scripted_words=sizes.words
        ) as house:
            room = await house.interview()
            await room.asked()
            before = room.client.bytes
            room.client.send(b'{"type":"hint.request"}')
            await room.client.next("interview.message")
            spent = (room.client.bytes - before) / 1024
        rows.append(
            row(
                f"on the wire for an answer of {sizes.words} tokens, {rate} a second",
                "KiB",
                [spent],
                target=MAX_ANSWER,
                note="deltas and the whole message",
            )
        )
    return rows


# --- Time ---------------------------------------------------------------------------------------


async def _storing(folder: Path, sizes: Sizes) -> list[Row]:
    """From a message to the first word of what answers it; every commit is synced."""
    accepted: list[float] = []
    first: list[float] = []
    with serving(folder) as house:
        while len(first) < sizes.samples:
            room = await house.interview(questions=30)
            await room.asked()
            for _ in range(min(29, sizes.samples - len(first))):
                message = wire.UserMessage(text="I measured.", id=os.urandom(8).hex())
                sent = time.perf_counter()
                room.client.send(codec.encode(message))
                accepted.append(((await room.client.next("accepted"))[0] - sent) * 1e3)
                first.append(((await room.client.next("interview.delta"))[0] - sent) * 1e3)
                await room.idle()
            await room.client.close()
        syncs = _syncs(folder, sizes.samples)
    return [
        row("message stored and accepted, p50", "ms", [statistics.median(accepted)]),
        row(
            "first delta after a stored message, p50",
            "ms",
            [statistics.median(first)],
            [statistics.median(syncs)],
            peer_name="one write and sync of this disk",
        ),
        row(
            "first delta after a stored message, p99",
            "ms",
            [_percentile(first, 99)],
            [_percentile(syncs, 99)],
            peer_name="one write and sync of this disk",
        ),
    ]


def _syncs(folder: Path, samples: int) -> list[float]:
    """Milliseconds of the least that durable can mean: 4 KiB appended and synced."""
    taken = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(samples):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1e3)
    return taken


async def _opening(folder: Path, sizes: Sizes) -> list[Row]:
    """New rooms and reconnects a second, from sixteen clients at once."""
    with serving(folder, scripted_delay=EVERY) as house:
        target = (await house.interview()).target

        async def create(rest: Rest) -> None:
            room = await house.interview(rest)
            await room.client.next("snapshot")
            await room.client.close()

        async def reconnect(rest: Rest) -> None:
            client = await connect(house.port, target)
            await client.next("snapshot")
            await client.close()

        created = await _rate(house, create, sizes.seconds)
        await asyncio.sleep(2.0)
        reconnected = await _rate(house, reconnect, sizes.seconds)
    return [
        row("new rooms: created on disk, entered, snapshot", "/s", [created], at_least=True),
        row("reconnects to a room: token, snapshot, goodbye", "/s", [reconnected], at_least=True),
    ]


async def _rate(house: House, once: Callable[[Rest], Awaitable[None]], seconds: float) -> float:
    """How often it is done in a second by sixteen at once."""
    done, begun = 0, time.perf_counter()

    async def repeat() -> None:
        nonlocal done
        with contextlib.closing(Rest(house.port, house.key)) as rest:
            while time.perf_counter() - begun < seconds:
                await once(rest)
                done += 1

    await asyncio.gather(*(repeat() for _ in range(16)))
    return done / (time.perf_counter() - begun)


# --- Idle ---------------------------------------------------------------------------------------


async def _idle(folder: Path, sizes: Sizes) -> list[Row]:
    """Interviews with one open socket each, in which nothing happens."""
    with serving(folder) as house:
        await (await house.interview()).asked()
        await asyncio.sleep(sizes.settle)
        base, opened = resident(house.pid), len(house.databases)
        rooms = []
        for _ in range(sizes.idle):
            rooms.append(await house.interview())
        for room in rooms:
            await room.asked()
        await asyncio.sleep(sizes.settle)
        for room in rooms:
            assert not room.client.lost.done(), "an idle client was cut off"
        each = (resident(house.pid) - base) / len(rooms) / 1024
        left = len(house.databases) - opened
        wakes = []
        for room in rooms[: sizes.samples]:
            sent = time.perf_counter()
            room.client.send(b'{"type":"get_all_messages"}')
            wakes.append(((await room.client.next("snapshot"))[0] - sent) * 1e3)
    return [
        row(
            f"memory of an idle interview with an open socket, {sizes.idle} of them",
            "KiB",
            [each],
            target=MAX_IDLE,
        ),
        row(f"database files held open by {sizes.idle} idle interviews", "", [left], target=0),
        row("waking an idle interview: message to snapshot, p50", "ms", [statistics.median(wakes)]),
        row("waking an idle interview: message to snapshot, p99", "ms", [_percentile(wakes, 99)]),
    ]


def _percentile(values: Sequence[float], of: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * of // 100)]
