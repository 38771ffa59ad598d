"""Starter model in a process of its own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from prepserver.clock import SystemClock
from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.types import ChatTurn, Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.llama.running import STARTER, generate, loaded_model, run

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
QUESTION_GRAMMAR = r"""root ::= " " [A-Z] [a-zA-Z0-9 ,'-]{12,120} "?" """


def test_the_model_info_is_read_from_the_model(models_dir: Path) -> None:
    """The number of parameters is read from the model, not from the file's name."""

    async def scenario(model: LlamaModel) -> None:
        info = await model.start()
        assert info.parameters == 134_515_008
        assert info.few_shot
        assert info.context == 1_024

    run(models_dir, scenario)


def test_the_context_is_capped_at_the_training_context(models_dir: Path) -> None:
    """If the context setting exceeds the training context, the model's context is the training
    context."""

    async def scenario() -> None:
        async with loaded_model(models_dir, n_ctx=100_000) as model:
            assert (await model.start()).context == 8_192

    asyncio.run(scenario())


def test_text_streams_and_the_usage_adds_up(models_dir: Path) -> None:
    """A reply arrives in several deltas, followed by its token counts and its duration."""

    async def scenario(model: LlamaModel) -> None:
        deltas, usage = await generate(model, ASK)
        assert len(deltas) > 3
        assert usage.completion_tokens <= 24
        assert usage.prompt_tokens > 50
        assert usage.cached_tokens == 0
        assert usage.seconds > 0

    run(models_dir, scenario)


def test_a_longer_prompt_computes_only_its_new_tokens(models_dir: Path) -> None:
    """A longer prompt reuses the prefix that an earlier prompt has cached, even if another prompt
    has run in between."""

    async def scenario(model: LlamaModel) -> None:
        _, first = await generate(model, ASK)
        other = Prompt(text="Once upon a time there was a queue", max_tokens=4)
        assert (await generate(model, other))[1].cached_tokens == 0
        grown = Prompt(text=ASK.text + " Why?\n\nCandidate: Cost.\nInterviewer:", max_tokens=4)
        _, second = await generate(model, grown)
        assert second.cached_tokens >= first.prompt_tokens - 1
        assert second.prompt_tokens > second.cached_tokens

    run(models_dir, scenario)


def test_the_seed_determines_the_reply(models_dir: Path) -> None:
    """The same seed gives the same text with and without a cached prompt, and a different seed
    gives a different text."""

    async def scenario(model: LlamaModel) -> None:
        hot = Prompt(text=ASK.text, max_tokens=24, temperature=1.5, min_p=0.0, seed=7)
        first, cold_usage = await generate(model, hot)
        second, warm_usage = await generate(model, hot)
        assert cold_usage.cached_tokens == 0
        assert warm_usage.cached_tokens == warm_usage.prompt_tokens - 1
        assert first == second
        other = Prompt(text=ASK.text, max_tokens=24, temperature=1.5, min_p=0.0, seed=8)
        assert (await generate(model, other))[0] != first

    run(models_dir, scenario)


def test_a_reply_matches_its_grammar(models_dir: Path) -> None:
    """Even at a high temperature, the replies for four different seeds all match the grammar."""

    async def scenario(model: LlamaModel) -> None:
        for seed in range(4):
            prompt = Prompt(
                text=ASK.text, grammar=QUESTION_GRAMMAR, max_tokens=120, temperature=1.5, seed=seed
            )
            deltas, _ = await generate(model, prompt)
            assert re.fullmatch(r" [A-Z][a-zA-Z0-9 ,'-]{12,120}\?", "".join(deltas))

    run(models_dir, scenario)


def test_a_grammar_does_not_cover_the_opening(models_dir: Path) -> None:
    """The reply and the grammar cover only the continuation of `opening`, not `opening` itself."""

    async def scenario(model: LlamaModel) -> None:
        grammar = r"""root ::= " you " [a-z ]{4,60} "?" """
        prompt = Prompt(text=ASK.text, opening=" How did", grammar=grammar, max_tokens=60)
        deltas, _ = await generate(model, prompt)
        assert re.fullmatch(r" you [a-z ]{4,60}\?", "".join(deltas))

    run(models_dir, scenario)


def test_a_reply_matches_its_json_schema(models_dir: Path) -> None:
    """A chat with a JSON schema gives a JSON document that is valid under the schema."""

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
        deltas, _ = await generate(model, Prompt(turns=(turn,), schema=schema, max_tokens=160))
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
def test_an_invalid_grammar_is_rejected(models_dir: Path, prompt: Prompt) -> None:
    """A request with an invalid grammar, an invalid schema, or both a grammar and a schema fails
    with `bad_grammar`, and the engine keeps running."""

    async def scenario(model: LlamaModel) -> None:
        pid = model.pid
        with pytest.raises(InferenceError) as caught:
            await generate(model, prompt)
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_GRAMMAR, False)
        await generate(model, Prompt(text="One, two,", max_tokens=2))
        assert model.pid == pid

    run(models_dir, scenario)


