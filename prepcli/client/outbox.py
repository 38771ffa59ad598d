"""What is to be said to a room, in order, until the server has acknowledged it. No I/O."""

from msgspec.structs import replace

from prepcli.client.recording import MAX_WAITING, Recording
from prepcli.errors import PrepError, QueueFull, UsageError
from prepserver.wire.codec import encode
from prepserver.wire.limits import MAX_TEXT_FRAME
from prepserver.wire.protocol import (
    AudioCancel,
    AudioStart,
    AudioStop,
    ClientMessages,
    Failure,
    GetAllMessages,
    UserRecording,
    UserTyping,
)

__all__ = ["MAX_MESSAGES", "Outbox"]

MAX_MESSAGES = 256
"""Messages that may wait; a person who types offline never gets near."""

EPHEMERAL = (GetAllMessages, UserTyping, UserRecording)
"""True at the moment only: not repeated after a reconnect, which brings a snapshot anyway."""


class QueuedMessage:
    """A message that waits to be acknowledged, or just to be sent when it has no id."""

    def __init__(self, id: str, kind: type, data: bytes) -> None:
        self.id = id
        self.kind = kind
        self.data = data
        self.sent = False


class Outbox:
    """The queue of one room. `next` gives what to send now, `restart` begins a connection."""

    def __init__(self, *, limit: int = MAX_MESSAGES) -> None:
        self._limit = limit
        self._entries: list[QueuedMessage | Recording] = []

    def __len__(self) -> int:
        """Entries that are not acknowledged."""
        return len(self._entries)

    def queue_message(self, message: ClientMessages, new_id: str) -> None:
        """Queue a message; `new_id` becomes its id if it can have one and has none.

        Raises QueueFull, UsageError for a message that the server would not take for its size,
        ValueError for those that belong to a Recording.
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
                f"This is too long to send: {len(data):,} bytes of at most {MAX_TEXT_FRAME:,}. "
                "Shorten it."
            )
        if len(self._entries) >= self._limit:
            raise _full()
        self._entries.append(QueuedMessage(message.id, type(message), data))

    def _queue_ephemeral(self, message: ClientMessages) -> None:
        """The latest of its kind stands for those that wait."""
        data = encode(message)
        if isinstance(message, UserTyping) and len(data) > MAX_TEXT_FRAME:
            data = encode(UserTyping())  # that somebody types is what matters
        for entry in self._entries:
            if isinstance(entry, QueuedMessage) and entry.kind is type(message) and not entry.sent:
                entry.data = data
                return
        self._entries.append(QueuedMessage("", type(message), data))

    def queue_recording(self, recording: Recording) -> None:
        """Queue a recording: its frames leave as they come. Raises QueueFull when other
        recordings, ten minutes together, or too many messages wait already."""
        waiting = sum(
            each.unacknowledged_frames for each in self._entries if isinstance(each, Recording)
        )
        if waiting >= MAX_WAITING or len(self._entries) >= self._limit:
            raise _full()
        self._entries.append(recording)

    def start_connection(self) -> None:
        """A new connection: all that is not acknowledged leaves again, in order."""
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
        """The next message for this connection: str for text, bytes for binary, None to wait."""
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
        """The server has stored what has this id."""
        for entry in self._find(id):
            if isinstance(entry, Recording):
                entry.mark_accepted()
            self._entries.remove(entry)

    def mark_refused(self, failure: Failure) -> None:
        """The server will not have what the failure names; sending it again would not help."""
        for entry in self._find(failure.id):
            if isinstance(entry, Recording):
                entry.mark_refused(failure)
                if not entry.finished:
                    continue
            self._entries.remove(entry)

    def drop_oldest_sent(self) -> str:
        """Take out the first message that has left and was not answered; its id, if there is one.

        Messages are answered in order, so this is the one that the server stopped at.
        """
        for entry in self._entries:
            if isinstance(entry, QueuedMessage) and entry.sent:
                self._entries.remove(entry)
                return entry.id
        return ""

    def acknowledge_frames(self, id: str, frame: int) -> None:
        """The server has stored this recording up to a frame."""
        for entry in self._find(id):
            if isinstance(entry, Recording):
                entry.acknowledge_frames(frame)

    def fail_all(self, error: PrepError) -> None:
        """The room is left: whoever waits for a recording learns why it did not arrive."""
        for entry in self._entries:
            if isinstance(entry, Recording):
                entry.fail(error)
        self._entries.clear()

    def _find(self, id: str) -> list[QueuedMessage | Recording]:
        return [entry for entry in self._entries if id and entry.id == id]


def _full() -> QueueFull:
    return QueueFull("Too much waits for the connection to come back. Try again when it is back.")
