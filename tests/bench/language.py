"""How long a candidate waits for the next question, and how many can be served at once."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from prepserver.engines.types import Prompt
from tests.bench.models import (
    CONTEXT,
    LANGUAGE,
    THREADS,
    Ours,
    Peer,
    Plain,
    Reply,
    sampling,
    summarise_history,
)
from tests.bench.report import Row, p95, row
from tests.bench.talks import TURNS, Talk

__all__ = ["run"]


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    repetitions: int = 3
    """Which take turns; figures are their medians."""
    turns: int = TURNS
    """Of a long interview."""
    outgrown: int = 11
    """A turn not long before the context is outgrown."""
    context: int = CONTEXT
    """Of the model whose context is outgrown."""
    together: int = 8
    """Interviews at once."""
    middle: int = 8
    """The turn that they are at."""
    tokens: int = 64
    """Of a reply that no grammar ends."""
    streams: int = 3
    """Measurements of one stream in each repetition: they are short, and differ by little."""


QUICK = Sizes(
    repetitions=1,
    turns=6,
    outgrown=2,
    context=CONTEXT // 4,
    together=3,
    middle=2,
    tokens=16,
    streams=1,
)

SERVER = "llama_cpp.server"
TYPED = "the answer read while it is typed, all but its last words"
WHOLE = "nothing read before the answer is sent"
HASTY = "the answer sent as soon as the summary is there, nothing read after it"


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(QUICK if quick else Sizes()))


async def _run(sizes: Sizes) -> list[Row]:
    rows = []
    for measure in (_turns, _outgrown, _together, _rates, _returns):
        async with _folder() as folder, Ours.running(folder) as ours:
            rows += await measure(ours, folder, sizes)
    return rows


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as name:
        yield Path(name)


# --- The wait for a question ---------------------------------------------------------------------


async def _turns(ours: Ours, folder: Path, sizes: Sizes) -> list[Row]:
    last: list[float] = []
    unread: list[float] = []
    begun: list[float] = []
    theirs: list[float] = []
    async with Peer.running(folder) as server:

        async def at_last(model: Ours | Peer, seed: int, *, ahead: bool) -> float:
            """Seconds to the first token; the turn before it is in the cache already."""
            talk = Talk(seed, ours.info).advance_to(sizes.turns - 1)
            _go_on(talk, await model.next_question(talk, ahead=False))
            return (await model.next_question(talk, ahead=ahead)).first

        for n in range(sizes.repetitions):
            # The first turn comes after other interviews, so what all have in common is cached.
            first = Talk(10 * n + 1, ours.info).advance_to(1)
            begun.append((await ours.next_question(first, ahead=True)).first)
            last.append(await at_last(ours, 10 * n + 2, ahead=True))
            theirs.append(await at_last(server, 10 * n + 2, ahead=False))
            # The same talk again, as if nobody had ever held it.
            await ours.gateway.discard(Talk(10 * n + 2, ours.info).name)
            unread.append(await at_last(ours, 10 * n + 2, ahead=False))
    name = f"time to first token, turn {sizes.turns}"
    return [
        row(name, "s", last, theirs, peer_name=SERVER, target=0.5, note=TYPED),
        row(name, "s", unread, theirs, peer_name=SERVER, note=WHOLE),
        row(name, "s", last, begun, peer_name="ours, turn 1", target=1.2, note=TYPED),
    ]


async def _outgrown(ours: Ours, folder: Path, sizes: Sizes) -> list[Row]:
    """Measure a turn that needs a history summary; ours writes it before the answer arrives."""
    info = msgspec.structs.replace(ours.info, context=sizes.context)
    typed: list[float] = []
    hasty: list[float] = []
    theirs: list[float] = []
    async with Peer.running(folder) as server:

        async def outgrown(model: Ours | Peer, seed: int, *, ahead: bool) -> float:
            """Return the seconds to the first token of such a turn."""
            talk = Talk(seed, info).advance_to(sizes.outgrown)
            while talk.history_summary_prompt() is None:
                _go_on(talk, await model.next_question(talk, ahead=False))
            return (await model.next_question(talk, ahead=ahead)).first

        for n in range(sizes.repetitions):
            typed.append(await outgrown(ours, 200 + n, ahead=True))
            theirs.append(await outgrown(server, 200 + n, ahead=False))
            await ours.gateway.discard(Talk(200 + n, info).name)
            hasty.append(await outgrown(ours, 200 + n, ahead=False))
    name = "time to first token, a turn at which the context is outgrown"
    return [
        row(name, "s", typed, theirs, peer_name=SERVER, note=TYPED),
        row(name, "s", hasty, theirs, peer_name=SERVER, note=HASTY),
    ]


# --- Eight at once ------------------------------------------------------------------------------


async def _together(ours: Ours, folder: Path, sizes: Sizes) -> list[Row]:
    """Everybody's answer is sent at the same moment."""
    found: dict[bool, tuple[list[float], list[float]]] = {True: ([], []), False: ([], [])}
    async with Peer.running(folder) as server:
        mine, theirs = (_talks(ours, sizes), _talks(ours, sizes))
        sides: tuple[tuple[Ours | Peer, list[Talk]], ...] = ((ours, mine), (server, theirs))
        for model, talks in sides:
            for talk in talks:
                _go_on(talk, await model.next_question(talk, ahead=False))
        for n in range(2 * sizes.repetitions):
            ahead = n % 2 == 0
            for model, talks in sides:
                for talk in talks:
                    await summarise_history(talk, model.ask)  # not part of the wait
            for talk in mine if ahead else ():
                for prompt in talk.prefill_prompts():
                    await ours.prefill(prompt)
            for (model, talks), waits in zip(sides, found[ahead], strict=True):
                replies = await asyncio.gather(
                    *(model.next_question(talk, ahead=False) for talk in talks)
                )
                waits.append(p95([reply.first for reply in replies]))
                for talk, reply in zip(talks, replies, strict=True):
                    _go_on(talk, reply)
    name = f"p95 time to first token, {sizes.together} interviews answering at once"
    return [
        row(name, "s", *found[True], peer_name=SERVER, target=0.25, note=TYPED),
        row(name, "s", *found[False], peer_name=SERVER, note=WHOLE),
    ]


