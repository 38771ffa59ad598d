"""A spoken answer on its way to the server: cut into frames, kept until they are stored there.

No I/O: `next` says what to send on the connection of the moment, and `restart` that there is a
new one.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from prepcli.errors import PrepError, QueueFull, RecordingRefused
from prepserver.wire.codec import encode, pack_frame
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    BYTES_PER_SECOND,
    AudioCancel,
    AudioStart,
    AudioStop,
    Failure,
)

__all__ = ["FRAME_BYTES", "Recording"]

FRAME_BYTES = BYTES_PER_SECOND * 40 // 1000
"""40 ms: short enough for captions to follow, long enough that headers cost nothing."""

MAX_WAITING = 600 * 1000 // 40
"""Frames kept without an acknowledgement: the longest answer a server takes."""

MAX_REPAIRS = 3
"""How often frames that the server lost are sent again before the recording is given up."""


class Recording:
    """One recording. `feed` it, then `stop` or `cancel` it; a reconnect loses nothing of it."""

    def __init__(self, id: str, wake: Callable[[], None]) -> None:
        """`wake` is called whenever there may be something to send."""
        self.id = id
        self._wake = wake
        self._tail = b""
        self._frames: deque[bytes] = deque()
        self._first = 0
        """Number of the frame at the left of `_frames`; those before it are stored."""
        self._sent = 0
        """Number of the next frame to send."""
        self._started = False
        self._open = False
        """The server has said where to go on, on this connection."""
        self._stopping = False
        self._stop_sent = False
        self._cancelled = False
        self._announced = False
        """Whether any connection ever carried `audio.start`."""
        self._repairs = 0
        self._done = asyncio.Event()
        self._error: PrepError | None = None

    # --- For the one who records --------------------------------------------------------------

    def feed(self, pcm: bytes) -> None:
        """Add samples: PCM16 little-endian, 16 kHz, mono; any number of bytes.

        Raises RecordingRefused when the server has refused the recording meanwhile, QueueFull
        when ten minutes of it wait for the connection.
        """
        if self._error is not None:
            raise self._error
        if self._stopping or self._cancelled:
            raise ValueError("the recording is over")
        if len(self._frames) >= MAX_WAITING:
            raise QueueFull(
                "The server cannot be reached and the recording has grown too long to keep. "
                "Stop it and answer again when the connection is back."
            )
        data = self._tail + pcm
        whole = len(data) - len(data) % FRAME_BYTES
        self._frames.extend(
            data[start : start + FRAME_BYTES] for start in range(0, whole, FRAME_BYTES)
        )
        self._tail = data[whole:]
        if whole:
            self._wake()

    async def stop(self) -> None:
        """The recording is whole. Returns when the server has stored it, offline times included.

        Raises RecordingRefused when the server would not have it; the room yields the server's
        own message as well.
        """
        if not self._stopping and not self._cancelled:
            self._stopping = True
            if last := self._tail[: len(self._tail) // 2 * 2]:
                self._frames.append(last)
            self._tail = b""
            self._wake()
        await self._done.wait()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Forget the recording, here and on the server."""
        if not self._done.is_set():
            self._cancelled = True
            self._frames.clear()
            self._done.set()
            self._wake()

    # --- For the outbox -----------------------------------------------------------------------

    @property
    def unacknowledged_frames(self) -> int:
        """Frames that the server has not stored."""
        return len(self._frames)

    @property
    def finished(self) -> bool:
        """Nothing is left to send or to wait for."""
        return self._done.is_set() and not self._owes_cancel

    @property
    def blocks_later_messages(self) -> bool:
        """What was said after the end of the recording has to wait for it to leave."""
        return self._stopping and not self._stop_sent and not self._done.is_set()

    @property
    def _owes_cancel(self) -> bool:
        return self._cancelled and self._announced

    def next_to_send(self) -> str | bytes | None:
        """The next message for this connection: str for text, bytes for a frame."""
        if self._cancelled:
            if not self._owes_cancel:
                return None
            self._announced = False
            return encode(AudioCancel(id=self.id)).decode()
        if self._done.is_set():
            return None
        if not self._started:
            self._started = self._announced = True
            return encode(AudioStart(id=self.id)).decode()
        if not self._open:
            return None
        end = self._first + len(self._frames)
        if self._sent < end:
            frame = pack_frame(self._sent, self._frames[self._sent - self._first])
            self._sent += 1
            return frame
        if self._stopping and not self._stop_sent:
            self._stop_sent = True
            return encode(AudioStop(id=self.id, frames=end)).decode()
        return None

    def start_connection(self) -> None:
        """There is a new connection: ask the server again where to go on."""
        self._started = self._open = self._stop_sent = False

    def acknowledge_frames(self, frame: int) -> None:
        """The server has stored all frames up to this one."""
        while self._frames and self._first <= frame:
            self._frames.popleft()
            self._first += 1
        if self._open:
            return
        if frame + 1 < self._first:
            self._cancelled = True  # or the server keeps what it has just begun anew
            self.fail(
                RecordingRefused("The server has lost the beginning of the recording: repeat it.")
            )
        else:
            self._open = True
            self._sent = self._first

    def mark_accepted(self) -> None:
        """The server has the whole recording."""
        self._frames.clear()
        self._done.set()

    def mark_refused(self, failure: Failure) -> None:
        """The server answered with an error."""
        if failure.code == ErrorCode.FRAMES_MISSING and self._repairs < MAX_REPAIRS:
            self._repairs += 1
            self.start_connection()
        else:
            self.fail(RecordingRefused(failure.message))

    def fail(self, error: PrepError) -> None:
        """It will never arrive."""
        if not self._done.is_set():
            self._error = error
            self._frames.clear()
            self._done.set()
