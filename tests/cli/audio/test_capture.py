"""Recording from the microphone through a process that loads a stand-in for sounddevice."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from prepcli.audio.capture import record_microphone
from prepcli.audio.level import rms
from prepcli.errors import MicrophoneUnavailable
from tests.cli.audio.recordings import TONE, pitch
from tests.cli.audio.stand_in import install

BLOCK = 1280
"""Size in bytes of a 40 ms block."""

FOREVER = "threading.Event().wait()"

SPEAKING = f"""
    import math
    def started(stream):
        for number in range(25):
            samples = bytearray()
            for n in range(number * stream.blocksize, (number + 1) * stream.blocksize):
                value = round(8192 * math.sin(2 * math.pi * {TONE} * n / stream.samplerate))
                for channel in range(stream.channels):
                    samples += int(value * GAINS[channel]).to_bytes(2, "little", signed=True)
            stream.speak(bytes(samples))
        stream.finish()
"""
"""Behaviour of a device that delivers one second of a tone and disappears. `GAINS` are the factors
of its channels."""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that installs a stand-in with the given behaviour."""
    path = os.pathsep.join(part for part in (str(tmp_path), os.environ.get("PYTHONPATH")) if part)
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda behaviour: install(tmp_path, behaviour)


def record(
    use: Callable[[AsyncIterator[bytes]], Awaitable[None]], open_seconds: float = 100.0
) -> None:
    async def run() -> None:
        async with record_microphone(open_seconds) as blocks:
            await use(blocks)

    asyncio.run(run())


def record_all() -> bytes:
    """Return the audio from the start of a recording until the device disappears."""
    pcm = bytearray()

    async def use(blocks: AsyncIterator[bytes]) -> None:
        async for block in blocks:
            pcm.extend(block)

    record(use)
    return bytes(pcm)


async def nothing(_: AsyncIterator[bytes]) -> None:
    """Record nothing."""


def test_recording_yields_blocks_in_order(device: Callable[[str], None]) -> None:
    """A recording yields the blocks of the device in order, and nothing that libraries print."""
    device(f"""
        def started(stream):
            stream.speak(b"a" * {BLOCK})
            stream.speak(b"b" * {BLOCK})
            {FOREVER}
    """)

    async def use(blocks: AsyncIterator[bytes]) -> None:
        assert await anext(blocks) == b"a" * BLOCK
        assert await anext(blocks) == b"b" * BLOCK

    record(use)


