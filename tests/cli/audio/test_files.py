import struct
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from prepcli.audio.files import read_audio
from prepcli.audio.level import rms
from prepcli.errors import AudioFileError, AudioTooLong, EmptyAudio, NotAudio

TONE = 440.0


def tone(
    rate: int, seconds: float = 1.0, channels: int = 1
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Return a 440 Hz sine at half of full scale, as an array of shape (n, channels)."""
    time = np.arange(int(rate * seconds)) / rate
    signal = 0.5 * np.sin(2 * np.pi * TONE * time)
    return np.repeat(signal[:, None], channels, axis=1)


def pitch(pcm: bytes) -> float:
    """Return the strongest frequency in 16 kHz PCM16 audio, in Hz."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / samples.size)


def write_wave(file: Path, width: int, rate: int, channels: int = 1) -> None:
    """Write one second of a 440 Hz sine to a WAV file with samples of `width` bytes."""
    values = tone(rate, channels=channels).reshape(-1)
    full = 2 ** (8 * width - 1) - 1
    whole = np.rint(values * full).astype("<i8")
    if width == 1:
        data = (whole + 128).astype(np.uint8).tobytes()
    else:
        data = b"".join(int(value).to_bytes(width, "little", signed=True) for value in whole)
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(data)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_rate_and_channel_count_becomes_16_khz_mono(
    tmp_path: Path, rate: int, channels: int
) -> None:
    """Converting a recording to 16 kHz mono keeps its pitch, level and length."""
    file = tmp_path / "tone.wav"
    soundfile.write(file, tone(rate, channels=channels), rate)
    pcm = read_audio(file)
    assert len(pcm) / 32_000 == pytest.approx(1.0, abs=0.01)
    assert pitch(pcm) == pytest.approx(TONE, abs=1.0)
    assert rms(pcm) == pytest.approx(-9.03, abs=0.2)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.flac", "PCM_24"),
        ("a.ogg", "VORBIS"),
        ("a.opus", "OPUS"),
        ("a.mp3", None),
        ("a.aiff", "PCM_16"),
        ("a.wav", "ULAW"),
        ("a.wav", "FLOAT"),
    ],
)
def test_formats_of_libsndfile_are_read(tmp_path: Path, name: str, subtype: str | None) -> None:
    """Recordings in compressed and uncompressed formats are read, even without a file extension."""
    file = tmp_path / name
    form = "OGG" if name.endswith("opus") else None
    soundfile.write(file, tone(48_000), 48_000, subtype=subtype, format=form)
    nameless = file.rename(tmp_path / "recording")
    assert pitch(read_audio(nameless)) == pytest.approx(TONE, abs=1.5)


def test_16_khz_pcm16_is_unchanged(speech_dir: Path) -> None:
    """A mono recording in 16 kHz PCM16 is read unchanged."""
    file = speech_dir / "short-answer.wav"
    with wave.open(str(file)) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (16_000, 1)
        assert read_audio(file) == sound.readframes(sound.getnframes())


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_is_read_without_libsndfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, channels: int
) -> None:
    """Without libsndfile, WAV files with samples of 1 to 4 bytes are read."""
    monkeypatch.setitem(sys.modules, "soundfile", None)
    file = tmp_path / "tone.wav"
    write_wave(file, width, 22_050, channels)
    pcm = read_audio(file)
    assert pitch(pcm) == pytest.approx(TONE, abs=1.0)
    assert rms(pcm) == pytest.approx(-9.03, abs=0.2)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize(
    "data", [b"This is text, not a recording.\n" * 50, b"RIFF\xff\xff\xff\xffWAVE", b"\x00" * 999]
)
def test_file_that_is_not_audio_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: bool, data: bytes
) -> None:
    """A file that is not audio raises NotAudio with the file name, even without libsndfile."""
    if not library:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    file = tmp_path / "not.wav"
    file.write_bytes(data)
    with pytest.raises(NotAudio, match=r"not\.wav.*Convert"):
        read_audio(file)


def test_nan_samples_are_rejected(tmp_path: Path) -> None:
    """A recording with NaN samples raises NotAudio."""
    file = tmp_path / "nan.wav"
    soundfile.write(file, np.full((100, 1), np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(NotAudio):
        read_audio(file)


@pytest.mark.parametrize("library", [True, False])
def test_recording_without_samples_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: bool
) -> None:
    """An empty file and a file with a header but no samples raise EmptyAudio."""
    if not library:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    nothing = tmp_path / "nothing.wav"
    nothing.touch()
    header = tmp_path / "header.wav"
    with wave.open(str(header), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
    for file in (nothing, header):
        with pytest.raises(EmptyAudio, match=file.name):
            read_audio(file)


@pytest.mark.parametrize("library", [True, False])
def test_recording_over_ten_minutes_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: bool
) -> None:
    """A recording longer than ten minutes raises AudioTooLong."""
    if not library:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    file = tmp_path / "long.wav"
    with wave.open(str(file), "wb") as sound:
        sound.setparams((1, 2, 8_000, 0, "NONE", ""))
        sound.writeframes(b"\x00\x00" * 8_000 * 601)
    with pytest.raises(AudioTooLong, match="10 minutes"):
        read_audio(file)


def test_recording_of_ten_minutes_is_read(tmp_path: Path) -> None:
    """A recording of exactly ten minutes is accepted."""
    file = tmp_path / "long.wav"
    with wave.open(str(file), "wb") as sound:
        sound.setparams((1, 2, 8_000, 0, "NONE", ""))
        sound.writeframes(b"\x00\x00" * 8_000 * 600)
    assert len(read_audio(file)) == 600 * 32_000


def test_wrong_length_in_the_header_is_ignored(tmp_path: Path) -> None:
    """A file whose header claims four billion bytes is read to its actual end."""
    file = tmp_path / "cut.wav"
    write_wave(file, 2, 16_000)
    data = bytearray(file.read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    file.write_bytes(data)
    assert len(read_audio(file)) == 32_000


def test_loud_samples_are_clipped(tmp_path: Path) -> None:
    """Samples beyond full scale are clipped instead of wrapping around."""
    file = tmp_path / "loud.wav"
    soundfile.write(file, np.full((100, 1), 2.0), 16_000, subtype="FLOAT")
    assert set(np.frombuffer(read_audio(file), "<i2")) == {32_767}


def test_missing_file_is_reported(tmp_path: Path) -> None:
    """Reading a missing file or a folder raises an error that says there is no file."""
    for file in (tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioFileError, match="no file"):
            read_audio(file)
