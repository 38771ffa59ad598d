"""A spoken answer in transit, cut into frames that are kept until the server has stored them.

This module does no I/O: `next_to_send` returns what to send now. `start_connection` must be called
after each reconnect.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from prepcli.errors import PrepError, QueueFull, RecordingRefused
from prepserver.wire.client_messages import (
    AudioCancel,
    AudioStart,
    AudioStop,
)
from prepserver.wire.codec import encode, pack_frame
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import BYTES_PER_SECOND, Failure

__all__ = ["FRAME_BYTES", "Recording"]

FRAME_BYTES = BYTES_PER_SECOND * 40 // 1000
"""Size in bytes of a 40 ms frame: short enough for prompt captions, long enough to make headers
cheap."""

MAX_UNACKNOWLEDGED = 600 * 1000 // 40
"""Maximum number of frames kept without an acknowledgement: ten minutes of audio, the server's
default limit for a recording."""

MAX_RESENDS = 3
"""Maximum number of times that frames missing on the server are resent before the recording
fails."""


class Recording:
    """One spoken answer, whose delivery survives reconnects. Call `feed`, then `stop` or
    `cancel`."""

    def __init__(self, id: str, wake: Callable[[], None]) -> None:
        """`wake` is called when there may be something to send."""
        self.id = id
        self._wake = wake
        self._partial_frame = b""
        self._frames: deque[bytes] = deque()
        """Frames that the server has not acknowledged."""
        self._first = 0
        """Number of the first frame in `_frames`."""
        self._next = 0
        """Number of the next frame to send."""
        self._start_sent = False
        """True once `audio.start` has been sent on the current connection."""
        self._open = False
        """True once the server has answered `audio.start` on the current connection."""
        self._stopping = False
        self._stop_sent = False
        self._cancelled = False
        self._known_to_server = False
        """True if `audio.start` has been sent on any connection and `audio.cancel` has not."""
        self._resends = 0
        self._done = asyncio.Event()
        self._error: PrepError | None = None

    # --- For the producer of the audio --------------------------------------------------------

    def feed(self, pcm: bytes) -> None:
        """Append any number of bytes of PCM16 little-endian audio, 16 kHz, mono.

        Raises RecordingRefused if the server has rejected the recording or lost part of it,
        QueueFull if ten minutes of its audio are unacknowledged, the room's error if the room has
        ended, and ValueError after `stop` or `cancel`.
        """
        if self._error is not None:
            raise self._error
        if self._stopping or self._cancelled:
            raise ValueError("the recording has ended")
        if len(self._frames) >= MAX_UNACKNOWLEDGED:
            raise QueueFull(
                "The server has not received the last ten minutes of the recording, so recording "
                "has stopped. The audio will be sent once prep has reconnected."
            )
        data = self._partial_frame + pcm
        whole = len(data) - len(data) % FRAME_BYTES
        self._frames.extend(
            data[start : start + FRAME_BYTES] for start in range(0, whole, FRAME_BYTES)
        )
        self._partial_frame = data[whole:]
        if whole:
            self._wake()

    async def stop(self) -> None:
        """End the recording and wait until the server has stored all of it, across reconnects.

        Raises RecordingRefused if the server rejects the recording or has lost part of it; the room
        yields a rejection as well. Raises the room's error if the room ends first.
        """
        if not self._stopping and not self._cancelled:
            self._stopping = True
            if last := self._partial_frame[: len(self._partial_frame) // 2 * 2]:
                self._frames.append(last)
            self._partial_frame = b""
            self._wake()
        await self._done.wait()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Discard an unfinished recording, in the client and on the server."""
        if not self._done.is_set():
            self._cancelled = True
            self._frames.clear()
            self._done.set()
            self._wake()

    # --- For the outbox -----------------------------------------------------------------------

    @property
    def unacknowledged_frames(self) -> int:
        """Number of frames that the server has not acknowledged."""
        return len(self._frames)

    @property
    def finished(self) -> bool:
        """True once nothing is left to send or to wait for."""
        return self._done.is_set() and not self._cancel_pending

    @property
    def blocks_later_messages(self) -> bool:
        """True while the recording has ended and its `audio.stop`, which precedes later messages,
        is unsent."""
        return self._stopping and not self._stop_sent and not self._done.is_set()

    @property
    def _cancel_pending(self) -> bool:
        return self._cancelled and self._known_to_server

    def next_to_send(self) -> str | bytes | None:
        """Return the next text message (str) or frame (bytes), or None if nothing can be sent
        now."""
        if self._cancelled:
            if not self._cancel_pending:
                return None
            self._known_to_server = False
            return encode(AudioCancel(id=self.id)).decode()
        if self._done.is_set():
            return None
        if not self._start_sent:
            self._start_sent = self._known_to_server = True
            return encode(AudioStart(id=self.id)).decode()
        if not self._open:
            return None
        end = self._first + len(self._frames)
        if self._next < end:
            frame = pack_frame(self._next, self._frames[self._next - self._first])
            self._next += 1
            return frame
        if self._stopping and not self._stop_sent:
            self._stop_sent = True
            return encode(AudioStop(id=self.id, frames=end)).decode()
        return None

    def start_connection(self) -> None:
        """Prepare for a new connection, on which the server is asked from which frame to resume."""
        self._start_sent = self._open = self._stop_sent = False

    def acknowledge_frames(self, frame: int) -> None:
        """Drop the frames up to and including `frame`, because the server has stored them.

        The first acknowledgement on a connection starts the sending of frames. The recording fails
        if that acknowledgement shows that the server has lost frames that it had acknowledged.
        """
        while self._frames and self._first <= frame:
            self._frames.popleft()
            self._first += 1
        if self._open:
            return
        if frame + 1 < self._first:
            self._cancelled = True  # otherwise the server keeps the recording that it has reopened
            self.fail(
                RecordingRefused(
                    "The server has lost the start of the recording. Record your answer again."
                )
            )
        else:
            self._open = True
            self._next = self._first

    def mark_accepted(self) -> None:
        """Finish the recording, because the server has stored all of it."""
        self._frames.clear()
        self._done.set()

    def mark_refused(self, failure: Failure) -> None:
        """Resend frames that are missing on the server, up to three times. After three resends, or
        for any other error, the recording fails with the server's message."""
        if failure.code == ErrorCode.FRAMES_MISSING and self._resends < MAX_RESENDS:
            self._resends += 1
            self.start_connection()
        else:
            self.fail(RecordingRefused(failure.message))

    def fail(self, error: PrepError) -> None:
        """Finish the recording without delivery. `feed` and `stop` then raise `error`."""
        if not self._done.is_set():
            self._error = error
            self._frames.clear()
            self._done.set()