def test_libraries_print_nothing(
    device: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Libraries that write to the descriptors of standard output and standard error show
    nothing."""
    device("def started(stream): stream.finish()")
    assert record_all() == b""
    assert capfd.readouterr() == ("", "")


def test_disconnected_device_ends_the_recording(device: Callable[[str], None]) -> None:
    """When the device disappears, the recording ends after the last audio, whatever its length."""
    device(f"""
        def started(stream):
            stream.speak(b"a" * {BLOCK})
            stream.speak(b"b" * 10)
            stream.finish()
    """)
    assert record_all() == b"a" * BLOCK + b"b" * 10


def test_crash_ends_the_recording(device: Callable[[str], None], tmp_path: Path) -> None:
    """When the driver crashes, the recording ends after the audio that prep has received."""
    crash = tmp_path / "crash"
    os.mkfifo(crash)
    device(f"""
        def started(stream):
            stream.speak(b"a" * {BLOCK})
            os.open({str(crash)!r}, os.O_RDONLY)
            os.abort()
    """)

    async def use(blocks: AsyncIterator[bytes]) -> None:
        assert await anext(blocks) == b"a" * BLOCK
        os.close(await asyncio.to_thread(os.open, crash, os.O_WRONLY))
        assert [block async for block in blocks] == []

    record(use)


@pytest.mark.parametrize(
    ("rates", "channels", "gains"),
    [
        ((48_000,), 1, [1]),
        ((44_100,), 1, [1]),
        ((8_000,), 1, [1]),
        ((44_100,), 2, [1, 1]),
        ((48_000,), 2, [1, -1]),
        ((48_000,), 2, [0, 1]),
        ((16_000,), 2, [0.01, 1]),
        ((96_000,), 4, [0, 0, 1, -1]),
    ],
)
def test_own_rate_and_channels_of_the_device(
    device: Callable[[str], None], rates: tuple[int, ...], channels: int, gains: list[float]
) -> None:
    """A device that offers neither 16 kHz nor one channel is recorded from at its own rate. The
    loudest channel is used."""
    device(f"""
    RATES, CHANNELS = {rates}, ({channels},)
    DEFAULT = {{"default_samplerate": {rates[0]}.0, "max_input_channels": {channels}}}
    GAINS = {gains}
    {SPEAKING}""")
    pcm = record_all()
    assert len(pcm) / 32_000 == pytest.approx(1.0, abs=0.05)
    assert pitch(pcm) == pytest.approx(TONE, abs=3.0)
    assert rms(pcm) == pytest.approx(-15.05, abs=0.3)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("RATES = ()", r"Invalid sample rate \[PaErrorCode -9997\]\)"),
        ("CHANNELS = ()", "Invalid number of channels"),
        (
            """
            RATES = ()
            def query_devices(device=None, kind=None):
                raise PortAudioError("Error querying device -1")
            """,
            "Error querying device -1",
        ),
        ("def opened(stream): raise PortAudioError('Device unavailable')", "Device unavailable"),
        ("def opened(stream): raise OSError(16, 'Device or resource busy')", "resource busy"),
        ("def opened(stream): raise PortAudioError('\\udce9\\x1b[2J')", "No microphone"),
        ("raise PortAudioError('Error initializing PortAudio')", "Error initializing PortAudio"),
    ],
)
def test_missing_device_is_reported(
    device: Callable[[str], None], behaviour: str, reason: str
) -> None:
    """If no device can be opened, an error gives the reason and suggests typing the answer."""
    device(behaviour)
    with pytest.raises(MicrophoneUnavailable, match=rf"{reason}.*type your answer"):
        record(nothing)


@pytest.mark.parametrize(
    "failure", ["OSError('PortAudio library not found')", "ImportError('no module')"]
)
def test_missing_portaudio_names_the_package(device: Callable[[str], None], failure: str) -> None:
    """Recording without PortAudio raises an error with the command that installs PortAudio."""
    device(f"raise {failure}")
    with pytest.raises(MicrophoneUnavailable, match="apt-get install libportaudio2"):
        record(nothing)


def test_device_that_never_opens(device: Callable[[str], None]) -> None:
    """A device that does not open in time is given up, and its process is ended."""
    device(f"def opened(stream): {FOREVER}")
    with pytest.raises(MicrophoneUnavailable, match=r"did not open within 0\.2 seconds"):
        record(nothing, open_seconds=0.2)


def test_crash_while_opening(device: Callable[[str], None]) -> None:
    """A driver that crashes while it opens the device does not take prep with it."""
    device("def opened(stream): os.abort()")
    with pytest.raises(MicrophoneUnavailable, match="driver has failed"):
        record(nothing)


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system starts no more processes, the error says so."""
    monkeypatch.setattr(sys, "executable", "/missing/python")
    with pytest.raises(MicrophoneUnavailable, match="No such file"):
        record(nothing)


def test_opening_can_be_cancelled(device: Callable[[str], None], tmp_path: Path) -> None:
    """A device that is being opened can be given up at any time, and the event loop runs
    meanwhile."""
    fifo = tmp_path / "opening"
    os.mkfifo(fifo)
    device(f"""
        def opened(stream):
            os.open({str(fifo)!r}, os.O_WRONLY)
            {FOREVER}
    """)

    async def run() -> None:
        task = asyncio.create_task(_enter())
        # A FIFO opens when the process is about to open the device.
        os.close(await asyncio.to_thread(os.open, fifo, os.O_RDONLY))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def _enter() -> None:
        async with record_microphone(100.0):
            raise AssertionError("the device has been opened")

    asyncio.run(run())


def test_device_plugged_in_later_is_found(device: Callable[[str], None], tmp_path: Path) -> None:
    """A device that is connected after a failed recording is found by the next one, although
    PortAudio lists devices only once."""
    plugged = tmp_path / "plugged"
    device(f"""
        DEVICES = [1] if os.path.exists({str(plugged)!r}) else []
        def opened(stream):
            if not DEVICES:
                raise PortAudioError("Error querying device -1")
        def started(stream):
            stream.speak(b"a" * {BLOCK})
            stream.finish()
    """)
    with pytest.raises(MicrophoneUnavailable):
        record(nothing)
    plugged.touch()
    assert record_all() == b"a" * BLOCK


def test_process_ends_with_its_parent(device: Callable[[str], None]) -> None:
    """The recording process exits when its standard input ends, even if the device delivers
    nothing."""
    device(f"def opened(stream): {FOREVER}")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "prepcli.audio.device", "16000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    output, _ = process.communicate()
    assert (output, process.returncode) == (b"", 0)
