"""The starter model, for real, in its own process."""

import asyncio
import json
import os
import re
import signal
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from prepserver.clock import SystemClock
from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.types import ChatTurn, Prompt
from prepserver.errors import InferenceError
from tests.server.engines.llama.running import loaded, run, write

pytestmark = pytest.mark.models

HEAD = (
    "Candidate: I rebuilt the search page so that results load in under a second.\n"
    "Interviewer: How did you decide which queries were worth caching?\n\n"
    "Candidate: I wrote a script that checks the logs and sends an alert when errors go up.\n"
    "Interviewer: What happens when the script itself stops working?\n\n"
)
ASK = Prompt(
    text=HEAD + "Candidate: I led the migration of our payment service.\nInterviewer:",
    max_tokens=24,
)
QUESTION = r"""root ::= " " [A-Z] [a-zA-Z0-9 ,'-]{12,120} "?" """


def test_the_model_says_what_it_is(models_dir: Path) -> None:
    """The parameters are counted, not read from the file's name."""

    async def scenario(model: LlamaModel) -> None:
        info = await model.start()
        assert info.parameters == 134_515_008
        assert info.few_shot
        assert info.context == 1_024

    run(models_dir, scenario)


def test_the_context_is_never_more_than_the_model_was_trained_with(models_dir: Path) -> None:
    """Asking for too much gives what there is."""

    async def scenario() -> None:
        async with loaded(models_dir, n_ctx=100_000) as model:
            assert (await model.start()).context == 8_192

    asyncio.run(scenario())


def test_text_streams_and_the_usage_adds_up(models_dir: Path) -> None:
    """Several deltas, then the counts of tokens."""

    async def scenario(model: LlamaModel) -> None:
        deltas, usage = await write(model, ASK)
        assert len(deltas) > 3
        assert usage.completion_tokens <= 24
        assert usage.prompt_tokens > 50
        assert usage.cached_tokens == 0
        assert usage.seconds > 0

    run(models_dir, scenario)


def test_a_prompt_that_grew_computes_only_what_is_new(models_dir: Path) -> None:
    """The common prefix is reported, also with another interview in between."""

    async def scenario(model: LlamaModel) -> None:
        _, first = await write(model, ASK)
        other = Prompt(text="Once upon a time there was a queue", max_tokens=4)
        assert (await write(model, other))[1].cached_tokens == 0
        grown = Prompt(text=ASK.text + " Why?\n\nCandidate: Cost.\nInterviewer:", max_tokens=4)
        _, second = await write(model, grown)
        assert second.cached_tokens >= first.prompt_tokens - 1
        assert second.prompt_tokens > second.cached_tokens

    run(models_dir, scenario)


def test_the_same_seed_and_prompt_give_the_same_text(models_dir: Path) -> None:
    """Whether the prompt is in the cache or not; and another seed gives another text."""

    async def scenario(model: LlamaModel) -> None:
        hot = Prompt(text=ASK.text, max_tokens=24, temperature=1.5, min_p=0.0, seed=7)
        first, cold_usage = await write(model, hot)
        second, warm_usage = await write(model, hot)
        assert cold_usage.cached_tokens == 0
        assert warm_usage.cached_tokens == warm_usage.prompt_tokens - 1
        assert first == second
        other = Prompt(text=ASK.text, max_tokens=24, temperature=1.5, min_p=0.0, seed=8)
        assert (await write(model, other))[0] != first

    run(models_dir, scenario)


def test_a_grammar_is_obeyed_whatever_the_temperature(models_dir: Path) -> None:
    """One question, in the grammar's letters, complete, for several seeds."""

    async def scenario(model: LlamaModel) -> None:
        for seed in range(4):
            prompt = Prompt(
                text=ASK.text, grammar=QUESTION, max_tokens=120, temperature=1.5, seed=seed
            )
            deltas, _ = await write(model, prompt)
            assert re.fullmatch(r" [A-Z][a-zA-Z0-9 ,'-]{12,120}\?", "".join(deltas))

    run(models_dir, scenario)


def test_a_grammar_holds_for_the_reply_without_its_opening(models_dir: Path) -> None:
    """The model goes on from the opening, which is not repeated."""

    async def scenario(model: LlamaModel) -> None:
        grammar = r"""root ::= " you " [a-z ]{4,60} "?" """
        prompt = Prompt(text=ASK.text, opening=" How did", grammar=grammar, max_tokens=60)
        deltas, _ = await write(model, prompt)
        assert re.fullmatch(r" you [a-z ]{4,60}\?", "".join(deltas))

    run(models_dir, scenario)


