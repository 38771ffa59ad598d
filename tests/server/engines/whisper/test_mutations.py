"""Model files that were damaged: an error that says so, or words; never the end of the server."""

import asyncio
import random
import resource
import shutil
import struct
import time
from collections import Counter
from pathlib import Path

import pytest

from prepserver.clock import SystemClock
from prepserver.engines.whisper.model import WhisperModel
from prepserver.errors import InferenceError
from prepserver.models.ggml import Hyperparameters
from tests.server.engines.whisper.sounds import spoken, words_of
from tests.support.wer import wer

pytestmark = pytest.mark.models

SHAPE = 4
"""Where the numbers of the shape begin, behind the magic."""
TOKENS = SHAPE + 4 * len(Hyperparameters.__struct_fields__) + 8 + 4 * 80 * 201
"""Where the list of tokens begins."""
TENSORS = TOKENS + 500_000
"""Beyond it, in any model of English."""
MEMORY = 2_000_000
"""Kilobytes; a process with a good model takes some 300,000."""
TOLD = {"words", "model_not_loaded", "worker_died", "transcription_failed"}
AT_ONCE = 4


def damage(path: Path, number: int) -> str:
    """Change a file in one way that the number decides; says in which."""
    chance = random.Random(number)
    size = path.stat().st_size
    with path.open("r+b") as file:

        def write(where: int, data: bytes) -> None:
            file.seek(where)
            file.write(data)

        def flip(where: int) -> None:
            file.seek(where)
            (byte,) = file.read(1)
            write(where, bytes([byte ^ 1 << chance.randrange(8)]))

        match number % 8:
            case 0:
                file.truncate(chance.randrange(size))
                return "cut short"
            case 1:
                flip(chance.randrange(SHAPE, SHAPE + 44))
                return "a bit of the shape"
            case 2:
                claim = chance.choice((-1, 0, 2**31 - 1, 1 << 20, 1 << 28))
                write(SHAPE + 4 * chance.randrange(11), struct.pack("<i", claim))
                return "a claim in the shape"
            case 3:
                flip(chance.randrange(TOKENS, TENSORS))
                return "a bit of the tokens"
            case 4:
                write(chance.randrange(TOKENS, TENSORS), struct.pack("<i", 2**31 - 1))
                return "a claim in the tokens"
            case 5:
                for _ in range(64):
                    flip(chance.randrange(TENSORS, size))
                return "bits of the weights"
            case 6:
                where = chance.randrange(TENSORS, size - 2_000_000)
                write(where, b"\xff" * 2_000_000)
                return "weights that are no numbers"
            case _:
                where = chance.randrange(TENSORS, size - 1_000_000)
                write(where, chance.randbytes(1_000_000))
                return "weights and names overwritten"


async def outcome(path: Path, pcm: bytes) -> str:
    """What comes of a recording when that is the model."""
    model = WhisperModel(path, SystemClock(), ready_timeout=60, stall_timeout=60)
    try:
        await model.transcribe(pcm)
    except InferenceError as error:
        return error.code
    finally:
        await model.close()
    return "words"


def suffer(models_dir: Path, tmp_path: Path, numbers: range) -> Counter[tuple[str, str]]:
    """What came of each kind of damage; in the end a good model still listens."""
    good = models_dir / "whisper-tiny.en.bin"
    recording = spoken("short-answer").tobytes()
    came: Counter[tuple[str, str]] = Counter()

    async def damaged(slot: int) -> None:
        path = tmp_path / f"damaged-{slot}.bin"
        for number in numbers[slot::AT_ONCE]:
            await asyncio.to_thread(shutil.copyfile, good, path)
            kind = damage(path, number)
            result = await outcome(path, recording)
            assert result in TOLD, (kind, result)
            came[kind, result] += 1

    async def scenario() -> None:
        await asyncio.gather(*(damaged(slot) for slot in range(AT_ONCE)))
        model = WhisperModel(good, SystemClock())
        try:
            speech = await model.transcribe(recording)
            assert wer(words_of()["short-answer"], speech.text) < 0.2
        finally:
            await model.close()

    asyncio.run(scenario())
    assert came.total() == len(numbers)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MEMORY
    return came


def test_damaged_models_never_end_the_server(models_dir: Path, tmp_path: Path) -> None:
    """Forty of them: each is refused or at least survived, in bounded memory and time."""
    came = suffer(models_dir, tmp_path, range(40))
    assert came["cut short", "model_not_loaded"] == 5
    assert came["a claim in the shape", "model_not_loaded"] == 5


@pytest.mark.chaos
@pytest.mark.time_limit(1_800)
def test_two_hundred_damaged_models_never_end_the_server(models_dir: Path, tmp_path: Path) -> None:
    """The same, five times as many, in other places."""
    began = time.monotonic()
    came = suffer(models_dir, tmp_path, range(1_000, 1_200))
    print(f"{time.monotonic() - began:.0f} s")
    for (kind, result), count in sorted(came.items()):
        print(f"{count:4} {kind}: {result}")
