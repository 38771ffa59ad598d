"""Bundled recordings, played as somebody would speak them."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import cycle

from prepserver.wire.protocol import BYTES_PER_SECOND, SAMPLE_RATE
from tests.server.engines.whisper.sounds import SPEECH, read_recording

__all__ = ["CLIP", "Player", "files", "long_answer", "pcm"]

CLIP = ("payments-migration", "short-answer")
"""Two recordings, one behind the other: an answer of 21 s."""
FRAME = BYTES_PER_SECOND // 25
"""Bytes that a client sends at once: 40 ms."""
PAUSES = (0.5, 2.0)
"""Seconds between two recordings of a long answer."""


def files(names: Sequence[str]) -> list[str]:
    """The recordings, as a program in another process finds them."""
    return [str(SPEECH / f"{name}.wav") for name in names]


def pcm(names: Sequence[str]) -> bytes:
    """Their sound, one behind the other."""
    return b"".join(read_recording(name).tobytes() for name in names)


def long_answer(names: Sequence[str], seconds: float) -> bytes:
    """The recordings again and again, with pauses; the same every time."""
    chance = random.Random(0)

    def pieces() -> Iterator[bytes]:
        length = 0
        for name in cycle(names):
            pause = 2 * round(chance.uniform(*PAUSES) * SAMPLE_RATE)
            yield (piece := pcm([name]) + bytes(pause))
            length += len(piece)
            if length >= seconds * BYTES_PER_SECOND:
                return

    return b"".join(pieces())[: round(seconds * SAMPLE_RATE) * 2]


class Player:
    """Plays a recording at the pace of speech, each frame when its last sample was spoken."""

    def __init__(self, recording: bytes) -> None:
        self.began = 0.0
        """On the clock of the loop: when it began to play."""
        self.ended = 0.0
        """And when its last frame had been taken."""
        self._recording = recording

    async def play(self) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        for begin in range(0, len(self._recording), FRAME):
            frame = self._recording[begin : begin + FRAME]
            spoken = self.began + (begin + len(frame)) / BYTES_PER_SECOND
            await asyncio.sleep(spoken - loop.time())
            yield frame
        self.ended = loop.time()
