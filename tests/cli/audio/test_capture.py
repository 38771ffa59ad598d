import asyncio
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from prepcli.audio.capture import Microphone
from prepcli.errors import MicrophoneUnavailable

BLOCK = 1280
"""Size in bytes of a 40 ms block."""


class FakeSounddevice(ModuleType):
    """Fake of the sounddevice library; `speak` delivers audio to the open stream."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *, rates: tuple[int, ...] = (16_000,), default: int = 16_000) -> None:
        super().__init__("sounddevice")
        self.rates = rates
        self.default = default
        self.open = 0
        self.on_audio: Callable[..., None] = lambda *_: None
        self.on_finished: Callable[[], None] = lambda: None
        fake = self

        class RawInputStream:
            def __init__(self, **options: Any) -> None:
                if options["samplerate"] not in fake.rates:
                    raise fake.PortAudioError("Invalid sample rate\nPaErrorCode -9997")
                assert (options["channels"], options["dtype"]) == (1, "int16")
                self.samplerate = options["samplerate"]
                fake.on_audio = options["callback"]
                fake.on_finished = options["finished_callback"]

            def start(self) -> None:
                fake.open += 1

            def close(self) -> None:
                fake.open -= 1

        self.RawInputStream = RawInputStream

    def query_devices(self, kind: str) -> dict[str, Any]:
        if not self.rates:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": float(self.default)}

    def speak(self, *blocks: bytes) -> None:
        for block in blocks:
            self.on_audio(memoryview(block), len(block) // 2, None, None)


def test_recording_yields_blocks_in_order() -> None:
    """A recording yields blocks in order, and its end closes a device that the recording opened."""

    async def run() -> None:
        device = FakeSounddevice()
        async with Microphone(device).record() as blocks:
            assert device.open == 1
            device.speak(b"a" * BLOCK, b"b" * BLOCK)
            assert await anext(blocks) == b"a" * BLOCK
            assert await anext(blocks) == b"b" * BLOCK
        assert device.open == 0

    asyncio.run(run())


def test_open_microphone_has_a_pre_roll() -> None:
    """With an open microphone, a recording includes the eight blocks before its start."""

    async def run() -> None:
        device = FakeSounddevice()
        microphone = Microphone(device)
        microphone.open()
        device.speak(*(bytes([n]) * BLOCK for n in range(100)))
        await asyncio.sleep(0)
        async with microphone.record() as blocks:
            device.speak(b"!" * BLOCK)
            first = [await anext(blocks) for _ in range(9)]
        assert [block[0] for block in first] == [92, 93, 94, 95, 96, 97, 98, 99, ord("!")]
        assert device.open == 1
        microphone.close()
        assert device.open == 0

    asyncio.run(run())


def test_disconnected_device_ends_the_recording() -> None:
    """When the device disappears, the recording ends after the last block from the device."""

    async def run() -> None:
        device = FakeSounddevice()
        async with Microphone(device).record() as blocks:
            device.speak(b"a" * BLOCK)
            device.on_finished()
            assert [block async for block in blocks] == [b"a" * BLOCK]

    asyncio.run(run())


def test_native_sample_rate_is_resampled() -> None:
    """Audio from a device that offers only 48 kHz is resampled to 16 kHz."""

    async def run() -> None:
        device = FakeSounddevice(rates=(48_000,), default=48_000)
        async with Microphone(device).record() as blocks:
            device.speak(*[b"\x00\x10" * 1920] * 25)
            device.on_finished()
            pcm = b"".join([block async for block in blocks])
        assert len(pcm) / 32_000 == pytest.approx(1.0, abs=0.05)

    asyncio.run(run())


def test_missing_device_is_reported() -> None:
    """Recording without a microphone raises an error that suggests typing the answer."""

    async def run() -> None:
        with pytest.raises(MicrophoneUnavailable, match=r"type your answer"):
            async with Microphone(FakeSounddevice(rates=())).record():
                pass

    asyncio.run(run())


def test_missing_portaudio_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording without PortAudio raises an error with the command that installs PortAudio."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    async def run() -> None:
        with pytest.raises(MicrophoneUnavailable, match="apt-get install libportaudio2"):
            async with Microphone().record():
                pass

    asyncio.run(run())


def test_slow_reader_loses_audio() -> None:
    """A slow reader receives at most a minute of audio, then the end of the recording."""

    async def run() -> None:
        device = FakeSounddevice()
        async with Microphone(device).record() as blocks:
            device.speak(*[b"a" * BLOCK] * 5000)
            device.on_finished()
            await asyncio.sleep(0)
            assert len([block async for block in blocks]) == 1499

    asyncio.run(run())
