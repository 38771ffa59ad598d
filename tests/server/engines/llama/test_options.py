"""Options that the starter model chooses from."""

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.types import ChatTurn, Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.llama.running import STARTER, generate, run

pytestmark = pytest.mark.models

HEAD = (
    "Candidate: I rebuilt the search page so that results load in under a second.\n"
    "Interviewer: How did you decide which queries were worth caching?\n\n"
    "Candidate: I do not know.\n"
)
DIGITS = tuple("0123456789")
DECISION = Prompt(text=f"{HEAD}Question: how good was that, from 0 to 9? Answer:", options=DIGITS)

FULL_LOGITS = """
import json, sys
import numpy as np
from prepserver.engines.llama.native import BatchTokens, LlamaContext
from prepserver.engines.llama.options import LlamaOptions

native = LlamaContext(LlamaOptions(path=sys.argv[1], n_ctx=512, parallel=1))

def log_probability(prompt, option):
    tokens = native.tokenize(prompt, parse_control=False)
    rest = native.tokenize(prompt + option, parse_control=False)[len(tokens):]
    total = 0.0
    for token in rest:
        native.clear_cache()
        part = BatchTokens(slot=0, position=0, tokens=tokens, wants_logits=True)
        logits = native.logits(native.decode([part])[0]).astype(float)
        total += logits[token] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        tokens.append(token)
    return total

prompt, options = json.loads(sys.argv[2])
print(json.dumps([log_probability(prompt, option) for option in options]))
"""
"""Program that prints the logarithm of each option's probability, computed from all logits."""


def full_log_probabilities(model: Path, prompt: Prompt) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", FULL_LOGITS, str(model), json.dumps([prompt.text, prompt.options])],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(value) for value in json.loads(done.stdout)]


def test_the_probabilities_are_those_of_the_logits(models_dir: Path) -> None:
    """The probabilities of ten digits equal the softmax of the full logits, and the reply is the
    most probable digit."""
    expected = [math.exp(value) for value in full_log_probabilities(models_dir / STARTER, DECISION)]
    total = sum(expected)

    async def scenario(model: LlamaModel) -> None:
        deltas, usage = await generate(model, DECISION)
        assert usage.probabilities == pytest.approx([value / total for value in expected], rel=0.02)
        assert sum(usage.probabilities) == pytest.approx(1)
        assert deltas == [DIGITS[usage.probabilities.index(max(usage.probabilities))]]
        assert usage.completion_tokens == 0

    run(models_dir, scenario)


def test_options_of_several_tokens_are_scored_as_a_whole(models_dir: Path) -> None:
    """Options that share their first tokens get the same probabilities twice, which add up to 1,
    and leave nothing in the slot."""
    variants = [
        (" yes", " no"),
        (" very good", " very bad", " no"),
        (" yes", " yes and no", " yes and yes"),
        (" é", " 🎉", " 🦜", " x"),
        tuple(f" option number {number} of all" for number in range(16)),
    ]

    async def scenario(model: LlamaModel) -> None:
        for options in variants:
            prompt = msgspec.structs.replace(DECISION, options=options, conversation="a")
            first, cold = await generate(model, prompt)
            second, warm = await generate(model, prompt)
            assert first == second
            assert cold.probabilities == pytest.approx(warm.probabilities, rel=1e-6)
            assert sum(warm.probabilities) == pytest.approx(1)
            assert warm.cached_tokens == warm.prompt_tokens - 1

    run(models_dir, scenario)


def test_one_branch_has_the_ratio_of_the_whole_strings(models_dir: Path) -> None:
    """Two options that differ in one token only have the ratio of the probabilities of their whole
    strings."""
    prompt = msgspec.structs.replace(DECISION, options=(" the first", " the second"))
    first, second = full_log_probabilities(models_dir / STARTER, prompt)

    async def scenario(model: LlamaModel) -> None:
        _, usage = await generate(model, prompt)
        ratio = usage.probabilities[0] / usage.probabilities[1]
        assert ratio == pytest.approx(math.exp(first - second), rel=0.02)

    run(models_dir, scenario)


