"""Speech as it comes in: from which connection, for which recording, up to which frame; and the
ears that follow it."""

import uuid
from collections import Counter
from collections.abc import Callable

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

_LISTEN = "listen"
"""Key of the work of ears, before the recording's id."""

MAX_WORKER_LOSSES = 2
"""How often the ears may lose a recording and be given it again while it is spoken."""


class AudioIngest:
    """The recordings that clients of one interview have under way. A connection carries one at a
    time; which one is attached to it, so that it is known after hibernation too."""

    def __init__(
        self,
        context: Context,
        recordings: RecordingStore,
        gateway: Gateway,
        asked: Callable[[str], tuple[Call, str]],
    ) -> None:
        """`asked` gives the call and the vocabulary to listen to a recording with."""
        self._context = context
        self._recordings = recordings
        self._gateway = gateway
        self._asked = asked
        self._listening: dict[str, LiveTranscription] = {}
        self._losses: Counter[str] = Counter()

    def start(self, connection: Connection, id: str) -> None:
        """Begin, or go on after a reconnect, and say which frames are stored.

        Raises Conflict when too many are open.
        """
        others = (each.state for each in self._context.connections() if each is not connection)
        in_use = {state.get("recording") for state in others if state}
        stored = self._recordings.start(id, in_use)
        self._attach(connection, id)
        self._context.send(connection, wire.AudioAck(id=id, frame=stored))
        self._follow(id)

    def _follow(self, id: str) -> None:
        """Let the ears follow a recording, from its beginning. One that they fail at again and
        again is transcribed when it is whole."""
        if id in self._listening or self._losses[id] > MAX_WORKER_LOSSES:
            return
        listening = LiveTranscription(id, self._context.clock)
        self._listening[id] = listening
        if heard := self._recordings.so_far(id):
            listening.feed(heard)
        call, vocabulary = self._asked(id)
        context, gateway = self._context, self._gateway
        context.spawn(
            lambda: listening.run(gateway, call, vocabulary, context.post), f"{_LISTEN} {id}"
        )

    def lost(self, id: str) -> None:
        """The ears lost what they had heard."""
        if id in self._listening:
            self.deafen(id)
            self._losses[id] += 1
            self._follow(id)

    def followed(self, id: str) -> LiveTranscription | None:
        """The ears that follow a recording that is whole now, if any do."""
        listening = self._listening.get(id)
        if listening is not None:
            listening.finish()
        return listening

    def deafen_all(self, but: str | None = None) -> None:
        """No recording but this one is wanted any more."""
        for id in [id for id in self._listening if id != but]:
            self.deafen(id)

    def deafen(self, id: str) -> None:
        """The ears need not follow this recording any more."""
        if self._listening.pop(id, None) is not None:
            self._context.cancel(f"{_LISTEN} {id}")

    def refuse(self, connection: Connection, id: str) -> None:
        """Frames that are on their way for a recording that is not taken must not pass for
        recordings of their own."""
        self._attach(connection, id, refused=True)

    def is_whole(self, connection: Connection, data: bytes) -> bool:
        """Whether a binary message is a recording of its own and not a frame."""
        attached = connection.state or {}
        return attached.get("recording") is None or (
            bool(attached.get("refused")) and data[:4] == b"RIFF"
        )

    def add_whole(self, pcm: bytes) -> str:
        """Store a recording that came in one piece; its id. Raises BadRequest."""
        id = uuid.uuid4().hex
        self._recordings.add_whole(id, pcm)
        return id

    def add_frame(self, connection: Connection, data: bytes) -> bool:
        """Take a numbered frame; True when a piece was stored, and so will be acknowledged.

        Raises PrepServerError, to be answered under the recording's id.
        """
        attached = connection.state or {}
        id = attached["recording"]
        if attached.get("refused"):
            return False
        try:
            number, pcm = codec.unpack_frame(data)
            taken, stored = self._recordings.add(id, number, pcm)
        except FrameGap:
            # Frames were lost with an instance that failed: the client sends them again.
            self._context.close(connection, wire.CLOSE_RESTART, "send the recording's frames again")
            return False
        except ValueError as error:
            raise BadRequest(str(error), code=ErrorCode.BAD_FRAME) from error
        except BadRequest:
            self.refuse(connection, id)
            self.deafen(id)
            raise
        if taken and (listening := self._listening.get(id)) is not None:
            listening.feed(pcm)
        elif taken:
            self._follow(id)
        if stored is not None:
            self._context.send(connection, wire.AudioAck(id=id, frame=stored))
        return stored is not None

    def stop(self, id: str, frames: int) -> None:
        """The recording is whole. Raises Conflict when frames of it are missing, BadRequest when
        it is empty or unknown."""
        try:
            self._recordings.stop(id, frames)
        except FrameGap:
            raise Conflict(
                "Frames of the recording are missing: send audio.start and what follows the "
                "frame it acknowledges, then audio.stop.",
                code=ErrorCode.FRAMES_MISSING,
                retryable=True,
            ) from None

    def cancel(self, connection: Connection, id: str) -> None:
        self._recordings.forget(id)
        self.deafen(id)
        self.leave(connection)

    def leave(self, connection: Connection) -> None:
        """The connection carries no recording any more."""
        self._attach(connection, None)

    def flush(self) -> None:
        """Store the frames that wait in memory: a speaker who pauses loses nothing when the
        instance goes."""
        for id, stored in self._recordings.flush().items():
            for connection in self._context.connections():
                if current_recording(connection) == id:
                    self._context.send(connection, wire.AudioAck(id=id, frame=stored))

    def _attach(self, connection: Connection, id: str | None, *, refused: bool = False) -> None:
        connection.state = {**(connection.state or {}), "recording": id, "refused": refused}


def current_recording(connection: Connection) -> str:
    """The id of the recording that a connection carries, or nothing."""
    return (connection.state or {}).get("recording") or ""
