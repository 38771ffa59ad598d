"""A stand-in for the library sounddevice, which is read by the process that records.

The test writes the stand-in's behaviour as Python statements, which may redefine its functions.
"""

from pathlib import Path
from textwrap import dedent

__all__ = ["install"]

_LIBRARY = '''
import os
import threading

NOISE = (b"Expression 'paInvalidSampleRate' failed in 'pa_linux_alsa.c', line: 2048\\n")

RATES = (16_000,)
CHANNELS = (1,)
DEFAULT = {"default_samplerate": 16_000.0, "max_input_channels": 1}


class PortAudioError(Exception):
    pass


def query_devices(device=None, kind=None):
    return DEFAULT


def opened(stream):
    """Called after a stream has been opened."""


def started(stream):
    """Called in a thread of its own after a stream has been started."""


class RawInputStream:
    def __init__(self, samplerate, blocksize, channels, dtype, callback, finished_callback):
        assert dtype == "int16"
        os.write(1, NOISE)
        os.write(2, NOISE)
        if samplerate not in RATES:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]\\nmore")
        if channels not in CHANNELS:
            raise PortAudioError("Invalid number of channels [PaErrorCode -9998]")
        self.samplerate, self.blocksize, self.channels = samplerate, blocksize, channels
        self._callback, self.finish = callback, finished_callback
        opened(self)

    def speak(self, data):
        self._callback(memoryview(data), len(data) // 2 // self.channels, None, None)

    def start(self):
        threading.Thread(target=started, args=(self,), daemon=True).start()

    def close(self):
        pass


'''


def install(folder: Path, behaviour: str = "") -> None:
    """Write the stand-in into a folder that is on the search path of Python."""
    (folder / "sounddevice.py").write_text(_LIBRARY + dedent(behaviour), "utf-8")
