"""Latency, throughput and memory of the standard interviewer, a model of 1.5 billion parameters.

The model is the one of the catalogue; the environment variable PREP_BENCH_STANDARD names another
model or file. Without the model, nothing is measured.
"""

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from prepserver.engines.types import Prompt
from prepserver.errors import PrepServerError
from prepserver.models.store import ModelStore
from tests.bench.interviews import SampleInterview
from tests.bench.memory import measure_memory
from tests.bench.models import (
    CONTEXT,
    MODELS_DIR,
    THREADS,
    LlamaServerPeer,
    PrepModels,
    ScriptPeer,
    TimedReply,
    request_fields,
)
from tests.bench.processes import resident_bytes
from tests.bench.report import Row, make_row, p95

__all__ = ["run"]

MODEL = "qwen2.5-coder-1.5b-instruct"
ANSWER_WORDS = (100, 105)
"""Range of the minimum length of an answer, in words."""

LLAMA_SERVER = "llama_cpp.server"
TYPED = "answer of 100 words, prefilled while it is typed, except its last words"
AT_ONCE = "answer of 100 words that arrives at once"


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    repetitions: int = 3
    """Number of interleaved repetitions, whose medians are reported."""
    turns: tuple[int, ...] = (1, 5, 10)
    """Numbers of answers after which the next question is timed."""
    document_words: int = 1_000
    head_starts: tuple[float, ...] = (0.0, 20.0)
    """Seconds for which the documents are known before the first question is asked for."""
    tokens: int = 48
    """Maximum number of tokens in the replies whose throughput is measured."""


QUICK = Sizes(repetitions=1, turns=(1, 2), document_words=100, head_starts=(0.0, 1.0), tokens=16)


def run(quick: bool) -> list[Row]:
    try:
        model = ModelStore(MODELS_DIR).resolve(os.environ.get("PREP_BENCH_STANDARD") or MODEL)
    except PrepServerError as error:
        print(f"The standard interviewer is not measured. {error.message}", flush=True)
        return []
    return asyncio.run(_run(model, QUICK if quick else Sizes()))


async def _run(model: Path, sizes: Sizes) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as name:
        folder = Path(name)
        async with (
            PrepModels.running(folder, model) as prep,
            LlamaServerPeer.running(folder, model) as server,
        ):
            rows = await _measure_turns(prep, server, sizes)
            rows += await _measure_first_question(prep, server, sizes)
            rows += _measure_memory(server)
        async with PrepModels.running(folder, model) as prep:
            rows += await _measure_throughput(prep, model, sizes)
    return rows


# --- Time to first token ------------------------------------------------------------------------


async def _measure_turns(prep: PrepModels, server: LlamaServerPeer, sizes: Sizes) -> list[Row]:
    """Compare the time from the end of an answer to the first token of the next question."""
    typed: dict[int, list[float]] = {turn: [] for turn in sizes.turns}
    at_once: dict[int, list[float]] = {turn: [] for turn in sizes.turns}
    peer: dict[int, list[float]] = {turn: [] for turn in sizes.turns}
    for n in range(sizes.repetitions):
        for model, waits, ahead in (
            (prep, typed, True),
            (server, peer, False),
            (prep, at_once, False),
        ):
            interview = SampleInterview(n, prep.info, answer_words=ANSWER_WORDS)
            await prep.gateway.discard(interview.name)
            for turn in sizes.turns:
                interview.advance_to(turn - 1)
                # The conversation up to the question is cached, as after the question's reply.
                question = await model.next_question(interview, ahead=False)
                interview.add_question(question.text)
                interview.add_answer(interview.make_answer())
                waits[turn].append((await model.next_question(interview, ahead=ahead)).first)
    rows = []
    for waits, note in ((typed, TYPED), (at_once, AT_ONCE)):
        target = 0.5 if waits is typed else None
        for turn in sizes.turns:
            name = f"time to first token, turn {turn}"
            rows.append(_latency_row(name, waits[turn], peer[turn], target, note))
            if sizes.repetitions > 1:
                name = f"p95 {name}"
                rows.append(_latency_row(name, [p95(waits[turn])], [p95(peer[turn])], target, note))
    return rows


async def _measure_first_question(
    prep: PrepModels, server: LlamaServerPeer, sizes: Sizes
) -> list[Row]:
    """Compare the time to the first question of an interview with documents.

    prep reads the documents as soon as they are known; the peer reads them with the question.
    """
    waits: dict[float, list[float]] = {seconds: [] for seconds in sizes.head_starts}
    peer: list[float] = []
    for n in range(sizes.repetitions):
        # Other seeds than in the turns, so that no documents are cached.
        interview = SampleInterview(100 + n, prep.info, document_words=sizes.document_words)
        for seconds, times in waits.items():
            await prep.gateway.discard(interview.name)
            if seconds:
                reading = prep.prefill(interview.prefill_prompt(""))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reading, seconds)
            times.append((await prep.ask(interview.question_prompt())).first)
        await prep.gateway.discard(interview.name)
        peer.append((await server.ask(interview.question_prompt())).first)
    return [
        _latency_row(
            f"time to first token of the first question, documents of {sizes.document_words} words",
            times,
            peer,
            0.5 if seconds else None,
            f"documents known {seconds:g} s before",
        )
        for seconds, times in waits.items()
    ]


def _latency_row(
    name: str, prep: list[float], peer: list[float], target: float | None, note: str
) -> Row:
    return make_row(name, "s", prep, peer, peer_name=LLAMA_SERVER, target=target, note=note)


# --- Throughput and memory ----------------------------------------------------------------------


async def _measure_throughput(prep: PrepModels, model: Path, sizes: Sizes) -> list[Row]:
    """Compare the speed of one stream without a grammar with the library's leanest loop."""
    rates: list[float] = []
    peer: list[float] = []
    text = SampleInterview(0, prep.info).make_answer()
    arguments = (str(model), str(THREADS), str(CONTEXT))
    async with ScriptPeer.running("peer_llama", *arguments) as script:
        for n in range(sizes.repetitions + 2):
            prompt = Prompt(text=text, conversation="rate", max_tokens=sizes.tokens, seed=n)
            rates.append((await prep.ask(prompt)).rate)
            timing = await script.ask(low_level=True, uncached=False, **request_fields(prompt))
            peer.append(TimedReply(text="", **timing).rate)
    return [
        make_row(
            "throughput of one stream",
            "tokens/s",
            rates,
            peer,
            peer_name="a loop over Llama.generate",
            target=1.0,
            at_least=True,
        )
    ]


def _measure_memory(server: LlamaServerPeer) -> list[Row]:
    """Compare the memory of the engine with that of the peer, after the same interviews."""
    engine = measure_memory(os.getpid())["language engine"]
    return [
        make_row(
            "memory of the language engine",
            "MB",
            [engine / 1e6],
            [resident_bytes(server.pid) / 1e6],
            peer_name=LLAMA_SERVER,
            note="with slots for several interviews; the peer has one",
        )
    ]
