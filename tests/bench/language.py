"""Latency and throughput of the interviewer's questions."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from prepserver.engines.types import Prompt
from tests.bench.interviews import TURNS, SampleInterview
from tests.bench.models import (
    CONTEXT,
    LANGUAGE_MODEL,
    THREADS,
    LlamaServerPeer,
    PrepModels,
    ScriptPeer,
    TimedReply,
    request_fields,
    summarise_history,
)
from tests.bench.report import Row, make_row, p95

__all__ = ["run"]


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    repetitions: int = 3
    """Number of interleaved repetitions, whose medians are reported."""
    turns: int = TURNS
    """Number of turns in a long interview."""
    before_outgrown: int = 11
    """Number of answers after which the conversation has almost outgrown the context."""
    context: int = CONTEXT
    """Context length, in tokens, for the interviews that outgrow the context."""
    concurrent: int = 8
    """Number of interviews whose answers arrive at the same time."""
    concurrent_turn: int = 8
    """Number of answers with which each concurrent interview starts."""
    tokens: int = 64
    """Maximum number of tokens in a reply without a grammar; doubled for a single stream."""
    streams: int = 3
    """Number of times that a single stream is measured in each repetition."""


QUICK = Sizes(
    repetitions=1,
    turns=3,
    before_outgrown=2,
    context=CONTEXT // 2,
    concurrent=3,
    concurrent_turn=2,
    tokens=16,
    streams=1,
)

LLAMA_SERVER = "llama_cpp.server"
PREFILLED = "prefilled while the answer is typed, except its last words"
NOT_PREFILLED = "no prefill before the answer is sent"
PARTLY_PREFILLED = "answer sent as soon as the history summary is stored, no prefill after it"


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(QUICK if quick else Sizes()))


async def _run(sizes: Sizes) -> list[Row]:
    rows = []
    for measure in (
        _measure_long_interview,
        _measure_outgrown_context,
        _measure_concurrent_answers,
        _measure_throughput,
        _measure_return,
    ):
        async with _temporary_folder() as folder, PrepModels.running(folder) as prep:
            rows += await measure(prep, folder, sizes)
    return rows


@asynccontextmanager
async def _temporary_folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as name:
        yield Path(name)


# --- Time to first token ------------------------------------------------------------------------


async def _measure_long_interview(prep: PrepModels, folder: Path, sizes: Sizes) -> list[Row]:
    """Compare the latency of a long interview's last turn with that of turn 1 and of the peer."""
    prefilled: list[float] = []
    not_prefilled: list[float] = []
    first_turn: list[float] = []
    peer: list[float] = []
    async with LlamaServerPeer.running(folder) as server:

        async def time_last_turn(
            model: PrepModels | LlamaServerPeer, seed: int, *, ahead: bool
        ) -> float:
            """Return the seconds to the first token of the last turn, with earlier turns cached."""
            interview = SampleInterview(seed, prep.info).advance_to(sizes.turns - 1)
            _add_turn(interview, await model.next_question(interview, ahead=False))
            return (await model.next_question(interview, ahead=ahead)).first

        for n in range(sizes.repetitions):
            # Other interviews come first, so the prefix that all of them share is cached.
            first = SampleInterview(10 * n + 1, prep.info).advance_to(1)
            first_turn.append((await prep.next_question(first, ahead=True)).first)
            prefilled.append(await time_last_turn(prep, 10 * n + 2, ahead=True))
            peer.append(await time_last_turn(server, 10 * n + 2, ahead=False))
            # Repeat the same interview without its cache.
            await prep.gateway.discard(SampleInterview(10 * n + 2, prep.info).name)
            not_prefilled.append(await time_last_turn(prep, 10 * n + 2, ahead=False))
    name = f"time to first token, turn {sizes.turns}"
    return [
        make_row(name, "s", prefilled, peer, peer_name=LLAMA_SERVER, target=0.5, note=PREFILLED),
        make_row(name, "s", not_prefilled, peer, peer_name=LLAMA_SERVER, note=NOT_PREFILLED),
        make_row(
            name, "s", prefilled, first_turn, peer_name="prep, turn 1", target=1.2, note=PREFILLED
        ),
    ]


