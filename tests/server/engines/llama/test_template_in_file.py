"""The starter model with another chat template in its file."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.types import ChatTurn, Prompt
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.llama.running import STARTER, generate, loaded_model

pytestmark = pytest.mark.models

KEY = b"tokenizer.chat_template" + struct.pack("<I", 8)
"""Name of the template in a GGUF file, with the type `string`."""
CHAT = Prompt(
    turns=(ChatTurn("system", "Be brief."), ChatTurn("user", "Say hello.")), max_tokens=12
)
QUESTION_GRAMMAR = r'root ::= [^?\n]{14,60} "?"'


def with_template(models_dir: Path, folder: Path, template: str) -> str:
    """Copy the starter model with a template of the same length, and return the file's name."""
    content = (models_dir / STARTER).read_bytes()
    start = content.index(KEY) + len(KEY)
    (length,) = struct.unpack_from("<Q", content, start)
    padded = template.encode() + b"{#" + b" " * (length - len(template.encode()) - 4) + b"#}"
    assert len(padded) == length
    copy = folder / "other-template.gguf"
    copy.write_bytes(content[: start + 8] + padded + content[start + 8 + length :])
    return copy.name


def run(
    models_dir: Path,
    folder: Path,
    template: str,
    scenario: Callable[[LlamaModel], Awaitable[None]],
) -> None:
    async def with_model() -> None:
        name = with_template(models_dir, folder, template)
        async with loaded_model(folder, name=name) as model:
            await scenario(model)

    asyncio.run(with_model())


def test_a_small_model_does_not_need_its_template(models_dir: Path, tmp_path: Path) -> None:
    """A small model with an invalid template loads and continues texts; a chat fails with an error
    that names the model."""

    async def scenario(model: LlamaModel) -> None:
        deltas, _ = await generate(model, Prompt(text="One, two,", max_tokens=8))
        assert deltas
        with pytest.raises(InferenceError, match="other-template") as caught:
            await generate(model, CHAT)
        assert caught.value.code == ErrorCode.BAD_CHAT

    run(models_dir, tmp_path, "{% for %}", scenario)


def test_a_grammar_covers_the_reply_after_an_empty_thought(
    models_dir: Path, tmp_path: Path
) -> None:
    """If the template begins the reply with a thought, the thought is ended, and the reply matches
    the grammar."""

    async def scenario(model: LlamaModel) -> None:
        prompt = Prompt(turns=CHAT.turns, grammar=QUESTION_GRAMMAR, max_tokens=100, seed=1)
        deltas, usage = await generate(model, prompt)
        text = "".join(deltas)
        assert text.endswith("?")
        assert "think" not in text
        assert not usage.thought

    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}<|im_start|>assistant\n<think>\n"
    )
    run(models_dir, tmp_path, template, scenario)


def test_a_reply_contains_no_control_token(models_dir: Path, tmp_path: Path) -> None:
    """A prompt that leads to a control token such as `<|im_start|>` does not produce one."""

    async def scenario(model: LlamaModel) -> None:
        prompt = Prompt(turns=CHAT.turns, max_tokens=20, temperature=0.0)
        deltas, usage = await generate(model, prompt)
        # A control token has no text.
        assert len(deltas) == usage.completion_tokens > 0

    run(
        models_dir,
        tmp_path,
        "{% for m in messages %}{{ m.content }}<|im_end|>\n{% endfor %}",
        scenario,
    )
