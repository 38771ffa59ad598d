"""The engine under fire: processes that are killed, files that are not what they say."""

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
from tests.server.engines.llama.running import STARTER, loaded, write

pytestmark = pytest.mark.models

CONVERSATIONS = 8

DESCRIPTION = 1_785_000
"""Bytes at the beginning of the starter model that say what is in it; weights follow."""
SETTINGS = 2_500
"""The first of these: all but the vocabulary and the list of weights."""
LOADING = 60.0
"""Seconds. A mutated file is refused or loaded in about one."""
MEMORY = 1_000_000_000
"""Bytes. The model itself needs 0.3 of them."""


def test_a_killed_engine_costs_eight_conversations_one_retry(models_dir: Path) -> None:
    """Each stream fails as one that may be tried again; tried again, each says the same as it
    would have without, and begins with what had been heard of it."""
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
        async with loaded(models_dir, parallel=CONVERSATIONS) as model:
            undisturbed = await asyncio.gather(*(write(model, prompt) for prompt in prompts))
            for prompt in prompts:
                await model.discard(prompt.conversation)
            heard = [""] * CONVERSATIONS
            killed = asyncio.Event()

            async def interrupted(number: int) -> InferenceError:
                try:
                    async for event in model.generate(prompts[number]):
                        assert isinstance(event, TextDelta), "it was to be killed before the end"
                        heard[number] += event.text
                        if all(heard) and not killed.is_set():
                            killed.set()
                            assert model.pid is not None
                            os.kill(model.pid, signal.SIGKILL)
                except InferenceError as error:
                    return error
                raise AssertionError("it was to be killed before the end")

            errors = await asyncio.gather(*map(interrupted, range(CONVERSATIONS)))
            assert {(error.code, error.retryable) for error in errors} == {("worker_died", True)}
            again = await asyncio.gather(*(write(model, prompt) for prompt in prompts))
            for number in range(CONVERSATIONS):
                assert "".join(again[number][0]) == "".join(undisturbed[number][0])
                assert "".join(again[number][0]).startswith(heard[number])

    asyncio.run(scenario())


@pytest.fixture
def starter(models_dir: Path) -> bytes:
    return (models_dir / STARTER).read_bytes()


def mutations(starter: bytes, numbers: range) -> Iterator[bytes]:
    """The starter model cut short, or with a bit or a byte of its description changed."""
    for number in numbers:
        dice = random.Random(number)
        data = bytearray(starter)
        match number % 4:
            case 0:
                del data[int(len(data) * dice.random() ** 4) :]
            case 1:
                data[dice.randrange(SETTINGS)] ^= 1 << dice.randrange(8)
            case 2:
                data[dice.randrange(DESCRIPTION)] ^= 1 << dice.randrange(8)
            case 3:
                data[DESCRIPTION - dice.randrange(20_000)] = dice.randrange(256)
        yield bytes(data)


async def outcome(path: Path) -> InferenceError | None:
    """What comes of loading a file and writing four tokens with it; None when they are written."""
    options = LlamaOptions(path=str(path), n_ctx=256, n_threads=1)
    model = LlamaModel(options, SystemClock(), ready_timeout=LOADING, stall_timeout=LOADING)
    try:
        await model.start()
        await write(model, Prompt(text="One, two", max_tokens=4))
    except InferenceError as error:
        return error
    finally:
        await model.close()
    return None


def largest() -> int:
    """Bytes that the largest process had that was started from here and has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1_024


def check_mutations(starter: bytes, path: Path, numbers: range) -> None:
    before = largest()
    found: dict[str, int] = {}
    for data in mutations(starter, numbers):
        path.write_bytes(data)
        error = asyncio.run(asyncio.wait_for(outcome(path), 3 * LOADING))
        code = "written" if error is None else error.code
        found[code] = found.get(code, 0) + 1
        if error is not None:
            assert error.retryable == (code == "worker_died")
            assert code != "model_not_loaded" or str(path) in error.message, error.message
    print(found)
    assert set(found) <= {"written", "model_not_loaded", "worker_died", "decode_failed"}
    assert found["model_not_loaded"] >= len(numbers) / 3
    assert largest() <= max(before, MEMORY)


def test_a_mutated_file_is_refused_in_words(starter: bytes, tmp_path: Path) -> None:
    """Whatever was changed, there is a typed error or a reply, soon, within bounds of memory."""
    check_mutations(starter, tmp_path / "mutated.gguf", range(24))


@pytest.mark.chaos
@pytest.mark.time_limit(1_800)
def test_two_hundred_mutated_files_are_refused_in_words(starter: bytes, tmp_path: Path) -> None:
    """The same, more often."""
    check_mutations(starter, tmp_path / "mutated.gguf", range(1_000, 1_200))