async def _measure_outgrown_context(prep: PrepModels, folder: Path, sizes: Sizes) -> list[Row]:
    """Measure the latency of a turn that needs a history summary, compared with the peer.

    prep writes the summary before the answer arrives; the peer writes the summary afterwards.
    """
    info = msgspec.structs.replace(prep.info, context=sizes.context)
    prefilled: list[float] = []
    partly_prefilled: list[float] = []
    peer: list[float] = []
    async with LlamaServerPeer.running(folder) as server:

        async def time_outgrown_turn(
            model: PrepModels | LlamaServerPeer, seed: int, *, ahead: bool
        ) -> float:
            """Return the seconds to the first token of the next turn that needs a summary."""
            interview = SampleInterview(seed, info).advance_to(sizes.before_outgrown)
            while interview.history_summary_prompt() is None:
                _add_turn(interview, await model.next_question(interview, ahead=False))
            return (await model.next_question(interview, ahead=ahead)).first

        for n in range(sizes.repetitions):
            prefilled.append(await time_outgrown_turn(prep, 200 + n, ahead=True))
            peer.append(await time_outgrown_turn(server, 200 + n, ahead=False))
            await prep.gateway.discard(SampleInterview(200 + n, info).name)
            partly_prefilled.append(await time_outgrown_turn(prep, 200 + n, ahead=False))
    name = "time to first token, turn that outgrows the context"
    return [
        make_row(name, "s", prefilled, peer, peer_name=LLAMA_SERVER, note=PREFILLED),
        make_row(name, "s", partly_prefilled, peer, peer_name=LLAMA_SERVER, note=PARTLY_PREFILLED),
    ]


# --- Concurrent answers -------------------------------------------------------------------------


async def _measure_concurrent_answers(prep: PrepModels, folder: Path, sizes: Sizes) -> list[Row]:
    """Measure the p95 time to the first token when all candidates send answers at once."""
    waits: dict[bool, tuple[list[float], list[float]]] = {True: ([], []), False: ([], [])}
    async with LlamaServerPeer.running(folder) as server:
        prep_interviews = _start_interviews(prep, sizes)
        peer_interviews = _start_interviews(prep, sizes)
        sides: tuple[tuple[PrepModels | LlamaServerPeer, list[SampleInterview]], ...] = (
            (prep, prep_interviews),
            (server, peer_interviews),
        )
        for model, interviews in sides:
            for interview in interviews:
                _add_turn(interview, await model.next_question(interview, ahead=False))
        for n in range(2 * sizes.repetitions):
            ahead = n % 2 == 0
            for model, interviews in sides:
                for interview in interviews:
                    await summarise_history(interview, model.ask)  # not part of the wait
            for interview in prep_interviews if ahead else ():
                for prompt in interview.prefill_prompts():
                    await prep.prefill(prompt)
            for (model, interviews), side_waits in zip(sides, waits[ahead], strict=True):
                replies = await asyncio.gather(
                    *(model.next_question(interview, ahead=False) for interview in interviews)
                )
                side_waits.append(p95([reply.first for reply in replies]))
                for interview, reply in zip(interviews, replies, strict=True):
                    _add_turn(interview, reply)
    name = f"p95 time to first token, {sizes.concurrent} concurrent answers"
    return [
        make_row(name, "s", *waits[True], peer_name=LLAMA_SERVER, target=0.25, note=PREFILLED),
        make_row(name, "s", *waits[False], peer_name=LLAMA_SERVER, note=NOT_PREFILLED),
    ]


def _start_interviews(prep: PrepModels, sizes: Sizes) -> list[SampleInterview]:
    return [
        SampleInterview(n, prep.info).advance_to(sizes.concurrent_turn)
        for n in range(sizes.concurrent)
    ]


