"""Memory of the server and its engines after many turns in many interviews.

The server is `prep-server serve` with the starter models, each of which runs in a process of its
own. The language model writes the replies, as a larger one would. The peer of each figure is the
same process after the first tenth of the turns, when every buffer has been used once. Any later
growth depends on the number of turns.
"""

import asyncio
import contextlib
import json
import os
import tempfile
from pathlib import Path

import msgspec

from prepserver.wire import client_messages, codec
from tests.bench.clients import RestClient
from tests.bench.models import LANGUAGE_MODEL, SPEECH_MODEL
from tests.bench.processes import resident_bytes
from tests.bench.report import Row, make_row
from tests.bench.server import BenchServer
from tests.support.server import Server

__all__ = ["measure_memory", "run"]

MAX_GROWTH = 1.1
CONCURRENT_INTERVIEWS = 8
"""Maximum number of interviews held at the same time."""
ANSWERS = (
    "I led the migration of our payment service, and we measured every step of it.",
    "We put a queue between the upload and the workers, so that a burst loses nothing.",
    "The tests were slow, so I split the suite and ran its parts in parallel.",
    "Two people disagreed about the deadline, so I set up a meeting and we cut a feature.",
)


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    interviews: int = 50
    turns: int = 10
    """Number of turns in each interview."""


QUICK = Sizes(interviews=10, turns=1)


def run(quick: bool) -> list[Row]:
    sizes = QUICK if quick else Sizes()
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as name:
        folder = Path(name)
        settings = folder / "server.toml"
        settings.write_text('rate_limit = 0\nlog_level = "warning"\n')
        flags = (
            "--config",
            str(settings),
            "--model",
            str(LANGUAGE_MODEL),
            "--stt-model",
            str(SPEECH_MODEL),
        )
        with Server(folder, *flags, module="tests.support.instruct_server") as server:
            return asyncio.run(_run(BenchServer(server), sizes))


async def _run(server: BenchServer, sizes: Sizes) -> list[Row]:
    tenth = max(1, sizes.interviews // 10)
    await _hold_interviews(server, range(tenth), sizes.turns)
    before = measure_memory(server.pid)
    await _hold_interviews(server, range(tenth, sizes.interviews), sizes.turns)
    after = measure_memory(server.pid)
    assert before.keys() == after.keys(), "an engine has died"
    turns = sizes.interviews * sizes.turns
    note = f"after {turns} turns of {sizes.interviews} interviews"
    return [
        make_row(
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


async def _hold_interviews(server: BenchServer, numbers: range, turns: int) -> None:
    slots = asyncio.Semaphore(CONCURRENT_INTERVIEWS)

    async def hold(number: int) -> None:
        async with slots:
            with contextlib.closing(RestClient(server.port, server.key)) as rest:
                room = await server.create_interview(
                    rest, questions=turns + 1, role=f"Engineer {number}"
                )
            await room.wait_for_question()
            for turn in range(turns):
                text = f"{ANSWERS[turn % len(ANSWERS)]} That was in year {number}."
                message = client_messages.UserMessage(text=text, id=os.urandom(8).hex())
                room.client.send(codec.encode(message))
                await room.client.next("accepted")
                _, question = await room.client.next("interview.message")
                while json.loads(question)["message"]["role"] != "interviewer":
                    _, question = await room.client.next("interview.message")
                await room.wait_until_idle()
            await room.client.close()

    await asyncio.gather(*map(hold, numbers))


def measure_memory(server_pid: int) -> dict[str, int]:
    """Return the resident memory of the server process and of each engine process, in bytes."""
    memory = {"server": resident_bytes(server_pid)}
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal():
            continue
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # exited in the meantime
        if parent == server_pid and b"prepserver.engines." in command:
            part = "language engine" if b".llama" in command else "speech engine"
            memory[part] = resident_bytes(int(path.name))
    return memory
