"""Storage of recordings: frames without gaps or repetitions, and rejected data."""

import contextlib
import io
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from prepserver.errors import BadRequest
from prepserver.interview import schema
from prepserver.interview.speech.recordings import (
    FLUSH_BYTES,
    FrameGap,
    RecordingStore,
    decode_recording,
)
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.limits import MAX_BINARY_FRAME
from prepserver.wire.protocol import BYTES_PER_SECOND

FRAME = BYTES_PER_SECOND // 25
"""Bytes in a frame of 40 ms."""

FRAMES_PER_CHUNK = -(-FLUSH_BYTES // FRAME)
"""Number of frames after which a chunk is stored."""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(tmp_path / "a.sqlite", "a", schema.INTERVIEW)
    yield storage
    storage.close()


@pytest.fixture
def recordings(storage: Storage) -> RecordingStore:
    return RecordingStore(storage, max_seconds=10)


def frame(number: int) -> bytes:
    return struct.pack("<h", number) * (FRAME // 2)


def code_of(error: pytest.ExceptionInfo[BadRequest]) -> str:
    return error.value.code


def test_frames_become_one_recording(recordings: RecordingStore) -> None:
    """Frames are stored in order, including those of the last, incomplete chunk."""
    assert recordings.open("r") == -1
    added = [recordings.add_frame("r", n, frame(n)) for n in range(FRAMES_PER_CHUNK + 2)]
    assert all(new for new, _ in added)
    acknowledged = [stored for _, stored in added]
    assert acknowledged == [None] * (FRAMES_PER_CHUNK - 1) + [FRAMES_PER_CHUNK - 1] + [None] * 2
    assert recordings.received_pcm("r") == b"".join(frame(n) for n in range(FRAMES_PER_CHUNK + 2))
    recordings.finish("r", FRAMES_PER_CHUNK + 2)
    assert recordings.stored_pcm("r") == b"".join(frame(n) for n in range(FRAMES_PER_CHUNK + 2))


def test_a_repeated_frame_is_stored_once(recordings: RecordingStore) -> None:
    """A frame that a client sends more than once is stored once."""
    recordings.open("r")
    for number in [0, 1, 2, 1, 2, 3, 0, *range(4, FRAMES_PER_CHUNK), 2]:
        recordings.add_frame("r", number, frame(number))
    recordings.finish("r", FRAMES_PER_CHUNK)
    assert recordings.stored_pcm("r") == b"".join(frame(n) for n in range(FRAMES_PER_CHUNK))


def test_a_missing_frame_is_detected(recordings: RecordingStore) -> None:
    """Adding a frame after a missing frame, or finishing a recording with a missing frame, raises
    FrameGap."""
    recordings.open("r")
    for number in range(5):
        recordings.add_frame("r", number, frame(number))
    with pytest.raises(FrameGap):
        recordings.add_frame("r", 6, frame(6))
    with pytest.raises(FrameGap):
        recordings.finish("r", 7)
    recordings.add_frame("r", 5, frame(5))
    recordings.add_frame("r", 6, frame(6))
    recordings.finish("r", 7)
    assert len(recordings.stored_pcm("r")) == 7 * FRAME


def test_a_recording_resumes_after_the_highest_stored_frame(storage: Storage) -> None:
    """A new store resumes a recording after the last stored frame; frames that were pending in the
    old store's memory are lost."""
    first = RecordingStore(storage, max_seconds=10)
    first.open("r")
    for number in range(FRAMES_PER_CHUNK + 3):
        first.add_frame("r", number, frame(number))
    second = RecordingStore(storage, max_seconds=10)
    assert second.open("r") == FRAMES_PER_CHUNK - 1
    for number in range(FRAMES_PER_CHUNK, FRAMES_PER_CHUNK + 5):
        second.add_frame("r", number, frame(number))
    second.finish("r", FRAMES_PER_CHUNK + 5)
    assert second.stored_pcm("r") == b"".join(frame(n) for n in range(FRAMES_PER_CHUNK + 5))


def test_a_recording_that_grows_too_long_is_deleted(recordings: RecordingStore) -> None:
    """A recording that exceeds the maximum length is deleted, and the error gives the maximum in
    seconds."""
    recordings.open("r")
    for number in range(250):
        recordings.add_frame("r", number, frame(number))
    with pytest.raises(BadRequest) as caught:
        recordings.add_frame("r", 250, frame(250))
    assert caught.value.code == ErrorCode.RECORDING_TOO_LONG
    assert caught.value.details == {"seconds": 10}
    assert recordings.stored_pcm("r") == b""
    with pytest.raises(BadRequest) as caught:
        recordings.add_frame("r", 251, frame(251))
    assert code_of(caught) == ErrorCode.NO_SUCH_RECORDING


def test_the_longest_recording_is_accepted(recordings: RecordingStore) -> None:
    """A recording of exactly ten seconds, the maximum, is stored."""
    recordings.open("r")
    for number in range(250):
        recordings.add_frame("r", number, frame(number))
    recordings.finish("r", 250)
    assert len(recordings.stored_pcm("r")) == 10 * BYTES_PER_SECOND


def test_a_frame_above_the_maximum_size_is_rejected(recordings: RecordingStore) -> None:
    """A frame above the maximum size is rejected as `bad_frame`, so that no client can fill the
    server's memory."""
    recordings.open("r")
    with pytest.raises(BadRequest) as caught:
        recordings.add_frame("r", 0, bytes(MAX_BINARY_FRAME + 2))
    assert code_of(caught) == ErrorCode.BAD_FRAME


@pytest.mark.parametrize("frames", [0, 1])
def test_a_recording_below_the_minimum_length_is_rejected(
    recordings: RecordingStore, frames: int
) -> None:
    """A recording without frames or shorter than a tenth of a second is rejected as
    `empty_recording`."""
    recordings.open("r")
    for number in range(frames):
        recordings.add_frame("r", number, frame(number))
    with pytest.raises(BadRequest) as caught:
        recordings.finish("r", frames)
    assert code_of(caught) == ErrorCode.EMPTY_RECORDING


def test_frames_without_a_start_are_rejected(recordings: RecordingStore) -> None:
    """Adding a frame to a recording that was never opened, or finishing such a recording, raises
    BadRequest with the code `no_such_recording`."""
    with pytest.raises(BadRequest) as caught:
        recordings.add_frame("r", 0, frame(0))
    assert code_of(caught) == ErrorCode.NO_SUCH_RECORDING
    with pytest.raises(BadRequest) as caught:
        recordings.finish("r", 0)
    assert code_of(caught) == ErrorCode.NO_SUCH_RECORDING


def test_a_cancelled_recording_leaves_nothing(recordings: RecordingStore, storage: Storage) -> None:
    """Cancelling a recording deletes its rows and pending frames, so that the recording can start
    at frame 0 again."""
    recordings.open("r")
    for number in range(FRAMES_PER_CHUNK + 1):
        recordings.add_frame("r", number, frame(number))
    recordings.delete("r")
    assert storage.row("SELECT count(*) FROM audio_chunks") == (0,)
    assert recordings.open("r") == -1


def test_a_complete_recording_has_the_same_limits(recordings: RecordingStore) -> None:
    """A recording sent in one message is rejected if it is too short or too long."""
    recordings.add_complete("w", bytes(BYTES_PER_SECOND))
    assert recordings.stored_pcm("w") == bytes(BYTES_PER_SECOND)
    for size, code in (
        (100, ErrorCode.EMPTY_RECORDING),
        (11 * BYTES_PER_SECOND, ErrorCode.RECORDING_TOO_LONG),
    ):
        with pytest.raises(BadRequest) as caught:
            recordings.add_complete("x", bytes(size))
        assert code_of(caught) == code


# --- One recording in one message ---------------------------------------------------------------


def wav(pcm: bytes, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setframerate(rate)
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.writeframes(pcm)
    return file.getvalue()


SPEECH = struct.pack("<8000h", *(n % 3_000 - 1_500 for n in range(8_000)))


def test_wav_and_raw_samples_decode_alike() -> None:
    """Decoding removes the header of a WAV file and returns data without a header unchanged."""
    assert decode_recording(wav(SPEECH)) == SPEECH
    assert decode_recording(SPEECH) == SPEECH


def test_the_bundled_recordings_are_accepted(speech_dir: Path) -> None:
    """Each WAV file in tests/speech is accepted."""
    files = sorted(speech_dir.glob("*.wav"))
    assert files
    for file in files:
        assert len(decode_recording(file.read_bytes())) > BYTES_PER_SECOND


def test_a_truncated_wav_file_gives_whole_samples() -> None:
    """Decoding a truncated WAV file returns the complete samples before the cut."""
    assert decode_recording(wav(SPEECH)[:-3]) == SPEECH[:-4]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", ErrorCode.EMPTY_RECORDING, id="nothing"),
        pytest.param(bytes(MAX_BINARY_FRAME + 1), ErrorCode.RECORDING_TOO_LONG, id="too long"),
        pytest.param(b"Dear interviewer, this is my answer.", ErrorCode.NOT_AUDIO, id="text"),
        pytest.param(b"%PDF-1.7\n" + bytes(1_000), ErrorCode.NOT_AUDIO, id="PDF"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(1_000), ErrorCode.NOT_AUDIO, id="PNG"),
        pytest.param(b"OggS" + bytes(1_000), ErrorCode.NOT_AUDIO, id="Ogg"),
        pytest.param(b"fLaC" + bytes(1_000), ErrorCode.NOT_AUDIO, id="FLAC"),
        pytest.param(bytes(1_001), ErrorCode.NOT_AUDIO, id="half a sample"),
        pytest.param(b"RIFF", ErrorCode.NOT_AUDIO, id="RIFF alone"),
        pytest.param(b"RIFF\xff\xff\xff\xffAVI LIST", ErrorCode.NOT_AUDIO, id="AVI"),
        pytest.param(b"RIFF" + bytes(500), ErrorCode.NOT_AUDIO, id="RIFF and zeros"),
        pytest.param(wav(SPEECH, rate=44_100), ErrorCode.NOT_AUDIO, id="44.1 kHz"),
        pytest.param(wav(SPEECH, channels=2), ErrorCode.NOT_AUDIO, id="stereo"),
        pytest.param(wav(SPEECH, width=1), ErrorCode.NOT_AUDIO, id="8 bits"),
    ],
)
def test_data_other_than_a_recording_is_rejected(data: bytes, code: str) -> None:
    """Decoding data that is not a valid recording raises BadRequest with an error code, not an
    exception from a library."""
    with pytest.raises(BadRequest) as caught:
        decode_recording(data)
    assert code_of(caught) == code


def test_any_damaged_wav_header_gives_samples_or_an_error_code() -> None:
    """If any byte of a WAV header is damaged, decoding returns whole samples or raises
    BadRequest."""
    good = wav(SPEECH[:200])
    for position in range(44):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            damaged = bytearray(good)
            damaged[position] = value
            with contextlib.suppress(BadRequest):
                assert len(decode_recording(bytes(damaged))) % 2 == 0
