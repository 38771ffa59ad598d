"""Robustness of the engine: killed processes and corrupt model files."""

import asyncio
import os
import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepserver.clock import SystemClock
from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.types import Prompt, TextDelta
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.llama.running import STARTER, generate, loaded_model

pytestmark = pytest.mark.models

CONVERSATIONS = 8

METADATA_BYTES = 1_785_000
"""Number of bytes of metadata at the beginning of the starter model, before the weights."""
SETTINGS_BYTES = 2_500
"""Number of bytes at the beginning of the starter model, before the vocabulary and the list of
tensors."""
TIMEOUT = 60.0
"""Timeout for a start or a reply, in seconds. A mutated file is rejected or loaded in about one
second."""
MAX_MEMORY = 1_000_000_000
"""Maximum memory of an engine, in bytes. The model itself needs 300 MB."""


def test_a_killed_engine_costs_eight_conversations_one_retry(models_dir: Path) -> None:
    """When an engine is killed during eight replies, each reply fails with a retryable error; each
    retry gives the same reply as without the kill, and that reply begins with the text received
    before the kill."""
    prompts = [
        Prompt(
            text=f"Candidate: I have {number} brothers.\nInterviewer:",
            conversation=f"{number}",
            max_tokens=40,
            temperature=1.0,
            min_p=0.0,
            seed=number,
        )
        for number in range(CONVERSATIONS)
    ]

    async def scenario() -> None:
        async with loaded_model(models_dir, parallel=CONVERSATIONS) as model:
            undisturbed = await asyncio.gather(*(generate(model, prompt) for prompt in prompts))
            for prompt in prompts:
                await model.discard(prompt.conversation)
            received = [""] * CONVERSATIONS
            killed = asyncio.Event()

            async def interrupted(number: int) -> InferenceError:
                try:
                    async for event in model.generate(prompts[number]):
                        assert isinstance(event, TextDelta), "the reply ended before the kill"
                        received[number] += event.text
                        if all(received) and not killed.is_set():
                            killed.set()
                            assert model.pid is not None
                            os.kill(model.pid, signal.SIGKILL)
                except InferenceError as error:
                    return error
                raise AssertionError("the reply ended before the kill")

            errors = await asyncio.gather(*map(interrupted, range(CONVERSATIONS)))
            assert {(error.code, error.retryable) for error in errors} == {
                (ErrorCode.WORKER_DIED, True)
            }
            retried = await asyncio.gather(*(generate(model, prompt) for prompt in prompts))
            for number in range(CONVERSATIONS):
                assert "".join(retried[number][0]) == "".join(undisturbed[number][0])
                assert "".join(retried[number][0]).startswith(received[number])

    asyncio.run(scenario())


@pytest.fixture
def starter(models_dir: Path) -> bytes:
    return (models_dir / STARTER).read_bytes()


def mutations(starter: bytes, numbers: range) -> Iterator[bytes]:
    """Yield a copy of the starter model for each of `numbers`: truncated, or with a changed bit or
    byte in the metadata."""
    for number in numbers:
        rng = random.Random(number)
        data = bytearray(starter)
        match number % 4:
            case 0:
                del data[int(len(data) * rng.random() ** 4) :]
            case 1:
                data[rng.randrange(SETTINGS_BYTES)] ^= 1 << rng.randrange(8)
            case 2:
                data[rng.randrange(METADATA_BYTES)] ^= 1 << rng.randrange(8)
            case 3:
                data[METADATA_BYTES - rng.randrange(20_000)] = rng.randrange(256)
        yield bytes(data)


async def try_model(path: Path) -> InferenceError | None:
    """Load a model file and generate up to four tokens. Return the error, or None on success."""
    options = LlamaOptions(path=str(path), n_ctx=256, n_threads=1)
    model = LlamaModel(options, SystemClock(), ready_timeout=TIMEOUT, stall_timeout=TIMEOUT)
    try:
        await model.start()
        await generate(model, Prompt(text="One, two", max_tokens=4))
    except InferenceError as error:
        return error
    finally:
        await model.close()
    return None


def peak_child_memory() -> int:
    """Return the largest peak memory of all child processes that have ended, in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1_024


def check_mutations(starter: bytes, path: Path, numbers: range) -> None:
    before = peak_child_memory()
    outcomes: dict[str, int] = {}
    for data in mutations(starter, numbers):
        path.write_bytes(data)
        error = asyncio.run(asyncio.wait_for(try_model(path), 3 * TIMEOUT))
        code = "generated" if error is None else error.code
        outcomes[code] = outcomes.get(code, 0) + 1
        if error is not None:
            assert error.retryable == (code == ErrorCode.WORKER_DIED)
            assert code != ErrorCode.MODEL_NOT_LOADED or str(path) in error.message, error.message
    print(outcomes)
    assert set(outcomes) <= {
        "generated",
        ErrorCode.MODEL_NOT_LOADED,
        ErrorCode.WORKER_DIED,
        ErrorCode.DECODE_FAILED,
    }
    assert outcomes[ErrorCode.MODEL_NOT_LOADED] >= len(numbers) / 3
    assert peak_child_memory() <= max(before, MAX_MEMORY)


def test_a_corrupt_model_file_gives_a_typed_error(starter: bytes, tmp_path: Path) -> None:
    """A corrupt model file leads to an InferenceError or a reply, within the limits on time and
    memory."""
    check_mutations(starter, tmp_path / "mutated.gguf", range(24))


@pytest.mark.chaos
@pytest.mark.time_limit(1_800)
def test_two_hundred_corrupt_model_files_give_typed_errors(starter: bytes, tmp_path: Path) -> None:
    """Each of 200 corrupt model files leads to an InferenceError or a reply, within the limits on
    time and memory."""
    check_mutations(starter, tmp_path / "mutated.gguf", range(1_000, 1_200))
