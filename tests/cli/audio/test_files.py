import contextlib
import os
import socket
import struct
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from prepcli.audio import files
from prepcli.audio.files import read_audio
from prepcli.audio.level import rms
from prepcli.errors import AudioFileError, AudioTooLong, EmptyAudio, NotAudio, PrepError
from tests.cli.audio.recordings import (
    TONE,
    Samples,
    pitch,
    same_words,
    tone,
    write,
    write_silent_video,
)

RATE = 48_000

RIFX = (
    b"RIFX\0\0\0\x28WAVEfmt \0\0\0\x10\0\1\0\1\0\0\x3e\x80\0\0\x7d\0\0\2\0\x10data\0\0\0\4"
    + b"\1\0" * 2
)
"""WAV file in the byte order of big-endian machines, which FFmpeg would read as noise."""


# --- Formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 12])
def test_every_rate_and_channel_count_becomes_16_khz_mono(
    tmp_path: Path, rate: int, channels: int
) -> None:
    """Converting a recording to 16 kHz mono keeps its pitch, level and length."""
    pcm = read_audio(write(tmp_path / "tone.wav", tone(rate, channels=channels), rate))
    assert len(pcm) / 32_000 == pytest.approx(1.0, abs=0.01)
    assert pitch(pcm) == pytest.approx(TONE, abs=1.0)
    assert rms(pcm) == pytest.approx(-9.03, abs=0.2)


@pytest.mark.parametrize(
    "codec",
    [
        "pcm_u8",
        "pcm_s16le",
        "pcm_s24le",
        "pcm_s32le",
        "pcm_f32le",
        "pcm_f64le",
        "pcm_alaw",
        "pcm_mulaw",
        "adpcm_ms",
        "adpcm_ima_wav",
    ],
)
def test_every_sample_format_of_wav_is_read(tmp_path: Path, codec: str) -> None:
    """WAV files are read in every sample format that recorders write."""
    pcm = read_audio(write(tmp_path / "tone.wav", tone(RATE), RATE, codec=codec))
    assert pitch(pcm) == pytest.approx(TONE, abs=1.0)
    assert rms(pcm) == pytest.approx(-9.03, abs=0.5)


@pytest.mark.parametrize(
    ("container", "codec", "rate", "channels", "picture"),
    [
        ("ipod", "aac", 44_100, 2, False),
        ("ipod", "alac", 44_100, 1, False),
        ("adts", "aac", 44_100, 2, False),
        ("mp3", "mp3", 44_100, 2, False),
        ("webm", "libopus", 48_000, 1, False),
        ("ogg", "libopus", 48_000, 1, False),
        ("ogg", "vorbis", 44_100, 2, False),
        ("flac", "flac", 96_000, 1, False),
        ("aiff", "pcm_s24be", 48_000, 1, False),
        ("au", "pcm_mulaw", 8_000, 1, False),
        ("caf", "pcm_s16le", 48_000, 1, False),
        ("w64", "pcm_s16le", 48_000, 1, False),
        ("3gp", "libopencore_amrnb", 8_000, 1, False),
        ("amr", "libopencore_amrnb", 8_000, 1, False),
        ("mp4", "aac", 48_000, 2, True),
        ("mov", "aac", 48_000, 2, True),
        ("matroska", "libopus", 48_000, 2, True),
        ("avi", "mp3", 48_000, 2, True),
    ],
)
def test_formats_of_phones_and_browsers_are_read(
    tmp_path: Path, container: str, codec: str, rate: int, channels: int, picture: bool
) -> None:
    """Recordings and videos are read in every common format, whatever the file is called."""
    samples = tone(rate, channels=channels)
    file = tmp_path / "recording.wav"
    write(file, samples, rate, container=container, codec=codec, picture=picture)
    pcm = read_audio(file)
    assert pitch(pcm) == pytest.approx(TONE, abs=1.5)
    assert len(pcm) / 32_000 == pytest.approx(1.0, abs=0.06)


def test_16_khz_pcm16_is_unchanged(speech_dir: Path) -> None:
    """A mono recording in 16 kHz PCM16 is read unchanged."""
    file = speech_dir / "short-answer.wav"
    with wave.open(str(file)) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (16_000, 1)
        assert read_audio(file) == sound.readframes(sound.getnframes())


