"""Storage of recordings until they are transcribed: numbered frames, stored in chunks."""

import io
import wave
from collections.abc import Collection

from prepserver.errors import BadRequest, Conflict
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.limits import MAX_BINARY_FRAME
from prepserver.wire.protocol import BYTES_PER_SECOND, SAMPLE_RATE

__all__ = ["FrameGap", "RecordingStore", "decode_recording"]

FLUSH_BYTES = BYTES_PER_SECOND // 2
"""Number of pending bytes at which a chunk is stored: half a second of audio. A frame is
acknowledged once its chunk is stored."""

MIN_BYTES = BYTES_PER_SECOND // 10
"""Minimum size of a recording in bytes: a tenth of a second of audio. A shorter recording is taken
for an accidental key press."""

MAX_OPEN_RECORDINGS = 4
"""Maximum number of open recordings in one interview: enough for one person with a few devices."""

_FILE_SIGNATURES = (
    b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"PK\x03\x04", b"\x1f\x8b", b"\x7fELF",
    b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3",
)  # fmt: skip
"""First bytes of file formats that are rejected, although any bytes can be played as raw PCM."""


class FrameGap(Exception):
    """Frames of a recording are missing."""


class RecordingStore:
    """Recordings of one interview that have not been transcribed yet.

    Frames stay in memory until `FLUSH_BYTES` bytes have arrived, and are then stored as one chunk.
    """

    def __init__(self, storage: Storage, *, max_seconds: float) -> None:
        """Create a store for recordings of at most `max_seconds` seconds."""
        self._storage = storage
        self._max_bytes = int(max_seconds * BYTES_PER_SECOND)
        self._max_seconds = max_seconds
        self._pending: dict[str, list[bytes]] = {}
        """Frames that are not stored yet, by recording id."""

    def open(self, id: str, in_use: Collection[str | None] = ()) -> int:
        """Create or resume a recording. Return the number of the last stored frame, or -1 if none
        is stored.

        If `MAX_OPEN_RECORDINGS` other recordings are open, one that is not in `in_use` is deleted,
        since no connection is sending it. Raises Conflict if all other recordings are in use.
        """
        others = [row[0] for row in self._storage.sql("SELECT id FROM recordings")]
        others = [other for other in others if other != id]
        if len(others) >= MAX_OPEN_RECORDINGS:
            abandoned = [other for other in others if other not in in_use]
            if not abandoned:
                raise Conflict(
                    f"{MAX_OPEN_RECORDINGS} recordings are already open. Stop or cancel one.",
                    code=ErrorCode.TOO_MANY_RECORDINGS,
                )
            self.delete(abandoned[0])
        self._pending.setdefault(id, [])
        self._storage.sql("INSERT OR IGNORE INTO recordings VALUES (?, 0, 0)", id)
        return self._stored_size(id)[0] - 1

    def add_frame(self, id: str, number: int, pcm: bytes) -> tuple[bool, int | None]:
        """Add a frame of PCM16 samples.

        Return two values: True for a new frame or False for a repeated frame; and the number of the
        last stored frame if a chunk was stored, otherwise None. Raises FrameGap if an earlier frame
        is missing. Raises BadRequest if the frame is too large, or the recording is unknown or too
        long; a recording that is too long is deleted.
        """
        if len(pcm) > MAX_BINARY_FRAME:
            raise BadRequest(
                f"The frame exceeds {MAX_BINARY_FRAME} bytes. Send smaller frames.",
                code=ErrorCode.BAD_FRAME,
            )
        frames, size = self._stored_size(id)
        pending = self._pending.setdefault(id, [])
        expected = frames + len(pending)
        if number < expected:
            return False, None
        if number > expected:
            raise FrameGap
        pending.append(pcm)
        pending_bytes = sum(map(len, pending))
        if size + pending_bytes > self._max_bytes:
            self.delete(id)
            raise recording_too_long(self._max_seconds)
        return True, self._flush_recording(id) if pending_bytes >= FLUSH_BYTES else None

    def flush(self) -> dict[str, int]:
        """Store all pending frames. Return the last frame's number for each recording that had
        pending frames."""
        with_frames = [id for id, frames in self._pending.items() if frames]
        return {id: self._flush_recording(id) for id in with_frames}

    def finish(self, id: str, frames: int) -> None:
        """Store the pending frames of a recording that has `frames` frames in total.

        Raises FrameGap if frames are missing. Raises BadRequest if the recording is unknown or too
        short; a recording that is too short is deleted.
        """
        self._flush_recording(id)
        stored, size = self._stored_size(id)
        if stored < frames:
            raise FrameGap
        if size < MIN_BYTES:
            self.delete(id)
            raise empty_recording()

    def add_complete(self, id: str, pcm: bytes) -> None:
        """Store a recording that arrived in one message.

        Raises BadRequest if the recording is too short or too long.
        """
        if len(pcm) < MIN_BYTES:
            raise empty_recording()
        if len(pcm) > self._max_bytes:
            raise recording_too_long(self._max_seconds)
        self._storage.sql("INSERT INTO recordings VALUES (?, 1, ?)", id, len(pcm))
        self._storage.sql("INSERT INTO audio_chunks VALUES (?, 0, ?)", id, pcm)

    def stored_pcm(self, id: str) -> bytes:
        """Return the stored samples of a recording."""
        rows = self._storage.sql(
            "SELECT pcm FROM audio_chunks WHERE recording_id = ? ORDER BY first_frame", id
        )
        return b"".join(row[0] for row in rows)

    def received_pcm(self, id: str) -> bytes:
        """Return all samples of a recording that have arrived, stored or pending."""
        return self.stored_pcm(id) + b"".join(self._pending.get(id, []))

    def delete(self, id: str) -> None:
        self._pending.pop(id, None)
        self._storage.sql("DELETE FROM audio_chunks WHERE recording_id = ?", id)
        self._storage.sql("DELETE FROM recordings WHERE id = ?", id)

    def delete_all(self, *, keep: str | None) -> None:
        """Delete every recording except `keep`, because the question is answered or closed."""
        for (id,) in self._storage.sql("SELECT id FROM recordings"):
            if id != keep:
                self.delete(id)

    def _flush_recording(self, id: str) -> int:
        """Store a recording's pending frames as one chunk. Return the number of the last stored
        frame, or -1 if none is stored."""
        frames, size = self._stored_size(id)
        pending = self._pending.pop(id, [])
        if not pending:
            return frames - 1
        pcm = b"".join(pending)
        self._storage.sql("INSERT INTO audio_chunks VALUES (?, ?, ?)", id, frames, pcm)
        frames += len(pending)
        self._storage.sql(
            "UPDATE recordings SET frames = ?, bytes = ? WHERE id = ?", frames, size + len(pcm), id
        )
        return frames - 1

    def _stored_size(self, id: str) -> tuple[int, int]:
        """Return the number of stored frames and the number of bytes that they contain.

        Raises BadRequest if the recording is unknown.
        """
        row = self._storage.row("SELECT frames, bytes FROM recordings WHERE id = ?", id)
        if row is None:
            raise BadRequest(
                "The recording is unknown. Start it with audio.start.",
                code=ErrorCode.NO_SUCH_RECORDING,
            )
        return int(row[0]), int(row[1])


