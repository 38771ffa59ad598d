"""Microphone input: 16 kHz mono PCM16 in blocks of 40 ms, with a pre-roll."""

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
"""Length of a block in seconds."""

PRE_ROLL = 0.3
"""Seconds of earlier audio that a recording includes, because people begin to speak as they press
the key."""

MAX_BLOCKS = 25 * 60
"""Maximum number of blocks queued for a slow reader: one minute of audio."""

_AudioCallback = Callable[[Any, int, Any, Any], None]


class _InputStream(Protocol):
    """The part of `sounddevice.RawInputStream` that `Microphone` uses."""

    samplerate: float

    def start(self) -> None: ...
    def close(self) -> None: ...


class Microphone:
    """The default input device.

    `record()` opens the device for one recording. Between `open()` and `close()` the device stays
    open, and a recording begins about 0.3 s before the call to `record()`; older audio is
    discarded.
    """

    def __init__(self, sounddevice: ModuleType | None = None) -> None:
        """`sounddevice` replaces the library of that name in tests."""
        self._library = sounddevice
        self._stream: _InputStream | None = None
        self._pre_roll: deque[bytes] = deque(maxlen=round(PRE_ROLL / BLOCK_SECONDS))
        self._blocks: asyncio.Queue[bytes | None] | None = None
        """Blocks of the current recording, ended by None. The queue itself is None between
        recordings."""
        self._resampler: Any = None

    @contextlib.asynccontextmanager
    async def record(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Start a recording and yield an iterator over its blocks: PCM16 little-endian, 16 kHz,
        mono.

        The iterator ends when the device disappears. Raises MicrophoneUnavailable if the device
        cannot be opened.
        """
        if self._blocks is not None:
            raise RuntimeError("the microphone is already recording")
        opened_here = self._stream is None
        if opened_here:
            self.open()
        blocks: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_BLOCKS)
        for block in self._pre_roll:
            blocks.put_nowait(block)
        self._pre_roll.clear()
        self._blocks = blocks
        try:
            yield _iterate(blocks)
        finally:
            self._blocks = None
            if opened_here:
                self.close()

    def open(self) -> None:
        """Open the device and keep the pre-roll up to date. Raises MicrophoneUnavailable if the
        device cannot be opened."""
        if self._stream is not None:
            return
        library = self._library or _import_sounddevice()
        loop = asyncio.get_running_loop()

        def on_audio(data: Any, frames: int, time: Any, status: Any) -> None:
            # PortAudio calls this in its own thread, which must not be held up.
            block = bytes(data)
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(self._add_block, block)

        def on_finished() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end_recording)

        self._stream = self._open_stream(library, on_audio, on_finished)

    def close(self) -> None:
        """Close the device."""
        stream, self._stream = self._stream, None
        self._resampler = None
        self._pre_roll.clear()
        if stream is not None:
            stream.close()

    def _open_stream(
        self, library: ModuleType, on_audio: _AudioCallback, on_finished: Callable[[], None]
    ) -> _InputStream:
        try:
            try:
                return _start_stream(library, SAMPLE_RATE, on_audio, on_finished)
            except library.PortAudioError:
                # Some devices support only their native sample rate.
                rate = int(library.query_devices(kind="input")["default_samplerate"])
                if rate == SAMPLE_RATE:
                    raise
                import soxr  # a native library that most devices do not need

                self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="int16")
                return _start_stream(library, rate, on_audio, on_finished)
        except (library.PortAudioError, ValueError, OSError) as error:
            raise MicrophoneUnavailable(
                f"No microphone is available ({_first_line(error)}). Connect one and allow prep to "
                "use it, or type your answer."
            ) from None

    def _add_block(self, block: bytes) -> None:
        if self._resampler is not None:
            samples = np.frombuffer(block, np.int16)
            block = self._resampler.resample_chunk(samples).astype("<i2").tobytes()
        if self._blocks is None:
            self._pre_roll.append(block)
        elif block:
            # Bounded memory: a reader that is a minute behind loses audio.
            with contextlib.suppress(asyncio.QueueFull):
                self._blocks.put_nowait(block)

    def _end_recording(self) -> None:
        """End the current recording, because the stream was closed or the device has
        disappeared."""
        if self._blocks is not None:
            if self._blocks.full():
                self._blocks.get_nowait()
            self._blocks.put_nowait(None)


def _start_stream(
    library: ModuleType, rate: int, on_audio: _AudioCallback, on_finished: Callable[[], None]
) -> _InputStream:
    stream: _InputStream = library.RawInputStream(
        samplerate=rate,
        blocksize=int(rate * BLOCK_SECONDS),
        channels=1,
        dtype="int16",
        callback=on_audio,
        finished_callback=on_finished,
    )
    try:
        stream.start()
    except BaseException:
        stream.close()
        raise
    return stream


async def _iterate(blocks: "asyncio.Queue[bytes | None]") -> AsyncIterator[bytes]:
    while (block := await blocks.get()) is not None:
        yield block


def _import_sounddevice() -> ModuleType:
    try:
        import sounddevice  # loads PortAudio, which may be missing
    except (ImportError, OSError):
        raise MicrophoneUnavailable(
            "The microphone needs PortAudio, which is not installed. Install it (on Debian or "
            "Ubuntu: sudo apt-get install libportaudio2) or type your answer."
        ) from None
    library: ModuleType = sounddevice
    return library


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