def test_change_of_the_rate_within_a_recording(tmp_path: Path) -> None:
    """A recording whose sample rate and channels change in the middle is read to its end."""
    parts = [
        write(tmp_path / f"{rate}.aac", tone(rate, channels=channels), rate, container="adts",
              codec="aac").read_bytes()
        for rate, channels in ((44_100, 1), (48_000, 2))
    ]  # fmt: skip
    file = tmp_path / "joined.aac"
    file.write_bytes(b"".join(parts))
    pcm = read_audio(file)
    assert len(pcm) / 32_000 == pytest.approx(2.0, abs=0.15)
    assert pitch(pcm) == pytest.approx(TONE, abs=1.5)


# --- Files that are cut off or wrong ----------------------------------------------------------


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000 - 36, 0x7FFFF000])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "pcm_f32le"])
def test_wav_whose_length_was_never_written(tmp_path: Path, length: int, codec: str) -> None:
    """A WAV file from a recorder that was killed, or that wrote to a pipe, is read to its end."""
    file = write(tmp_path / "cut.wav", tone(16_000), 16_000, codec=codec)
    data = bytearray(file.read_bytes())
    data[4:8] = struct.pack("<I", length)
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", length)
    file.write_bytes(data)
    assert len(read_audio(file)) == 32_000


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("wav", "pcm_s24le"),
        ("flac", "flac"),
        ("mp3", "mp3"),
        ("ogg", "libopus"),
        ("webm", "libopus"),
        ("adts", "aac"),
    ],
)
def test_recording_that_is_cut_off(tmp_path: Path, container: str, codec: str) -> None:
    """A recording that was cut off is read up to the cut, even within a sample or a packet."""
    file = write(tmp_path / "cut", tone(RATE, 2.0), RATE, container=container, codec=codec)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2 + 1])
    assert 0.5 < len(read_audio(file)) / 32_000 < 1.5


def test_damaged_part_is_left_out(tmp_path: Path) -> None:
    """Damage in the middle of a recording costs that part and no more."""
    file = write(tmp_path / "bad.mp3", tone(RATE, 4.0), RATE, container="mp3", codec="mp3")
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    file.write_bytes(data)
    assert len(read_audio(file)) / 32_000 == pytest.approx(4.0, abs=0.5)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize(
    ("name", "size"),
    [(b"JUNK", 3), (b"iXML", 70_001), (b"bext", 858), (b"smpl", 60), (b"x\xe9\0\1", 7)],
)
def test_other_chunks_are_skipped(tmp_path: Path, place: str, name: bytes, size: int) -> None:
    """Chunks of other programs before or after the samples are not played."""
    file = write(tmp_path / "chunks.wav", tone(16_000), 16_000, codec="pcm_s16le")
    data = file.read_bytes()
    chunk = name + struct.pack("<I", size) + b"\x7f" * (size + size % 2)
    at = data.index(b"data") if place == "before" else len(data)
    file.write_bytes(data[:at] + chunk + data[at:])
    assert len(read_audio(file)) == 32_000


def test_rf64_is_read(tmp_path: Path) -> None:
    """The 64-bit form of WAV is read."""
    options = {"rf64": "always"}
    assert (
        len(read_audio(write(tmp_path / "a.wav", tone(16_000), 16_000, options=options))) == 32_000
    )


def test_tags_in_another_encoding_are_ignored(tmp_path: Path) -> None:
    """A title that is not UTF-8 does not keep a recording from being read."""
    file = write(tmp_path / "a.wav", tone(16_000), 16_000, codec="pcm_s16le")
    title = b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"\xe9\xe8a\0"
    file.write_bytes(file.read_bytes() + title)
    assert len(read_audio(file)) == 32_000


@pytest.mark.parametrize(
    "data",
    [
        b"This is text, not a recording.\n" * 50,
        b"RIFF\xff\xff\xff\xffWAVE",
        RIFX,
        b"\x00" * 999,
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42isom" + b"\x00\x00\x10\x00mdat" * 99,
        b"ID3\x04\x00\x00\x00\x00\x00\x7f" + b"\x00" * 200,
    ],
)
def test_file_that_is_not_audio_is_rejected(tmp_path: Path, data: bytes) -> None:
    """A file that is not audio raises NotAudio with the file's name and the formats to use."""
    file = tmp_path / "not.wav"
    file.write_bytes(data)
    with pytest.raises(NotAudio, match=r"not\.wav.*Convert"):
        read_audio(file)


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile {}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/{}\n#EXT-X-ENDLIST\n",
    ],
)
def test_playlist_is_rejected(tmp_path: Path, playlist: str) -> None:
    """A playlist is rejected, and the files and addresses in it are not opened."""
    write(tmp_path / "a.wav", tone(16_000), 16_000)
    file = tmp_path / "list.m3u8"
    file.write_text(playlist.format("a.wav"), "utf-8")
    with pytest.raises(NotAudio):
        read_audio(file)


