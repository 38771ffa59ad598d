"""Bundled recordings, played at speaking pace."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import cycle

from prepserver.wire.protocol import BYTES_PER_SECOND, SAMPLE_RATE
from tests.server.engines.whisper.sounds import SPEECH, read_recording

__all__ = ["ANSWER_CLIPS", "PacedPlayer", "clip_paths", "clip_pcm", "long_recording"]

ANSWER_CLIPS = ("payments-migration", "short-answer")
"""Names of two recordings that together make an answer of 21 s."""
FRAME_BYTES = BYTES_PER_SECOND // 25
"""Size in bytes of one 40 ms audio frame from a client."""
PAUSES = (0.5, 2.0)
"""Minimum and maximum pause after each recording in a long answer, in seconds."""


def clip_paths(names: Sequence[str]) -> list[str]:
    """Return the paths of the named recordings."""
    return [str(SPEECH / f"{name}.wav") for name in names]


def clip_pcm(names: Sequence[str]) -> bytes:
    """Return the audio of the named recordings, joined in order, as PCM16."""
    return b"".join(read_recording(name).tobytes() for name in names)


def long_recording(names: Sequence[str], seconds: float) -> bytes:
    """Return the recordings, repeated with random pauses until `seconds` are filled.

    The pauses are the same in every run.
    """
    rng = random.Random(0)

    def clips() -> Iterator[bytes]:
        length = 0
        for name in cycle(names):
            pause = 2 * round(rng.uniform(*PAUSES) * SAMPLE_RATE)
            yield (clip := clip_pcm([name]) + bytes(pause))
            length += len(clip)
            if length >= seconds * BYTES_PER_SECOND:
                return

    return b"".join(clips())[: round(seconds * SAMPLE_RATE) * 2]


class PacedPlayer:
    """Player that yields each frame of a recording when the frame's last sample has been spoken."""

    def __init__(self, recording: bytes) -> None:
        self.began = 0.0
        """Time in seconds, on the event loop's clock, at which playing began."""
        self.ended = 0.0
        """Time in seconds, on the event loop's clock, at which the last frame was consumed."""
        self._recording = recording

    async def play(self) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        for begin in range(0, len(self._recording), FRAME_BYTES):
            frame = self._recording[begin : begin + FRAME_BYTES]
            spoken = self.began + (begin + len(frame)) / BYTES_PER_SECOND
            await asyncio.sleep(spoken - loop.time())
            yield frame
        self.ended = loop.time()
