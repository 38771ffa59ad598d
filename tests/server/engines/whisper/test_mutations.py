"""Damaged model files, which lead to a typed error or a transcript and never stop the server."""

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
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.whisper.sounds import read_recording, reference_transcripts
from tests.support.wer import wer

pytestmark = pytest.mark.models

HYPERPARAMETERS = 4
"""Offset in bytes of the hyperparameters, which follow the magic number."""
TOKENS = HYPERPARAMETERS + 4 * len(Hyperparameters.__struct_fields__) + 8 + 4 * 80 * 201
"""Offset in bytes of the tokens, which follow the mel filters."""
TENSORS = TOKENS + 500_000
"""Offset in bytes that lies within the tensors of every English model."""
MAX_MEMORY = 2_000_000
"""Maximum memory of an engine process, in kilobytes. An undamaged model needs about 300,000."""
OUTCOMES = {
    "words",
    ErrorCode.MODEL_NOT_LOADED,
    ErrorCode.WORKER_DIED,
    ErrorCode.TRANSCRIPTION_FAILED,
}
CONCURRENCY = 4


def damage(path: Path, number: int) -> str:
    """Damage a file in a way that `number` determines, and return the kind of damage."""
    rng = random.Random(number)
    size = path.stat().st_size
    with path.open("r+b") as file:

        def write(offset: int, data: bytes) -> None:
            file.seek(offset)
            file.write(data)

        def flip_bit(offset: int) -> None:
            file.seek(offset)
            (byte,) = file.read(1)
            write(offset, bytes([byte ^ 1 << rng.randrange(8)]))

        match number % 8:
            case 0:
                file.truncate(rng.randrange(size))
                return "truncated"
            case 1:
                flip_bit(rng.randrange(HYPERPARAMETERS, HYPERPARAMETERS + 44))
                return "one bit of the hyperparameters"
            case 2:
                value = rng.choice((-1, 0, 2**31 - 1, 1 << 20, 1 << 28))
                write(HYPERPARAMETERS + 4 * rng.randrange(11), struct.pack("<i", value))
                return "a wrong hyperparameter"
            case 3:
                flip_bit(rng.randrange(TOKENS, TENSORS))
                return "one bit of the tokens"
            case 4:
                write(rng.randrange(TOKENS, TENSORS), struct.pack("<i", 2**31 - 1))
                return "a wrong length in the tokens"
            case 5:
                for _ in range(64):
                    flip_bit(rng.randrange(TENSORS, size))
                return "bits of the tensors"
            case 6:
                offset = rng.randrange(TENSORS, size - 2_000_000)
                write(offset, b"\xff" * 2_000_000)
                return "tensors that are not numbers"
            case _:
                offset = rng.randrange(TENSORS, size - 1_000_000)
                write(offset, rng.randbytes(1_000_000))
                return "overwritten tensors and names"


async def transcribe_with(path: Path, pcm: bytes) -> str:
    """Transcribe `pcm` with a model file and return the outcome: `words` or an error code."""
    model = WhisperModel(path, SystemClock(), ready_timeout=60, stall_timeout=60)
    try:
        await model.transcribe(pcm)
    except InferenceError as error:
        return error.code
    finally:
        await model.close()
    return "words"


def count_outcomes(models_dir: Path, tmp_path: Path, numbers: range) -> Counter[tuple[str, str]]:
    """Return how often each kind of damage led to each outcome, and check that the engines stay
    below `MAX_MEMORY` and that an undamaged model still works."""
    undamaged = models_dir / "whisper-tiny.en.bin"
    recording = read_recording("short-answer").tobytes()
    outcomes: Counter[tuple[str, str]] = Counter()

    async def try_damaged(slot: int) -> None:
        path = tmp_path / f"damaged-{slot}.bin"
        for number in numbers[slot::CONCURRENCY]:
            await asyncio.to_thread(shutil.copyfile, undamaged, path)
            kind = damage(path, number)
            outcome = await transcribe_with(path, recording)
            assert outcome in OUTCOMES, (kind, outcome)
            outcomes[kind, outcome] += 1

    async def scenario() -> None:
        await asyncio.gather(*(try_damaged(slot) for slot in range(CONCURRENCY)))
        model = WhisperModel(undamaged, SystemClock())
        try:
            result = await model.transcribe(recording)
            assert wer(reference_transcripts()["short-answer"], result.text) < 0.2
        finally:
            await model.close()

    asyncio.run(scenario())
    assert outcomes.total() == len(numbers)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < MAX_MEMORY
    return outcomes


def test_damaged_models_never_stop_the_server(models_dir: Path, tmp_path: Path) -> None:
    """Each of 24 damaged model files leads to a typed error or a transcript, and no engine uses
    more than 2 GB of memory."""
    outcomes = count_outcomes(models_dir, tmp_path, range(24))
    assert outcomes["truncated", ErrorCode.MODEL_NOT_LOADED] == 3
    assert outcomes["a wrong hyperparameter", ErrorCode.MODEL_NOT_LOADED] == 3


@pytest.mark.chaos
@pytest.mark.time_limit(1_800)
def test_two_hundred_damaged_models_never_stop_the_server(models_dir: Path, tmp_path: Path) -> None:
    """Each of two hundred differently damaged model files leads to a typed error or a transcript,
    and no engine uses more than 2 GB of memory."""
    began = time.monotonic()
    outcomes = count_outcomes(models_dir, tmp_path, range(1_000, 1_200))
    print(f"{time.monotonic() - began:.0f} s")
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"{count:4} {kind}: {outcome}")