def test_video_without_sound_is_rejected(tmp_path: Path) -> None:
    """A video without a sound track raises NotAudio, which says so."""
    file = tmp_path / "silent.mp4"
    write_silent_video(file)
    with pytest.raises(NotAudio, match="no sound"):
        read_audio(file)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_rejected(tmp_path: Path, value: float) -> None:
    """A recording with samples that are not finite raises NotAudio."""
    with pytest.raises(NotAudio):
        read_audio(write(tmp_path / "nan.wav", np.full((100, 1), value), 16_000))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_damaged_samples_become_silence(tmp_path: Path, rate: int, value: float) -> None:
    """A few samples that are not finite do not make the rest of a recording unusable."""
    samples = tone(rate)
    samples[100:103] = value
    pcm = read_audio(write(tmp_path / "damaged.wav", samples, rate))
    assert pitch(pcm) == pytest.approx(TONE, abs=1.0)
    assert rms(pcm) == pytest.approx(-9.03, abs=0.2)


@pytest.mark.parametrize("scale", [4.0, 32_768.0, 2.0**31])
def test_samples_at_the_scale_of_integers(tmp_path: Path, speech: Samples, scale: float) -> None:
    """Speech whose floating-point samples exceed full scale by far is scaled down, not clipped."""
    loud = speech / np.abs(speech).max() * scale
    pcm = read_audio(write(tmp_path / "loud.wav", loud, 16_000))
    expected = read_audio(write(tmp_path / "mono.wav", speech, 16_000))
    assert same_words(pcm, expected) > 0.999


@pytest.mark.parametrize("samples", [0, 1])
def test_recording_without_samples_is_rejected(tmp_path: Path, samples: int) -> None:
    """An empty file, and a file with a header but too few samples to hear, raise EmptyAudio."""
    nothing = tmp_path / "nothing.wav"
    nothing.touch()
    header = tmp_path / "header.wav"
    with wave.open(str(header), "wb") as sound:
        sound.setparams((1, 2, 48_000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * samples))
    for file in (nothing, header):
        with pytest.raises(EmptyAudio, match=file.name):
            read_audio(file)


@pytest.mark.parametrize("seconds", [0.005, 0.05])
def test_very_short_recording_is_read(tmp_path: Path, seconds: float) -> None:
    """A recording of a few samples is read as it is."""
    pcm = read_audio(write(tmp_path / "short.wav", tone(RATE, seconds), RATE))
    assert len(pcm) / 32_000 == pytest.approx(seconds, abs=0.0002)


def test_recording_over_ten_minutes_is_rejected(tmp_path: Path) -> None:
    """A recording longer than ten minutes raises AudioTooLong."""
    with pytest.raises(AudioTooLong, match="10 minutes"):
        read_audio(write(tmp_path / "a.wav", np.zeros((8_000 * 601, 1)), 8_000, codec="pcm_u8"))


@pytest.mark.parametrize("excess", [0, 0.05])
def test_recording_of_ten_minutes_is_read(tmp_path: Path, excess: float) -> None:
    """A recording of ten minutes, to which a codec may have added padding, is accepted."""
    samples = np.zeros((int(8_000 * (600 + excess)), 1))
    pcm = read_audio(write(tmp_path / "a.wav", samples, 8_000, codec="pcm_u8"))
    assert len(pcm) == 600 * 32_000


def test_loud_samples_are_clipped(tmp_path: Path) -> None:
    """Samples beyond full scale are clipped instead of wrapping around."""
    file = write(tmp_path / "loud.wav", np.full((100, 1), 2.0), 16_000)
    assert set(np.frombuffer(read_audio(file), "<i2")) == {32_767}


# --- Names, pipes and other kinds of files ----------------------------------------------------


@pytest.mark.parametrize(
    "name", [b"r\xe9ponse.wav", b"\xff\xfe.wav", b"a\nb.wav", "答え.wav".encode(), b"%s {} 'a'.wav"]
)
def test_every_name_is_read(tmp_path: Path, name: bytes) -> None:
    """Recordings are read whatever bytes their names consist of."""
    file = write(tmp_path / "a.wav", tone(16_000), 16_000)
    assert len(read_audio(file.rename(tmp_path / os.fsdecode(name)))) == 32_000


