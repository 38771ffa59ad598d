from pathlib import Path

import numpy as np
import pytest

from prepcli.audio.files import read_audio
from tests.cli.audio.recordings import Samples


@pytest.fixture
def speech(speech_dir: Path) -> Samples:
    """Samples of a spoken answer at 16 kHz, of shape (n, 1)."""
    pcm = read_audio(speech_dir / "short-answer.wav")
    return np.frombuffer(pcm, "<i2").astype(float)[:, None] / 32768.0
