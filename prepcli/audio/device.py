"""The process that records from the default input device: `python -m prepcli.audio.device RATE`.

PortAudio may block for seconds or for ever, prints on standard error, lists the devices only once
in a process, and may crash. In a process of its own, none of this reaches the screen.

The process writes a line that is empty once the device is open, or says why it cannot be opened.
Then it writes PCM16 little-endian, mono, at RATE Hz until the device disappears. It exits when its
standard input ends, and so does not outlive prep.
"""

import contextlib
import os
import queue
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from prepcli.child_process import exit_with_parent, separate_output

__all__: list[str] = []

BLOCK_SECONDS = 0.04
"""Seconds of audio between two calls from PortAudio."""

MAX_BLOCKS = 25 * 60
"""Maximum number of blocks queued for a slow reader: one minute of audio."""


class _Input(NamedTuple):
    stream: Any
    """Stream of the library, which is recorded from as long as it is referenced."""
    rate: int
    """Sample rate in Hz."""
    channels: int


def main() -> None:
    output = os.fdopen(separate_output(), "wb", buffering=0)
    exit_with_parent()
    with contextlib.suppress(BrokenPipeError):
        _record(output, int(sys.argv[1]))
    os._exit(0)  # PortAudio may block while it is closed


def _record(output: BinaryIO, rate: int) -> None:
    blocks: queue.Queue[bytes | None] = queue.Queue(MAX_BLOCKS)
    try:
        device = _open(_import_sounddevice(), blocks, rate)
    except ImportError:
        output.write(
            b"The microphone needs PortAudio, which is not installed. Install it (on Debian or "
            b"Ubuntu: sudo apt-get install libportaudio2) or type your answer.\n"
        )
        return
    except Exception as error:
        output.write(_describe(error))
        return
    output.write(b"\n")
    audio: Iterable[bytes] = iter(blocks.get, None)
    if (device.rate, device.channels) != (rate, 1):
        audio = _convert(audio, device, rate)
    for block in audio:
        output.write(block)


def _import_sounddevice() -> ModuleType:
    """Raises ImportError if the package or PortAudio is missing, and an exception of the library if
    PortAudio does not start."""
    try:
        import sounddevice
    except OSError as error:
        raise ImportError from error
    library: ModuleType = sounddevice
    return library


def _open(library: ModuleType, blocks: "queue.Queue[bytes | None]", rate: int) -> _Input:
    """Record from the default input device. Blocks of PCM16 are added to the queue, and None when
    the device disappears. Raises an exception of the library if the device cannot be opened."""
    try:
        return _start(library, blocks, rate, 1)
    except library.PortAudioError:
        # Some devices support only their own sample rate, and some no less than two channels.
        device = library.query_devices(kind="input")
        rate = int(device["default_samplerate"])
        try:
            return _start(library, blocks, rate, 1)
        except library.PortAudioError:
            return _start(library, blocks, rate, device.get("max_input_channels", 1))


def _start(
    library: ModuleType, blocks: "queue.Queue[bytes | None]", rate: int, channels: int
) -> _Input:
    def add(data: Any, frames: int, time: Any, status: Any) -> None:
        # PortAudio calls this in its own thread, which must not be held up: a reader that is a
        # minute behind loses audio.
        with contextlib.suppress(queue.Full):
            blocks.put_nowait(bytes(data))

    stream = library.RawInputStream(
        samplerate=rate,
        blocksize=int(rate * BLOCK_SECONDS),
        channels=channels,
        dtype="int16",
        callback=add,
        finished_callback=lambda: blocks.put(None),
    )
    try:
        stream.start()
    except BaseException:
        stream.close()
        raise
    return _Input(stream, rate, channels)


def _convert(blocks: Iterable[bytes], device: _Input, rate: int) -> Iterator[bytes]:
    """Resample the channel that has been the loudest so far: an interface with several inputs may
    have a microphone at one of them, and channels of opposite sign would cancel each other."""
    import av  # a native library that most devices do not need
    import numpy as np

    resampler = av.AudioResampler("s16", "mono", rate)
    power = np.zeros(device.channels)
    for block in blocks:
        samples = np.frombuffer(block, np.int16).reshape(-1, device.channels)
        power += samples.var(axis=0)
        loudest = np.ascontiguousarray(samples[:, power.argmax()][np.newaxis])
        frame = av.AudioFrame.from_ndarray(loudest, layout="mono")
        frame.sample_rate = device.rate
        for resampled in resampler.resample(frame):
            yield resampled.to_ndarray().tobytes()


def _describe(error: Exception) -> bytes:
    lines = str(error).strip().splitlines()
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    return (
        f"No microphone is available ({reason}). Connect one, close other programs that use it and "
        "allow prep to use it, or type your answer.\n"
    ).encode(errors="replace")


if __name__ == "__main__":
    main()
