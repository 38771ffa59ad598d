"""Spoken answers until they are written down: numbered frames, stored in pieces."""

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
"""A piece is written, and acknowledged, when half a second has come together."""

MIN_BYTES = BYTES_PER_SECOND // 10
"""Less than a tenth of a second is a slip of the finger."""

MAX_OPEN_RECORDINGS = 4
"""Recordings of one interview under way at once: one person, on a few devices."""

_NOT_AUDIO = (
    b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"PK\x03\x04", b"\x1f\x8b", b"\x7fELF",
    b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3",
)  # fmt: skip
"""First bytes of files that are not PCM, though any bytes could be read as such."""


class FrameGap(Exception):
    """A frame came before the one that must precede it."""


class RecordingStore:
    """The recordings of one interview. Frames wait in memory until half a second is together."""

    def __init__(self, storage: Storage, *, max_seconds: float) -> None:
        self._storage = storage
        self._max_bytes = int(max_seconds * BYTES_PER_SECOND)
        self._max_seconds = max_seconds
        self._waiting: dict[str, list[bytes]] = {}

    def start(self, id: str, in_use: Collection[str | None] = ()) -> int:
        """Open, or go on with, a recording; returns the highest frame stored, -1 for none.

        When too many are open, one that is not `in_use` is forgotten: nobody is left to stop it.
        Raises Conflict when all are.
        """
        others = [row[0] for row in self._storage.sql("SELECT id FROM recordings")]
        others = [other for other in others if other != id]
        if len(others) >= MAX_OPEN_RECORDINGS:
            left = [other for other in others if other not in in_use]
            if not left:
                raise Conflict(
                    f"{MAX_OPEN_RECORDINGS} recordings are already open. Stop or cancel one.",
                    code=ErrorCode.TOO_MANY_RECORDINGS,
                )
            self.forget(left[0])
        self._waiting.setdefault(id, [])
        self._storage.sql("INSERT OR IGNORE INTO recordings VALUES (?, 0, 0)", id)
        return self._stored(id)[0] - 1

    def add(self, id: str, number: int, pcm: bytes) -> tuple[bool, int | None]:
        """Take a frame; whether it is new, and the highest frame stored if a piece was written.

        Raises FrameGap, and BadRequest: `recording_too_long` forgets the recording.
        """
        if len(pcm) > MAX_BINARY_FRAME:
            raise BadRequest(
                f"A frame is at most {MAX_BINARY_FRAME} bytes.", code=ErrorCode.BAD_FRAME
            )
        frames, size = self._stored(id)
        waiting = self._waiting.setdefault(id, [])
        expected = frames + len(waiting)
        if number < expected:
            return False, None  # sent again; it is here
        if number > expected:
            raise FrameGap
        waiting.append(pcm)
        held = sum(map(len, waiting))
        if size + held > self._max_bytes:
            self.forget(id)
            raise recording_too_long(self._max_seconds)
        return True, self._flush(id) if held >= FLUSH_BYTES else None

    def flush(self) -> dict[str, int]:
        """Store the frames that wait; the highest frame stored of each recording they are of."""
        return {id: self._flush(id) for id in [id for id, held in self._waiting.items() if held]}

    def stop(self, id: str, frames: int) -> None:
        """The recording is whole. Raises FrameGap when frames are missing, BadRequest when it
        is empty or was never started."""
        self._flush(id)
        stored, size = self._stored(id)
        if stored < frames:
            raise FrameGap
        if size < MIN_BYTES:
            self.forget(id)
            raise empty_recording()

    def add_whole(self, id: str, pcm: bytes) -> None:
        """A recording that came in one piece. Raises BadRequest."""
        if len(pcm) < MIN_BYTES:
            raise empty_recording()
        if len(pcm) > self._max_bytes:
            raise recording_too_long(self._max_seconds)
        self._storage.sql("INSERT INTO recordings VALUES (?, 1, ?)", id, len(pcm))
        self._storage.sql("INSERT INTO audio VALUES (?, 0, ?)", id, pcm)

    def pcm(self, id: str) -> bytes:
        rows = self._storage.sql("SELECT pcm FROM audio WHERE recording = ? ORDER BY first", id)
        return b"".join(row[0] for row in rows)

    def so_far(self, id: str) -> bytes:
        """All samples that came, those that are not stored yet included."""
        return self.pcm(id) + b"".join(self._waiting.get(id, []))

    def forget(self, id: str) -> None:
        self._waiting.pop(id, None)
        self._storage.sql("DELETE FROM audio WHERE recording = ?", id)
        self._storage.sql("DELETE FROM recordings WHERE id = ?", id)

    def forget_others(self, kept: str | None) -> None:
        """The question they were for has its answer: no recording but `kept` is wanted."""
        for (id,) in self._storage.sql("SELECT id FROM recordings"):
            if id != kept:
                self.forget(id)

    def _flush(self, id: str) -> int:
        frames, size = self._stored(id)
        waiting = self._waiting.pop(id, [])
        if not waiting:
            return frames - 1
        pcm = b"".join(waiting)
        self._storage.sql("INSERT INTO audio VALUES (?, ?, ?)", id, frames, pcm)
        frames += len(waiting)
        self._storage.sql(
            "UPDATE recordings SET frames = ?, bytes = ? WHERE id = ?", frames, size + len(pcm), id
        )
        return frames - 1

    def _stored(self, id: str) -> tuple[int, int]:
        row = self._storage.row("SELECT frames, bytes FROM recordings WHERE id = ?", id)
        if row is None:
            raise BadRequest(
                "There is no such recording: begin with audio.start.",
                code=ErrorCode.NO_SUCH_RECORDING,
            )
        return int(row[0]), int(row[1])


