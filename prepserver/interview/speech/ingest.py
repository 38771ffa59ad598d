"""Audio ingest: storage and live transcription of the frames that each connection sends."""

import uuid
from collections import Counter
from collections.abc import Callable

from prepserver.engines.types import ExpectedSpeech
from prepserver.errors import BadRequest, Conflict
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.speech.live_transcription import LiveTranscription
from prepserver.interview.speech.recordings import FrameGap, RecordingStore
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["AudioIngest", "current_recording"]

MAX_WORKER_LOSSES = 2
"""Maximum number of times that the live transcription of a recording restarts from the beginning
after the speech engine has died. After a further loss, the recording is transcribed as a whole when
it is finished."""


class AudioIngest:
    """Receiver that stores, acknowledges and transcribes the recordings sent by the clients of one
    interview. A connection sends one recording at a time. The recording's id is part
    of the connection's attached state, which survives hibernation."""

    def __init__(
        self,
        context: Context,
        recordings: RecordingStore,
        gateway: Gateway,
        prepare_call: Callable[[str], tuple[Call, ExpectedSpeech]],
    ) -> None:
        """Create the ingest of one interview.

        `prepare_call` returns the gateway call and the expectations for a recording.
        """
        self._context = context
        self._recordings = recordings
        self._gateway = gateway
        self._prepare_call = prepare_call
        self._live: dict[str, LiveTranscription] = {}
        """Live transcriptions by recording id."""
        self._worker_losses: Counter[str] = Counter()

    # --- Recordings ---------------------------------------------------------------------------

    def start(self, connection: Connection, id: str) -> None:
        """Start a recording, or resume one after a reconnect, and acknowledge the stored frames.

        Raises Conflict if too many other recordings are in use.
        """
        others = (each.state for each in self._context.connections() if each is not connection)
        in_use = {state.get("recording") for state in others if state}
        stored = self._recordings.open(id, in_use)
        self._attach(connection, id)
        self._context.send(connection, wire.AudioAck(id=id, frame=stored))
        self._start_transcribing(id)

    def add_frame(self, connection: Connection, data: bytes) -> bool:
        """Add a numbered frame. Return True if the frame completes a chunk, which is then
        acknowledged.

        If earlier frames are missing, close the connection, so that the client sends the missing
        frames again. Frames of a rejected recording are ignored. Raises BadRequest if the frame is
        not valid, or the recording is unknown or too long.
        """
        attached = connection.state or {}
        id = attached["recording"]
        if attached.get("rejected"):
            return False
        try:
            number, pcm = codec.unpack_frame(data)
            is_new, stored = self._recordings.add_frame(id, number, pcm)
        except FrameGap:
            # Pending frames were lost with a failed instance. The client sends them again.
            self._context.close(connection, wire.CLOSE_RESTART, "send the recording's frames again")
            return False
        except ValueError as error:
            raise BadRequest(str(error), code=ErrorCode.BAD_FRAME) from error
        except BadRequest:
            self.ignore_frames(connection, id)
            self.stop_transcribing(id)
            raise
        if is_new and (live := self._live.get(id)) is not None:
            live.feed(pcm)
        elif is_new:
            self._start_transcribing(id)
        if stored is not None:
            self._context.send(connection, wire.AudioAck(id=id, frame=stored))
        return stored is not None

    def finish(self, id: str, frames: int) -> None:
        """Finish a recording of `frames` frames.

        Raises Conflict if frames are missing, and BadRequest if the recording is too short or
        unknown.
        """
        try:
            self._recordings.finish(id, frames)
        except FrameGap:
            raise Conflict(
                "Frames of the recording are missing. Send audio.start, then every frame after the "
                "acknowledged one, then audio.stop.",
                code=ErrorCode.FRAMES_MISSING,
                retryable=True,
            ) from None

    def cancel(self, connection: Connection, id: str) -> None:
        """Delete a recording, cancel its live transcription, and mark the connection as sending no
        recording."""
        self._recordings.delete(id)
        self.stop_transcribing(id)
        self.detach(connection)

    def ignore_frames(self, connection: Connection, id: str) -> None:
        """Ignore the frames of a rejected recording that are still arriving.

        Otherwise each such frame would be taken for a complete recording.
        """
        self._attach(connection, id, rejected=True)

    def detach(self, connection: Connection) -> None:
        """Mark the connection as sending no recording."""
        self._attach(connection, None)

    def is_complete_recording(self, connection: Connection, data: bytes) -> bool:
        """Return True if a binary message is a whole recording rather than a frame."""
        attached = connection.state or {}
        return attached.get("recording") is None or (
            bool(attached.get("rejected")) and data[:4] == b"RIFF"
        )

    def add_complete(self, pcm: bytes) -> str:
        """Store a recording that arrived in one message. Return its id.

        Raises BadRequest if the recording is too short or too long.
        """
        id = uuid.uuid4().hex
        self._recordings.add_complete(id, pcm)
        return id

    def flush(self) -> None:
        """Store and acknowledge all pending frames, so that none are lost when the instance is
        released."""
        for id, stored in self._recordings.flush().items():
            for connection in self._context.connections():
                if current_recording(connection) == id:
                    self._context.send(connection, wire.AudioAck(id=id, frame=stored))

    def _attach(self, connection: Connection, id: str | None, *, rejected: bool = False) -> None:
        connection.state = {**(connection.state or {}), "recording": id, "rejected": rejected}

    # --- Live transcription -------------------------------------------------------------------

    def _start_transcribing(self, id: str) -> None:
        """Start the live transcription of a recording from its beginning.

        Do nothing if the transcription is already running, or if the speech engine has died more
        than `MAX_WORKER_LOSSES` times.
        """
        if id in self._live or self._worker_losses[id] > MAX_WORKER_LOSSES:
            return
        live = LiveTranscription(id, self._context.clock)
        self._live[id] = live
        if received := self._recordings.received_pcm(id):
            live.feed(received)
        call, expected = self._prepare_call(id)
        context, gateway = self._context, self._gateway
        context.spawn(lambda: live.run(gateway, call, expected, context.post), _task_key(id))

    def restart_transcribing(self, id: str) -> None:
        """Restart the live transcription of a recording after the speech engine has died."""
        if id in self._live:
            self.stop_transcribing(id)
            self._worker_losses[id] += 1
            self._start_transcribing(id)

    def finish_transcribing(self, id: str) -> LiveTranscription | None:
        """Mark a recording as complete. Return its live transcription, or None if there is none."""
        live = self._live.get(id)
        if live is not None:
            live.finish()
        return live

    def stop_transcribing(self, id: str) -> None:
        """Cancel the live transcription of a recording."""
        if self._live.pop(id, None) is not None:
            self._context.cancel(_task_key(id))

    def stop_transcribing_all(self, *, keep: str | None = None) -> None:
        """Cancel every live transcription except that of the recording `keep`."""
        for id in [id for id in self._live if id != keep]:
            self.stop_transcribing(id)


def current_recording(connection: Connection) -> str:
    """Return the id of the recording that a connection is sending; empty if there is none."""
    return (connection.state or {}).get("recording") or ""


def _task_key(recording: str) -> str:
    return f"transcribe {recording}"
