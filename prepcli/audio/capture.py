"""Microphone input: 16 kHz mono PCM16 in blocks of 40 ms, from a process of its own."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator

from prepcli.errors import MicrophoneUnavailable
from prepserver.wire.protocol import BYTES_PER_SECOND, SAMPLE_RATE

__all__ = ["OPEN_SECONDS", "record_microphone"]

OPEN_SECONDS = 10.0
"""Seconds that opening the device may take: Bluetooth headsets and sound servers are slow."""

END_SECONDS = 2.0
"""Seconds to wait for the end of a killed process, which a driver may hold up."""

BLOCK_BYTES = BYTES_PER_SECOND * 40 // 1000


@contextlib.asynccontextmanager
async def record_microphone(
    open_seconds: float = OPEN_SECONDS,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open the default input device and yield an iterator over its audio: PCM16 little-endian,
    16 kHz, mono.

    The iterator ends when the device disappears. Raises MicrophoneUnavailable if the device cannot
    be opened or is not open after `open_seconds` seconds. Each call finds the devices that are
    connected at that time.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "prepcli.audio.device", str(SAMPLE_RATE)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
        )
    except OSError as error:
        raise MicrophoneUnavailable(
            f"The microphone cannot be opened: {error.strerror}. Try again, or type your answer."
        ) from None
    assert process.stdout is not None
    try:
        await _wait_until_open(process.stdout, open_seconds)
        yield _read_blocks(process.stdout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await process.wait()


async def _wait_until_open(output: asyncio.StreamReader, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            line = await output.readline()
    except TimeoutError:
        raise MicrophoneUnavailable(
            f"The microphone did not open within {seconds:g} seconds. Reconnect it, close other "
            "programs that use it, or type your answer."
        ) from None
    if not line.endswith(b"\n"):
        raise MicrophoneUnavailable(
            "The microphone cannot be opened: its driver has failed. Reconnect it, or type your "
            "answer."
        )
    if problem := line.decode().strip():
        raise MicrophoneUnavailable(problem)


async def _read_blocks(output: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            yield await output.readexactly(BLOCK_BYTES)
        except asyncio.IncompleteReadError as end:
            if end.partial:
                yield end.partial
            return