def empty_recording() -> BadRequest:
    return BadRequest(
        "The recording is empty. Record your answer again.", code=ErrorCode.EMPTY_RECORDING
    )


def recording_too_long(seconds: float) -> BadRequest:
    return BadRequest(
        f"The recording is longer than {seconds / 60:.4g} min, the maximum. Give a shorter answer.",
        code=ErrorCode.RECORDING_TOO_LONG,
        details={"seconds": seconds},
    )


def decode_recording(data: bytes) -> bytes:
    """Return the samples of a recording sent in one message as WAV or raw PCM16 (16 kHz, mono).

    Raises BadRequest (`empty_recording`, `not_audio`, `recording_too_long`).
    """
    if not data:
        raise empty_recording()
    if len(data) > MAX_BINARY_FRAME:
        raise BadRequest(
            f"The recording exceeds {MAX_BINARY_FRAME} bytes, the maximum for one message. Send "
            "audio.start and then numbered frames instead.",
            code=ErrorCode.RECORDING_TOO_LONG,
        )
    if data[:4] == b"RIFF":
        return _decode_wav(data)
    start = data[:1024]
    printable = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
    if data.startswith(_FILE_SIGNATURES) or (printable and len(start) >= 16) or len(data) % 2:
        raise _not_audio()
    return data


def _decode_wav(data: bytes) -> bytes:
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            if (rate, channels, width) != (SAMPLE_RATE, 1, 2):
                raise BadRequest(
                    f"Unsupported WAV format: {rate} Hz, {width * 8}-bit, channels: {channels}. "
                    "Send 16 kHz, 16-bit mono.",
                    code=ErrorCode.NOT_AUDIO,
                )
            pcm = bytes(file.readframes(file.getnframes()))
            return pcm[: len(pcm) // 2 * 2]  # a truncated file may end within a sample
    except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk out of bounds
        raise _not_audio() from error


def _not_audio() -> BadRequest:
    return BadRequest(
        "The data is not audio. Send 16 kHz, 16-bit mono, as WAV or raw PCM.",
        code=ErrorCode.NOT_AUDIO,
    )
