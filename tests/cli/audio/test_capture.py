import asyncio
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from prepcli.audio.capture import Microphone
from prepcli.errors import MicrophoneUnavailable

BLOCK = 1280
"""Bytes of 40 ms."""


class FakeSounddevice(ModuleType):
    """Stands in for the library: a test speaks into it."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *, rates: tuple[int, ...] = (16_000,), default: int = 16_000) -> None:
        super().__init__("sounddevice")
        self.rates = rates
        self.default = default
        self.open = 0
        self.heard: Callable[..., None] = lambda *_: None
        self.ended: Callable[[], None] = lambda: None
        fake = self

        class RawInputStream:
            def __init__(self, **options: Any) -> None:
                if options["samplerate"] not in fake.rates:
                    raise fake.PortAudioError("Invalid sample rate\nPaErrorCode -9997")
                assert (options["channels"], options["dtype"]) == (1, "int16")
                self.samplerate = options["samplerate"]
                fake.heard = options["callback"]
                fake.ended = options["finished_callback"]

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
            self.heard(memoryview(block), len(block) // 2, None, None)


def test_a_recording_yields_what_the_microphone_hears() -> None:
    """Blocks come in order, and the device is open for as long as the recording."""

    async def run() -> None:
        device = FakeSounddevice()
        async with Microphone(device).record() as blocks:
            assert device.open == 1
            device.speak(b"a" * BLOCK, b"b" * BLOCK)
            assert await anext(blocks) == b"a" * BLOCK
            assert await anext(blocks) == b"b" * BLOCK
        assert device.open == 0

    asyncio.run(run())


def test_an_open_microphone_gives_the_moment_before_the_recording() -> None:
    """The last 0.3 s before the key belong to the recording; what is older does not."""

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


def test_a_device_that_goes_away_ends_the_recording() -> None:
    """What was heard until then is kept, and then there is no more."""

    async def run() -> None:
        device = FakeSounddevice()
        async with Microphone(device).record() as blocks:
            device.speak(b"a" * BLOCK)
            device.ended()
            assert [block async for block in blocks] == [b"a" * BLOCK]

    asyncio.run(run())


def test_a_device_with_a_rate_of_its_own_is_resampled() -> None:
    """A second at 48 kHz becomes a second at 16 kHz."""

    async def run() -> None:
        device = FakeSounddevice(rates=(48_000,), default=48_000)
        async with Microphone(device).record() as blocks:
            device.speak(*[b"\x00\x10" * 1920] * 25)
            device.ended()
            heard = b"".join([block async for block in blocks])
        assert len(heard) / 32_000 == pytest.approx(1.0, abs=0.05)

    asyncio.run(run())


def test_no_device_is_a_sentence() -> None:
    """Who has no microphone is told to connect one or to type."""

    async def run() -> None:
        with pytest.raises(MicrophoneUnavailable, match=r"type your answer"):
            async with Microphone(FakeSounddevice(rates=())).record():
                pass

    asyncio.run(run())


def test_no_portaudio_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that installs it is in the error."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    async def run() -> None:
        with pytest.raises(MicrophoneUnavailable, match="apt-get install libportaudio2"):
            async with Microphone().record():
                pass

    asyncio.run(run())


def test_a_reader_far_behind_loses_sound_and_not_memory() -> None:
    """A minute is kept for a reader that does not read, and the end of the stream comes still."""

    async def run() -> None:
        device = FakeSounddevice()
        async with Microphone(device).record() as blocks:
            device.speak(*[b"a" * BLOCK] * 5000)
            device.ended()
            await asyncio.sleep(0)
            assert len([block async for block in blocks]) == 1499

    asyncio.run(run())