def _add_turn(interview: SampleInterview, reply: TimedReply) -> None:
    """Add a generated question and a sample answer to the interview."""
    interview.add_question(reply.text)
    interview.add_answer(interview.make_answer())


# --- Throughput ---------------------------------------------------------------------------------


async def _measure_throughput(prep: PrepModels, folder: Path, sizes: Sizes) -> list[Row]:
    """Measure how fast replies without a grammar are generated for prefilled prompts."""
    alone: list[float] = []
    together: list[float] = []
    one_stream: list[float] = []
    peer: dict[bool, list[float]] = {True: [], False: []}
    interviews = _start_interviews(prep, sizes)
    async with ScriptPeer.running(
        "peer_llama", str(LANGUAGE_MODEL), str(THREADS), str(CONTEXT)
    ) as script:
        for n in range(sizes.repetitions):
            prompts = [
                _without_grammar(interview.question_prompt(), sizes.tokens, seed=n)
                for interview in interviews
            ]
            for prompt in prompts:
                await prep.ask(msgspec.structs.replace(prompt, max_tokens=1))
            alone.append(_total_rate([await prep.ask(prompts[0])]))
            replies = await asyncio.gather(*(prep.ask(prompt) for prompt in prompts))
            together.append(_total_rate(replies))
            long = msgspec.structs.replace(prompts[0], max_tokens=2 * sizes.tokens)
            for _ in range(sizes.streams):
                one_stream.append((await prep.ask(long)).rate)
                for low_level, rates in peer.items():
                    timing = await script.ask(
                        low_level=low_level, uncached=False, **request_fields(long)
                    )
                    rates.append(TimedReply(text="", **timing).rate)
    return [
        make_row(
            f"total throughput of {sizes.concurrent} interviews",
            "tokens/s",
            together,
            alone,
            peer_name="prep, one interview",
            target=1.3,
            at_least=True,
        ),
        make_row(
            "throughput of one stream",
            "tokens/s",
            one_stream,
            peer[True],
            peer_name="a loop over Llama.generate",
            target=0.95,
            at_least=True,
        ),
        make_row(
            "throughput of one stream",
            "tokens/s",
            one_stream,
            peer[False],
            peer_name="streaming Llama.create_completion",
        ),
    ]


def _without_grammar(prompt: Prompt, tokens: int, *, seed: int) -> Prompt:
    """Return the conversation of a prompt as text to continue by up to `tokens` tokens.

    The prompt has no grammar, because a grammar could end the reply early.
    """
    text = "\n".join(turn.content for turn in prompt.turns)
    return Prompt(text=text, conversation=prompt.conversation, max_tokens=tokens, seed=seed)


def _total_rate(replies: Sequence[TimedReply]) -> float:
    """Return the tokens per second of all replies together, until the last reply has ended."""
    return sum(reply.tokens for reply in replies) / max(reply.seconds for reply in replies)


# --- Return after a break -----------------------------------------------------------------------


async def _measure_return(prep: PrepModels, folder: Path, sizes: Sizes) -> list[Row]:
    """Compare the time to the first token after an offload with that after discarding the cache."""
    offloaded: list[float] = []
    discarded: list[float] = []
    for n in range(sizes.repetitions):
        for release, waits in (
            (prep.gateway.offload, offloaded),
            (prep.gateway.discard, discarded),
        ):
            interview = SampleInterview(100 + n, prep.info).advance_to(sizes.turns - 1)
            _add_turn(interview, await prep.next_question(interview, ahead=False))
            await release(interview.name)
            waits.append((await prep.next_question(interview, ahead=False)).first)
            await prep.gateway.discard(interview.name)
    return [
        make_row(
            f"time to first token after hibernation, turn {sizes.turns}",
            "s",
            offloaded,
            discarded,
            peer_name="prep, prompt recomputed",
            target=0.2,
            note=NOT_PREFILLED,
        )
    ]