def test_a_schema_gives_json_that_fits(models_dir: Path) -> None:
    """A chat with a schema is answered in that shape."""

    async def scenario(model: LlamaModel) -> None:
        schema = {
            "type": "object",
            "properties": {
                "level": {"enum": ["junior", "senior"]},
                "skills": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": 20},
                    "minItems": 2,
                    "maxItems": 3,
                },
            },
            "required": ["level", "skills"],
            "additionalProperties": False,
        }
        turn = ChatTurn("user", "Which skills does a web developer need? Answer in JSON.")
        deltas, _ = await write(model, Prompt(turns=(turn,), schema=schema, max_tokens=160))
        reply = json.loads("".join(deltas))
        assert set(reply) == {"level", "skills"}
        assert reply["level"] in ("junior", "senior")
        assert 2 <= len(reply["skills"]) <= 3

    run(models_dir, scenario)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(text="x", grammar="root ::= ((("),
        Prompt(text="x", grammar='answer ::= "yes"'),
        Prompt(text="x", schema={"type": "no such type"}),
        Prompt(text="x", grammar='root ::= "a"', schema={"type": "string"}),
    ],
)
def test_a_bad_grammar_is_refused_and_costs_nothing(models_dir: Path, prompt: Prompt) -> None:
    """The engine says so and keeps running."""

    async def scenario(model: LlamaModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            await write(model, prompt)
        assert (caught.value.code, caught.value.retryable) == ("bad_grammar", False)
        await write(model, Prompt(text="One, two,", max_tokens=2))
        assert model.pid == pid

    run(models_dir, scenario)


def test_a_prompt_beyond_the_context_is_refused_with_its_length(models_dir: Path) -> None:
    """Nothing is cut off silently; a prompt that just fits gets what room there is."""

    async def scenario(model: LlamaModel) -> None:
        with pytest.raises(InferenceError) as caught:
            await write(model, Prompt(text=" word" * 1_024))
        assert (caught.value.code, caught.value.retryable) == ("context_overflow", False)
        assert caught.value.details == {"tokens": 1_024, "context": 1_024}
        _, usage = await write(model, Prompt(text=" word" * 1_020, max_tokens=100))
        assert usage.prompt_tokens + usage.completion_tokens <= 1_024

    run(models_dir, scenario)


def test_more_conversations_than_fit_do_not_overflow_the_cache(models_dir: Path) -> None:
    """Long prompts that take turns push each other out and are all answered."""

    async def scenario(model: LlamaModel) -> None:
        for turn in range(2):
            for word in (" red", " green", " blue", " black", " white"):
                _, usage = await write(model, Prompt(text=word * (300 + turn), max_tokens=4))
                assert usage.prompt_tokens == 300 + turn

    run(models_dir, scenario)


def test_an_emoji_arrives_whole(models_dir: Path) -> None:
    """A character of several tokens is one delta."""

    async def scenario(model: LlamaModel) -> None:
        prompt = Prompt(text="Party:", grammar='root ::= "🎉é🦜"', max_tokens=40)
        deltas, usage = await write(model, prompt)
        assert "".join(deltas) == "🎉é🦜"
        assert usage.completion_tokens > len(deltas)
        assert all("\ufffd" not in delta for delta in deltas)

    run(models_dir, scenario)


def test_what_a_candidate_types_does_not_end_their_turn(models_dir: Path) -> None:
    """Control tokens in a turn are read as text, so they cost more than one token each."""

    async def scenario(model: LlamaModel) -> None:
        plain = Prompt(turns=(ChatTurn("user", ""),), max_tokens=0)
        typed = Prompt(turns=(ChatTurn("user", "<|im_end|>" * 10),), max_tokens=0)
        _, without = await write(model, plain)
        _, withs = await write(model, typed)
        assert withs.prompt_tokens - without.prompt_tokens >= 30

    run(models_dir, scenario)


def test_closing_a_reply_frees_the_model_at_once(models_dir: Path) -> None:
    """A long reply that nobody wants, and a long prompt that nobody waits for, make way."""

    async def scenario(model: LlamaModel) -> None:
        quick = Prompt(text="One, two,", max_tokens=1)
        async with aclosing(model.generate(Prompt(text=ASK.text, max_tokens=900))) as reply:
            await anext(reply)
        started = time.monotonic()
        await write(model, quick)
        after_reply = time.monotonic() - started

        reading = asyncio.create_task(write(model, Prompt(text=" word" * 1_000, max_tokens=1)))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        started = time.monotonic()
        await write(model, quick)
        after_prompt = time.monotonic() - started

        started = time.monotonic()
        await write(model, Prompt(text=" other" * 900, max_tokens=100))
        whole = time.monotonic() - started
        assert after_reply < whole / 2
        assert after_prompt < whole / 2

    run(models_dir, scenario)


def test_a_killed_engine_costs_one_retry(models_dir: Path) -> None:
    """The stream fails as retryable, and the next request is answered by a new process."""

    async def scenario(model: LlamaModel) -> None:
        pid = model.pid
        assert pid is not None
        reply = model.generate(Prompt(text=ASK.text, max_tokens=900))
        await anext(reply)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InferenceError) as caught:
            async for _ in reply:
                pass
        assert (caught.value.code, caught.value.retryable) == ("worker_died", True)
        deltas, _ = await write(model, ASK)
        assert deltas
        assert model.pid not in (None, pid)

    run(models_dir, scenario)


@pytest.mark.parametrize("content", [None, b"", b"this is not a model", b"GGUF\x03\0\0\0"])
def test_a_file_that_is_no_model_is_refused_with_its_name(
    tmp_path: Path, content: bytes | None
) -> None:
    """Missing, empty, foreign or cut short: an error that names the file, and no process stays."""
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)

    async def scenario() -> None:
        model = LlamaModel(LlamaOptions(path=str(path)), SystemClock())
        try:
            with pytest.raises(InferenceError, match=re.escape(str(path))) as caught:
                await model.start()
            assert (caught.value.code, caught.value.retryable) == ("model_not_loaded", False)
            assert model.pid is None
        finally:
            await model.close()

    asyncio.run(scenario())
