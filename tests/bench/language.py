"""How long a candidate waits for the next question, and how many can be served at once."""

import asyncio
import math
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from prepserver.ai.values import Prompt
from tests.bench.models import CONTEXT, LANGUAGE, THREADS, Ours, Peer, Plain, Reply, sampling
from tests.bench.report import Row, row
from tests.bench.talks import TURNS, Talk

__all__ = ["run"]

TOGETHER = 8
"""Interviews at once."""
MIDDLE = 8
"""The turn that they are at."""
FREE_TOKENS = 64
"""Of a reply that no grammar ends."""

SERVER = "llama_cpp.server"
TYPED = "the answer read while it is typed, all but its last words"
WHOLE = "nothing read before the answer is sent"


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(1 if quick else 5))


async def _run(repetitions: int) -> list[Row]:
    rows = []
    for measure in (_turns, _together, _rates, _returns):
        async with _folder() as folder, Ours.running(folder) as ours:
            rows += await measure(ours, folder, repetitions)
    return rows


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as name:
        yield Path(name)


# --- The wait at the 20th turn ------------------------------------------------------------------


async def _turns(ours: Ours, folder: Path, repetitions: int) -> list[Row]:
    last: list[float] = []
    unread: list[float] = []
    begun: list[float] = []
    theirs: list[float] = []
    async with Peer.running(folder, ours.info) as server:
        for n in range(repetitions):
            # The first turn comes after other interviews, so what all have in common is cached.
            begun.append((await ours.next_question(Talk(10 * n + 1).until(1), ahead=True)).first)
            last.append(await _at_last(ours, 10 * n + 2, ahead=True))
            theirs.append(await _at_last(server, 10 * n + 2, ahead=False))
            unread.append(await _at_last(ours, 10 * n + 3, ahead=False))
    name = f"time to first token, turn {TURNS}"
    return [
        row(name, "s", last, theirs, peer_name=SERVER, target=0.5, note=TYPED),
        row(name, "s", unread, theirs, peer_name=SERVER, note=WHOLE),
        row(name, "s", last, begun, peer_name="ours, turn 1", target=1.2, note=TYPED),
    ]


async def _at_last(model: Ours | Peer, seed: int, *, ahead: bool) -> float:
    """Seconds to the first token of the last turn; the turn before it was asked the same way."""
    talk = Talk(seed).until(TURNS - 1)
    _go_on(talk, await model.next_question(talk, ahead=False))
    return (await model.next_question(talk, ahead=ahead)).first


# --- Eight at once ------------------------------------------------------------------------------


async def _together(ours: Ours, folder: Path, repetitions: int) -> list[Row]:
    """Everybody's answer is sent at the same moment."""
    found: dict[bool, tuple[list[float], list[float]]] = {True: ([], []), False: ([], [])}
    async with Peer.running(folder, ours.info) as server:
        mine, theirs = ([Talk(n).until(MIDDLE) for n in range(TOGETHER)] for _ in range(2))
        sides: tuple[tuple[Ours | Peer, list[Talk]], ...] = ((ours, mine), (server, theirs))
        for model, talks in sides:
            for talk in talks:
                _go_on(talk, await model.next_question(talk, ahead=False))
        for n in range(2 * math.ceil(repetitions / 2)):
            ahead = n % 2 == 0
            if ahead:
                for talk in mine:
                    for reading in talk.readings(ours.info):
                        await ours.read(reading)
            for (model, talks), waits in zip(sides, found[ahead], strict=True):
                replies = await asyncio.gather(
                    *(model.next_question(talk, ahead=False) for talk in talks)
                )
                waits.append(_p95([reply.first for reply in replies]))
                for talk, reply in zip(talks, replies, strict=True):
                    _go_on(talk, reply)
    name = f"p95 time to first token, {TOGETHER} interviews answering at once"
    return [
        row(name, "s", *found[True], peer_name=SERVER, target=0.25, note=TYPED),
        row(name, "s", *found[False], peer_name=SERVER, note=WHOLE),
    ]


def _go_on(talk: Talk, reply: Reply) -> None:
    talk.ask(reply.text)
    talk.answer(talk.words())


def _p95(values: Sequence[float]) -> float:
    """By nearest rank."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


# --- Tokens a second ----------------------------------------------------------------------------


async def _rates(ours: Ours, folder: Path, repetitions: int) -> list[Row]:
    """Replies of a fixed length to prompts that were read already."""
    alone: list[float] = []
    together: list[float] = []
    streams: list[float] = []
    plain: dict[bool, list[float]] = {True: [], False: []}
    talks = [Talk(n).until(MIDDLE) for n in range(TOGETHER)]
    async with Plain.running("plain_llama", str(LANGUAGE), str(THREADS), str(CONTEXT)) as loop:
        for n in range(repetitions):
            prompts = [_free(talk.prompt(ours.info), seed=n) for talk in talks]
            for prompt in prompts:
                await ours.ask(msgspec.structs.replace(prompt, max_tokens=1))
            alone.append(_rate([await ours.ask(prompts[0])]))
            together.append(_rate(await asyncio.gather(*(ours.ask(each) for each in prompts))))
            streams.append((await ours.ask(_long(prompts[0]))).rate)
            for low_level, rates in plain.items():
                answer = await loop.ask(
                    low_level=low_level, uncached=False, **sampling(_long(prompts[0]))
                )
                rates.append(Reply(text="", **answer).rate)
    return [
        row(
            f"tokens/s of {TOGETHER} interviews in all",
            "tokens/s",
            together,
            alone,
            peer_name="ours, one interview",
            target=1.3,
            at_least=True,
        ),
        row(
            "tokens/s of one stream",
            "tokens/s",
            streams,
            plain[True],
            peer_name="a loop over Llama.generate",
            target=0.95,
            at_least=True,
        ),
        row(
            "tokens/s of one stream",
            "tokens/s",
            streams,
            plain[False],
            peer_name="Llama.create_completion, streamed",
        ),
    ]


def _free(prompt: Prompt, *, seed: int) -> Prompt:
    """Without a grammar, so that the reply is as long as is asked for."""
    return Prompt(
        text=prompt.text,
        conversation=prompt.conversation,
        max_tokens=FREE_TOKENS,
        seed=seed,
    )


def _long(prompt: Prompt) -> Prompt:
    return msgspec.structs.replace(prompt, max_tokens=2 * FREE_TOKENS)


def _rate(replies: Sequence[Reply]) -> float:
    """Of all together, until the last has ended."""
    return sum(reply.tokens for reply in replies) / max(reply.seconds for reply in replies)


# --- Coming back --------------------------------------------------------------------------------


async def _returns(ours: Ours, folder: Path, repetitions: int) -> list[Row]:
    """The interview was parked on disk, or its cache was lost; then the next answer is sent."""
    parked: list[float] = []
    lost: list[float] = []
    for n in range(repetitions):
        for leave, waits in ((ours.gateway.park, parked), (ours.gateway.forget, lost)):
            talk = Talk(100 + n).until(TURNS - 1)
            _go_on(talk, await ours.next_question(talk, ahead=False))
            await leave(talk.name)
            waits.append((await ours.next_question(talk, ahead=False)).first)
            await ours.gateway.forget(talk.name)
    return [
        row(
            f"return to a hibernated interview of {TURNS} turns, to the first token",
            "s",
            parked,
            lost,
            peer_name="ours, the prompt computed again",
            target=0.2,
            note=WHOLE,
        )
    ]