def _talks(ours: Ours, sizes: Sizes) -> list[Talk]:
    return [Talk(n, ours.info).advance_to(sizes.middle) for n in range(sizes.together)]


def _go_on(talk: Talk, reply: Reply) -> None:
    talk.add_question(reply.text)
    talk.add_answer(talk.make_answer())


# --- Tokens a second ----------------------------------------------------------------------------


async def _rates(ours: Ours, folder: Path, sizes: Sizes) -> list[Row]:
    """Replies of a fixed length to prompts that were read already."""
    alone: list[float] = []
    together: list[float] = []
    streams: list[float] = []
    plain: dict[bool, list[float]] = {True: [], False: []}
    talks = _talks(ours, sizes)
    async with Plain.running("plain_llama", str(LANGUAGE), str(THREADS), str(CONTEXT)) as loop:
        for n in range(sizes.repetitions):
            prompts = [_free(talk.question_prompt(), sizes.tokens, seed=n) for talk in talks]
            for prompt in prompts:
                await ours.ask(msgspec.structs.replace(prompt, max_tokens=1))
            alone.append(_rate([await ours.ask(prompts[0])]))
            together.append(_rate(await asyncio.gather(*(ours.ask(each) for each in prompts))))
            long = msgspec.structs.replace(prompts[0], max_tokens=2 * sizes.tokens)
            for _ in range(sizes.streams):
                streams.append((await ours.ask(long)).rate)
                for low_level, rates in plain.items():
                    answer = await loop.ask(low_level=low_level, uncached=False, **sampling(long))
                    rates.append(Reply(text="", **answer).rate)
    return [
        row(
            f"tokens/s of {sizes.together} interviews in all",
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


def _free(prompt: Prompt, tokens: int, *, seed: int) -> Prompt:
    """Without a grammar, so that the reply is as long as is asked for."""
    return Prompt(text=prompt.text, conversation=prompt.conversation, max_tokens=tokens, seed=seed)


def _rate(replies: Sequence[Reply]) -> float:
    """Of all together, until the last has ended."""
    return sum(reply.tokens for reply in replies) / max(reply.seconds for reply in replies)


# --- Coming back --------------------------------------------------------------------------------


async def _returns(ours: Ours, folder: Path, sizes: Sizes) -> list[Row]:
    """The interview was parked on disk, or its cache was lost; then the next answer is sent."""
    parked: list[float] = []
    lost: list[float] = []
    for n in range(sizes.repetitions):
        for leave, waits in ((ours.gateway.offload, parked), (ours.gateway.discard, lost)):
            talk = Talk(100 + n, ours.info).advance_to(sizes.turns - 1)
            _go_on(talk, await ours.next_question(talk, ahead=False))
            await leave(talk.name)
            waits.append((await ours.next_question(talk, ahead=False)).first)
            await ours.gateway.discard(talk.name)
    return [
        row(
            f"return to a hibernated interview of {sizes.turns} turns, to the first token",
            "s",
            parked,
            lost,
            peer_name="ours, the prompt computed again",
            target=0.2,
            note=WHOLE,
        )
    ]