def test_a_prompt_beyond_the_context_is_rejected(models_dir: Path) -> None:
    """A prompt as long as the context is rejected with an error that gives both lengths; the reply
    to a slightly shorter prompt ends where the context ends."""

    async def scenario(model: LlamaModel) -> None:
        with pytest.raises(InferenceError) as caught:
            await generate(model, Prompt(text=" word" * 1_024))
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.CONTEXT_OVERFLOW, False)
        assert caught.value.details == {"tokens": 1_024, "context": 1_024}
        _, usage = await generate(model, Prompt(text=" word" * 1_020, max_tokens=100))
        assert usage.prompt_tokens + usage.completion_tokens <= 1_024

    run(models_dir, scenario)


def test_more_prompts_than_slots_do_not_overflow_the_cache(models_dir: Path) -> None:
    """Five long prompts that evict each other from four slots are all answered."""

    async def scenario(model: LlamaModel) -> None:
        for extra in range(2):
            for word in (" red", " green", " blue", " black", " white"):
                _, usage = await generate(model, Prompt(text=word * (300 + extra), max_tokens=4))
                assert usage.prompt_tokens == 300 + extra

    run(models_dir, scenario)


def test_a_character_is_never_split(models_dir: Path) -> None:
    """A character that consists of several tokens arrives in one delta."""

    async def scenario(model: LlamaModel) -> None:
        prompt = Prompt(text="Party:", grammar='root ::= "🎉é🦜"', max_tokens=40)
        deltas, usage = await generate(model, prompt)
        assert "".join(deltas) == "🎉é🦜"
        assert usage.completion_tokens > len(deltas)
        assert all("\ufffd" not in delta for delta in deltas)

    run(models_dir, scenario)


def test_control_tokens_in_a_turn_are_text(models_dir: Path) -> None:
    """The text `<|im_end|>` in a turn is tokenised as several tokens instead of a control token."""

    async def scenario(model: LlamaModel) -> None:
        plain = Prompt(turns=(ChatTurn("user", ""),), max_tokens=0)
        typed = Prompt(turns=(ChatTurn("user", "<|im_end|>" * 10),), max_tokens=0)
        _, plain_usage = await generate(model, plain)
        _, typed_usage = await generate(model, typed)
        assert typed_usage.prompt_tokens - plain_usage.prompt_tokens >= 30

    run(models_dir, scenario)


def test_closing_a_reply_frees_the_model_at_once(models_dir: Path) -> None:
    """A closed reply and a cancelled prompt do not delay the next request."""

    async def scenario(model: LlamaModel) -> None:
        quick = Prompt(text="One, two,", max_tokens=1)
        async with aclosing(model.generate(Prompt(text=ASK.text, max_tokens=900))) as reply:
            await anext(reply)
        started = time.monotonic()
        await generate(model, quick)
        after_reply = time.monotonic() - started

        pending = asyncio.create_task(generate(model, Prompt(text=" word" * 1_000, max_tokens=1)))
        await asyncio.sleep(0)
        pending.cancel()
        await asyncio.wait([pending])
        started = time.monotonic()
        await generate(model, quick)
        after_prompt = time.monotonic() - started

        started = time.monotonic()
        await generate(model, Prompt(text=" other" * 900, max_tokens=100))
        whole = time.monotonic() - started
        assert after_reply < whole / 2
        assert after_prompt < whole / 2

    run(models_dir, scenario)


def test_a_killed_engine_costs_one_retry(models_dir: Path) -> None:
    """If the engine is killed during a reply, the reply fails with a retryable error, and a new
    process serves the next request."""

    async def scenario(model: LlamaModel) -> None:
        pid = model.pid
        assert pid is not None
        reply = model.generate(Prompt(text=ASK.text, max_tokens=900))
        await anext(reply)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InferenceError) as caught:
            async for _ in reply:
                pass
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.WORKER_DIED, True)
        deltas, _ = await generate(model, ASK)
        assert deltas
        assert model.pid not in (None, pid)

    run(models_dir, scenario)


DECODE_AN_UNKNOWN_SLOT = """
import sys
from prepserver.engines.llama.native import BatchTokens, LlamaContext
from prepserver.engines.llama.options import LlamaOptions
from prepserver.errors import InferenceError

context = LlamaContext(LlamaOptions(path=sys.argv[1], n_ctx=256, parallel=1))
unknown = BatchTokens(slot=context.n_slots, position=0, tokens=[1], wants_logits=True)
try:
    context.decode([unknown])
except InferenceError as error:
    print(error.code, error.retryable)
"""
"""Program that asks llama.cpp to decode a batch with an unknown slot."""


def test_a_rejected_batch_raises_decode_failed(models_dir: Path) -> None:
    """Decoding a batch that llama.cpp rejects raises a retryable error with the code
    `decode_failed`."""
    done = subprocess.run(
        [sys.executable, "-c", DECODE_AN_UNKNOWN_SLOT, str(models_dir / STARTER)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [ErrorCode.DECODE_FAILED, "True"], done.stderr


@pytest.mark.parametrize("content", [None, b"", b"this is not a model", b"GGUF\x03\0\0\0"])
def test_an_unreadable_model_file_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    """Loading a file that is missing, empty, truncated or in another format raises an error that
    names the file, and leaves no process."""
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)

    async def scenario() -> None:
        model = LlamaModel(LlamaOptions(path=str(path)), SystemClock())
        try:
            with pytest.raises(InferenceError, match=re.escape(str(path))) as caught:
                await model.start()
            assert caught.value.code == ErrorCode.MODEL_NOT_LOADED
            assert not caught.value.retryable
            assert model.pid is None
        finally:
            await model.close()

    asyncio.run(scenario())
