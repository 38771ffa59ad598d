"""Memory: what the server and its engines hold after many turns of many interviews.

The server is `prep-server serve` as it is, with the starter models, each in a process of its own.
The peer of each figure is the same process after the first tenth of the turns: by then every buffer
has been used that is used at all. What grows after that grows with the number of turns.
"""

import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path

import msgspec

from prepserver.wire import codec
from prepserver.wire import protocol as wire
from tests.bench.clients import Rest
from tests.bench.house import House
from tests.bench.models import LANGUAGE, SPEECH
from tests.bench.processes import resident
from tests.bench.report import Row, row
from tests.support.server import Server

__all__ = ["run"]

MAX_GROWTH = 1.1
TOGETHER = 8
"""Interviews that go on at the same time."""
ANSWERS = (
    "I led the migration of our payment service, and we measured every step of it.",
    "We put a queue between the upload and the workers, so that a burst loses nothing.",
    "The tests were slow, so I split the suite and ran its parts in parallel.",
    "Two people disagreed about the deadline, so I set up a meeting and we cut a feature.",
)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    interviews: int = 50
    turns: int = 10
    """Of each interview."""


QUICK = Sizes(interviews=10, turns=1)


def run(quick: bool) -> list[Row]:
    sizes = QUICK if quick else Sizes()
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as name:
        folder = Path(name)
        settings = folder / "server.toml"
        settings.write_text('rate_limit = 0\nlog_level = "warning"\n')
        flags = ("--config", str(settings), "--model", str(LANGUAGE), "--stt-model", str(SPEECH))
        with Server(folder, *flags) as server:
            return asyncio.run(_run(House(server), sizes))


async def _run(house: House, sizes: Sizes) -> list[Row]:
    tenth = max(1, sizes.interviews // 10)
    await _interviews(house, range(tenth), sizes.turns)
    before = _memory(house.pid)
    await _interviews(house, range(tenth, sizes.interviews), sizes.turns)
    after = _memory(house.pid)
    assert before.keys() == after.keys(), "an engine died"
    turns = sizes.interviews * sizes.turns
    note = f"after {turns} turns of {sizes.interviews} interviews"
    return [
        row(
            f"memory of the {part}",
            "MB",
            [after[part] / 1e6],
            [before[part] / 1e6],
            peer_name=f"after {tenth * sizes.turns} turns",
            target=MAX_GROWTH,
            note=note,
        )
        for part in after
    ]


async def _interviews(house: House, numbers: range, turns: int) -> None:
    places = asyncio.Semaphore(TOGETHER)

    async def hold(number: int) -> None:
        async with places:
            with contextlib.closing(Rest(house.port, house.key)) as rest:
                room = await house.interview(rest, questions=turns + 1, role=f"Engineer {number}")
            await room.asked()
            for turn in range(turns):
                text = f"{ANSWERS[turn % len(ANSWERS)]} That was in year {number}."
                message = wire.UserMessage(text=text, id=os.urandom(8).hex())
                room.client.send(codec.encode(message))
                await room.client.next("accepted")
                _, question = await room.client.next("interview.message")
                while json.loads(question)["message"]["role"] != "interviewer":
                    _, question = await room.client.next("interview.message")
                await room.idle()
            await room.client.close()

    await asyncio.gather(*map(hold, numbers))


def _memory(server: int) -> dict[str, int]:
    """Bytes of the server's process and of each of its engines'."""
    found = {"server": resident(server)}
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal():
            continue
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        if parent == server and b"prepserver.engines." in command:
            part = "language engine" if b".llama" in command else "speech engine"
            found[part] = resident(int(path.name))
    return found
