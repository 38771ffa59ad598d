"""Queue of the messages and recordings that a room has not acknowledged, without I/O.

`next_to_send` returns what to send now. `start_connection` must be called after each reconnect.
"""

from msgspec.structs import replace

from prepcli.client.recording import MAX_UNACKNOWLEDGED, Recording
from prepcli.errors import PrepError, QueueFull, UsageError
from prepserver.wire.client_messages import (
    AudioCancel,
    AudioStart,
    AudioStop,
    ClientMessages,
    GetAllMessages,
    UserRecording,
    UserTyping,
)
from prepserver.wire.codec import encode
from prepserver.wire.limits import MAX_TEXT_FRAME
from prepserver.wire.protocol import Failure

__all__ = ["MAX_MESSAGES", "Outbox"]

MAX_MESSAGES = 256
"""Number of queued messages and recordings at which the outbox is full, far more than a person
creates offline."""

EPHEMERAL = (GetAllMessages, UserTyping, UserRecording)
"""Types of messages that are sent without an id and dropped on a reconnect."""


class QueuedMessage:
    """A message that waits to be sent and, if it has an id, to be acknowledged."""

    def __init__(self, id: str, kind: type, data: bytes) -> None:
        self.id = id
        self.kind = kind
        self.data = data
        self.sent = False
        """True once the message has been sent on the current connection."""


class Outbox:
    """Queue of one room's messages and recordings, in the order in which they were queued."""

    def __init__(self, *, limit: int = MAX_MESSAGES) -> None:
        self._limit = limit
        self._entries: list[QueuedMessage | Recording] = []

    def __len__(self) -> int:
        """Return the number of messages and recordings that still have to be sent or
        acknowledged."""
        return len(self._entries)

    def queue_message(self, message: ClientMessages, new_id: str) -> None:
        """Queue a message. A message that is not ephemeral and has no id gets the id `new_id`.

        Raises QueueFull if the outbox is full, UsageError if the message exceeds the server's size
        limit, and ValueError for a message that only a Recording sends.
        """
        if isinstance(message, AudioStart | AudioStop | AudioCancel):
            raise ValueError("a recording sends its own messages: use Room.start_recording()")
        if isinstance(message, EPHEMERAL):
            self._queue_ephemeral(message)
            return
        if not message.id:
            message = replace(message, id=new_id)
        data = encode(message)
        if len(data) > MAX_TEXT_FRAME:
            raise UsageError(
                f"The message is too long: {len(data):,} bytes; the maximum is "
                f"{MAX_TEXT_FRAME:,}. Shorten your text."
            )
        if len(self._entries) >= self._limit:
            raise _queue_full()
        self._entries.append(QueuedMessage(message.id, type(message), data))

    def _queue_ephemeral(self, message: ClientMessages) -> None:
        """Queue an ephemeral message, which replaces an unsent message of the same type."""
        data = encode(message)
        if isinstance(message, UserTyping) and len(data) > MAX_TEXT_FRAME:
            data = encode(UserTyping())  # without the draft, it still postpones the hint
        for entry in self._entries:
            if isinstance(entry, QueuedMessage) and entry.kind is type(message) and not entry.sent:
                entry.data = data
                return
        self._entries.append(QueuedMessage("", type(message), data))

    def queue_recording(self, recording: Recording) -> None:
        """Queue a recording, whose frames are sent as they are recorded.

        Raises QueueFull if the outbox is full or if ten minutes of audio in other recordings are
        unacknowledged.
        """
        unacknowledged = sum(
            each.unacknowledged_frames for each in self._entries if isinstance(each, Recording)
        )
        if unacknowledged >= MAX_UNACKNOWLEDGED or len(self._entries) >= self._limit:
            raise _queue_full()
        self._entries.append(recording)

    def start_connection(self) -> None:
        """Prepare for a new connection: drop ephemeral messages, mark other messages as unsent, and
        let recordings resume."""
        kept: list[QueuedMessage | Recording] = []
        for entry in self._entries:
            if isinstance(entry, Recording):
                entry.start_connection()
                kept.append(entry)
            elif entry.id:
                entry.sent = False
                kept.append(entry)
        self._entries = kept

    def next_to_send(self) -> str | bytes | None:
        """Return the next text (str) or binary (bytes) message, or None if nothing can be sent."""
        self._entries = [e for e in self._entries if not (isinstance(e, Recording) and e.finished)]
        connection_busy = False
        for entry in self._entries:
            if isinstance(entry, Recording):
                # A connection carries one recording at a time.
                if not connection_busy and (data := entry.next_to_send()) is not None:
                    return data
                connection_busy = True
                if entry.blocks_later_messages:
                    return None
            elif not entry.sent:
                entry.sent = True
                if not entry.id:
                    self._entries.remove(entry)
                return entry.data.decode()
        return None

    def mark_accepted(self, id: str) -> None:
        """Remove the message or recording with the id `id`, because the server has stored its
        content."""
        for entry in self._find(id):
            if isinstance(entry, Recording):
                entry.mark_accepted()
            self._entries.remove(entry)

    def mark_refused(self, failure: Failure) -> None:
        """Remove the message or recording that the server rejected, unless missing frames of the
        recording are resent."""
        for entry in self._find(failure.id):
            if isinstance(entry, Recording):
                entry.mark_refused(failure)
                if not entry.finished:
                    continue
            self._entries.remove(entry)

    def drop_oldest_sent(self) -> str:
        """Remove the oldest message that was sent but not answered. Return its id, or an empty
        string if there is no such message.

        Called when the server has closed the connection because a message is too big: the server
        answers in order, so the oldest unanswered message is the cause.
        """
        for entry in self._entries:
            if isinstance(entry, QueuedMessage) and entry.sent:
                self._entries.remove(entry)
                return entry.id
        return ""

    def acknowledge_frames(self, id: str, frame: int) -> None:
        """Record that the server has stored the frames of a recording up to and including
        `frame`."""
        for entry in self._find(id):
            if isinstance(entry, Recording):
                entry.acknowledge_frames(frame)

    def fail_all(self, error: PrepError) -> None:
        """Empty the queue. `feed` and `stop` of each unfinished recording then raise `error`."""
        for entry in self._entries:
            if isinstance(entry, Recording):
                entry.fail(error)
        self._entries.clear()

    def _find(self, id: str) -> list[QueuedMessage | Recording]:
        return [entry for entry in self._entries if id and entry.id == id]


def _queue_full() -> QueueFull:
    return QueueFull(
        "Too many messages are waiting for a connection. Try again once prep has reconnected."
    )