def test_the_question_after_a_decision_reuses_the_conversation(models_dir: Path) -> None:
    """A decision is computed on top of the cached conversation, and the next prompt of the
    conversation reuses all that the two share."""

    async def scenario(model: LlamaModel) -> None:
        base = Prompt(text=HEAD, conversation="a", max_tokens=1)
        _, known = await generate(model, base)
        decision = msgspec.structs.replace(DECISION, conversation="a")
        _, decided = await generate(model, decision)
        assert decided.cached_tokens >= known.prompt_tokens - 1
        question = Prompt(text=f"{HEAD}Interviewer:", conversation="a", max_tokens=8)
        deltas, usage = await generate(model, question)
        assert usage.cached_tokens >= known.prompt_tokens - 1
        await model.discard("a")
        assert (await generate(model, question))[0] == deltas

    run(models_dir, scenario)


def test_a_decision_does_not_depend_on_concurrent_replies(models_dir: Path) -> None:
    """Decisions, some of several tokens, that run beside streaming replies get the same
    probabilities as alone, and the replies stay the same."""
    decisions = [
        msgspec.structs.replace(DECISION, text=f"{HEAD}{word}:", options=options)
        for word, options in (("Score", DIGITS), ("So", (" it is", " it was", " no")))
    ]
    replies = [Prompt(text=f"{HEAD}{word}", max_tokens=30, seed=1) for word in ("Why", "How")]

    async def scenario(model: LlamaModel) -> None:
        together = await asyncio.gather(*(generate(model, each) for each in decisions + replies))
        for prompt, (deltas, usage) in zip(decisions + replies, together, strict=True):
            alone, again = await generate(model, prompt)
            assert "".join(alone) == "".join(deltas)
            assert again.probabilities == pytest.approx(usage.probabilities, rel=1e-6)

    run(models_dir, scenario)


def test_a_chat_is_decided_after_the_template(models_dir: Path) -> None:
    """Options are scored where the reply of a chat begins, after its opening."""

    async def scenario(model: LlamaModel) -> None:
        turn = ChatTurn("user", "Which number comes after three? Reply with one digit.")
        chat = Prompt(turns=(turn,), options=DIGITS, max_tokens=0)
        plain, _ = await generate(model, chat)
        opened, _ = await generate(
            model, msgspec.structs.replace(chat, opening="One, two, three, ")
        )
        assert plain[0] in DIGITS
        assert opened[0] in DIGITS

    run(models_dir, scenario)


def test_unusable_options_are_rejected(models_dir: Path) -> None:
    """Too few, equal, empty, too many or too long options, or options with a grammar or schema,
    fail with `bad_grammar`, and the engine keeps running."""
    unusable: list[dict[str, Any]] = [
        {"options": ("1",)},
        {"options": ("1", "1")},
        {"options": ("1", " ")},
        {"options": tuple(map(str, range(100, 133)))},
        {"options": (" word" * 300 + "a", " word" * 300 + "b", "c")},
        {"grammar": 'root ::= "1"'},
        {"schema": {"type": "integer"}},
    ]

    async def scenario(model: LlamaModel) -> None:
        pid = model.pid
        for fields in unusable:
            with pytest.raises(InferenceError) as caught:
                await generate(model, msgspec.structs.replace(DECISION, **fields))
            assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_GRAMMAR, False)
        await generate(model, DECISION)
        assert model.pid == pid

    run(models_dir, scenario)


def test_an_empty_prompt_can_be_decided(models_dir: Path) -> None:
    """A prompt without any text gives probabilities too."""

    async def scenario(model: LlamaModel) -> None:
        _, usage = await generate(model, Prompt(options=("yes", "no")))
        assert sum(usage.probabilities) == pytest.approx(1)

    run(models_dir, scenario)