def empty_recording() -> BadRequest:
    return BadRequest("The recording is empty: record again.", code=ErrorCode.EMPTY_RECORDING)


def recording_too_long(seconds: float) -> BadRequest:
    return BadRequest(
        f"A spoken answer is at most {seconds / 60:g} minutes. Answer in a shorter recording.",
        code=ErrorCode.RECORDING_TOO_LONG,
        details={"seconds": seconds},
    )


def decode_recording(data: bytes) -> bytes:
    """The samples of a recording in one message: WAV, or bare PCM16; 16 kHz, mono.

    Raises BadRequest (`empty_recording`, `not_audio`, `recording_too_long`).
    """
    if not data:
        raise empty_recording()
    if len(data) > MAX_BINARY_FRAME:
        raise BadRequest(
            f"A recording in one message is at most {MAX_BINARY_FRAME} bytes. Send numbered "
            "frames after audio.start instead.",
            code=ErrorCode.RECORDING_TOO_LONG,
        )
    if data[:4] == b"RIFF":
        return _wav(data)
    text = data[:1024]
    printable = all(32 <= byte < 127 or byte in b"\t\r\n" for byte in text)
    if data.startswith(_NOT_AUDIO) or (printable and len(text) >= 16) or len(data) % 2:
        raise _not_audio()
    return data


def _wav(data: bytes) -> bytes:
    try:
        with wave.open(io.BytesIO(data)) as file:
            shape = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            if shape != (SAMPLE_RATE, 1, 2):
                raise BadRequest(
                    "A WAV recording must be 16 kHz, mono, 16 bits; this one is "
                    f"{shape[0]} Hz, {shape[1]} channels, {shape[2] * 8} bits.",
                    code=ErrorCode.NOT_AUDIO,
                )
            pcm = bytes(file.readframes(file.getnframes()))
            return pcm[: len(pcm) // 2 * 2]  # a file cut short may end within a sample
    except (wave.Error, EOFError, RuntimeError) as error:  # the last for a chunk out of bounds
        raise _not_audio() from error


def _not_audio() -> BadRequest:
    return BadRequest(
        "This is not a recording: send WAV or PCM16, 16 kHz, mono.", code=ErrorCode.NOT_AUDIO
    )
