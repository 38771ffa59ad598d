"""The microphone: 16 kHz mono PCM16 in blocks of 40 ms, with the moment before the key."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from prepcli.errors import MicrophoneUnavailable
from prepserver.wire.protocol import SAMPLE_RATE

__all__ = ["BLOCK_SECONDS", "Microphone"]

BLOCK_SECONDS = 0.04

PRE_ROLL = 0.3
"""Seconds heard before the recording began that belong to it: people speak as they press."""

MAX_BLOCKS = 25 * 60
"""Blocks that wait for a slow reader: a minute."""

_Callback = Callable[[Any, int, Any, Any], None]


class _Stream(Protocol):
    samplerate: float

    def start(self) -> None: ...
    def close(self) -> None: ...


class Microphone:
    """The default input device.

    `record()` opens it for one recording. Between `open()` and `close()` it is heard all the
    time, and a recording begins 0.3 s before `record()`; nothing older is kept.
    """

    def __init__(self, sounddevice: ModuleType | None = None) -> None:
        """`sounddevice` stands in for the library of that name."""
        self._library = sounddevice
        self._stream: _Stream | None = None
        self._ring: deque[bytes] = deque(maxlen=round(PRE_ROLL / BLOCK_SECONDS))
        self._blocks: asyncio.Queue[bytes | None] | None = None
        self._resampler: Any = None

    @contextlib.asynccontextmanager
    async def record(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Blocks of PCM16 little-endian, 16 kHz, mono, until left or the device goes away.

        Raises MicrophoneUnavailable.
        """
        if self._blocks is not None:
            raise RuntimeError("the microphone records already")
        opened_here = self._stream is None
        if opened_here:
            self.open()
        blocks: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_BLOCKS)
        for block in self._ring:
            blocks.put_nowait(block)
        self._ring.clear()
        self._blocks = blocks
        try:
            yield _until_none(blocks)
        finally:
            self._blocks = None
            if opened_here:
                self.close()

    def open(self) -> None:
        """Start to listen. Raises MicrophoneUnavailable."""
        if self._stream is not None:
            return
        library = self._library or _sounddevice()
        loop = asyncio.get_running_loop()

        def heard(data: Any, frames: int, time: Any, status: Any) -> None:
            # On PortAudio's thread: copy, hand over, return.
            block = bytes(data)
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._heard, block)

        def ended() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ended)

        self._stream = self._opened(library, heard, ended)

    def close(self) -> None:
        """Stop listening."""
        stream, self._stream = self._stream, None
        self._resampler = None
        self._ring.clear()
        if stream is not None:
            stream.close()

    def _opened(self, library: ModuleType, heard: _Callback, ended: Callable[[], None]) -> _Stream:
        try:
            try:
                return _start(library, SAMPLE_RATE, heard, ended)
            except library.PortAudioError:
                # Some devices know no rate but their own.
                rate = int(library.query_devices(kind="input")["default_samplerate"])
                if rate == SAMPLE_RATE:
                    raise
                import soxr  # compiled, and seldom needed

                self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="int16")
                return _start(library, rate, heard, ended)
        except (library.PortAudioError, ValueError, OSError) as error:
            raise MicrophoneUnavailable(
                f"No microphone can be used ({_reason(error)}). Connect one and allow prep to "
                "use it, or type your answer."
            ) from None

    def _heard(self, block: bytes) -> None:
        if self._resampler is not None:
            samples = np.frombuffer(block, np.int16)
            block = self._resampler.resample_chunk(samples).astype("<i2").tobytes()
        if self._blocks is None:
            self._ring.append(block)
        elif block:
            # A reader a minute behind loses sound rather than making memory grow.
            with contextlib.suppress(asyncio.QueueFull):
                self._blocks.put_nowait(block)

    def _ended(self) -> None:
        """The stream has stopped by itself, or because it was closed."""
        if self._blocks is not None:
            if self._blocks.full():
                self._blocks.get_nowait()
            self._blocks.put_nowait(None)


def _start(library: ModuleType, rate: int, heard: _Callback, ended: Callable[[], None]) -> _Stream:
    stream: _Stream = library.RawInputStream(
        samplerate=rate,
        blocksize=int(rate * BLOCK_SECONDS),
        channels=1,
        dtype="int16",
        callback=heard,
        finished_callback=ended,
    )
    try:
        stream.start()
    except BaseException:
        stream.close()
        raise
    return stream


async def _until_none(blocks: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    while (block := await blocks.get()) is not None:
        yield block


def _sounddevice() -> ModuleType:
    try:
        import sounddevice  # loads PortAudio, which need not be there
    except (ImportError, OSError):
        raise MicrophoneUnavailable(
            "The microphone needs PortAudio, which is not installed. Install it, on Debian and "
            "its kin by: sudo apt-get install libportaudio2 — or type your answer."
        ) from None
    library: ModuleType = sounddevice
    return library


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