@pytest.mark.parametrize("name", [b"r\xe9ponse.wav", b"\xff\xfe.wav"])
def test_every_name_is_reported(tmp_path: Path, name: bytes) -> None:
    """A file that cannot be used is reported whatever bytes its name consists of."""
    with pytest.raises(AudioFileError, match="There is no file"):
        read_audio(tmp_path / os.fsdecode(name))


def feed(target: Path | int, data: bytes) -> threading.Thread:
    """Start a thread that writes to a pipe, which may be closed before its end."""

    def write_all() -> None:
        descriptor = target if isinstance(target, int) else os.open(target, os.O_WRONLY)
        with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb", 0) as stream:
            stream.write(data)

    thread = threading.Thread(target=write_all)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("container", "codec"), [("wav", "pcm_s16le"), ("mp3", "mp3"), ("ipod", "aac"), ("mov", "aac")]
)
def test_pipes_are_read(tmp_path: Path, container: str, codec: str) -> None:
    """Recordings are read from named pipes and from the descriptors of a shell's substitutions,
    also in formats whose index is at the end."""
    file = write(tmp_path / "a", tone(RATE, channels=2), RATE, container=container, codec=codec)
    data = file.read_bytes()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = feed(fifo, data)
    assert pitch(read_audio(fifo)) == pytest.approx(TONE, abs=1.5)
    thread.join()
    reading, writing = os.pipe()
    thread = feed(writing, data)
    assert pitch(read_audio(Path(f"/dev/fd/{reading}"))) == pytest.approx(TONE, abs=1.5)
    thread.join()
    os.close(reading)


def test_endless_pipe_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that delivers more than the maximum is rejected without being read to its end."""
    monkeypatch.setattr(files, "MAX_PIPE_BYTES", 1 << 20)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = feed(fifo, bytes(1 << 22))
    with pytest.raises(AudioTooLong, match="1 MB"):
        read_audio(fifo)
    thread.join()


def test_empty_pipe_is_rejected(tmp_path: Path) -> None:
    """A pipe that is closed without data raises EmptyAudio."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = feed(fifo, b"")
    with pytest.raises(EmptyAudio):
        read_audio(fifo)
    thread.join()


def test_what_is_no_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder, a device, a socket, a broken link and a name that is too long each
    raise an error that says what the path is."""
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 107 bytes
    broken = tmp_path / "broken.wav"
    broken.symlink_to("gone.wav")
    loop = tmp_path / "loop.wav"
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for file, problem in (
            (tmp_path / "missing.wav", "There is no file"),
            (tmp_path / "missing" / "a.wav", "There is no file"),
            (Path("/dev/null/a.wav"), "Cannot read"),
            (tmp_path, "is a folder"),
            (Path("/dev/zero"), "is a device"),
            (Path("/dev/null"), "is a device"),
            (Path("socket"), "Cannot read"),
            (broken, r"is a link to gone\.wav, which does not exist"),
            (loop, "Cannot read"),
            (tmp_path / ("a" * 300), "Cannot read"),
        ):
            with pytest.raises(AudioFileError, match=problem):
                read_audio(file)


def test_file_without_permission_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that may not be read raises an error that names the reason."""
    file = write(tmp_path / "a.wav", tone(16_000), 16_000)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the user of a test may be root
    with pytest.raises(AudioFileError, match="Permission denied"):
        read_audio(file)


def test_every_cut_and_every_odd_byte_ends_in_a_sentence(tmp_path: Path) -> None:
    """Recordings with random bytes in their headers are read, or raise an error of prep's."""
    random = np.random.default_rng(9)
    for container, codec in (("wav", "pcm_s16le"), ("ipod", "aac"), ("ogg", "libopus"),
                             ("webm", "libopus"), ("flac", "flac"), ("mp3", "mp3")):  # fmt: skip
        file = write(tmp_path / "a", tone(RATE, 0.2), RATE, container=container, codec=codec)
        whole = file.read_bytes()
        for _ in range(40):
            data = bytearray(whole[: random.integers(1, len(whole) + 1)])
            for at in random.integers(0, min(len(data), 400), 4):
                data[at] = random.integers(0, 256)
            file.write_bytes(data)
            with contextlib.suppress(PrepError):
                read_audio(file)
