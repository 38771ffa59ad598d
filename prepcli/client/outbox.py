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

_PASSING = (GetAllMessages, UserTyping, UserRecording)
"""True at the moment only: not repeated after a reconnect, which brings a snapshot anyway."""


class _Letter:
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
        self._entries: list[_Letter | Recording] = []

    def __len__(self) -> int:
        """Entries that are not acknowledged."""
        return len(self._entries)

    def put(self, message: ClientMessages, new_id: str) -> None:
        """Queue a message; `new_id` becomes its id if it can have one and has none.

        Raises QueueFull, UsageError for a message that the server would not take for its size,
        ValueError for those that belong to a Recording.
        """
        if isinstance(message, AudioStart | AudioStop | AudioCancel):
            raise ValueError("a recording sends its own messages: use Room.recording()")
        if isinstance(message, _PASSING):
            self._put_passing(message)
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
        self._entries.append(_Letter(message.id, type(message), data))

    def _put_passing(self, message: ClientMessages) -> None:
        """The latest of its kind stands for those that wait."""
        data = encode(message)
        if isinstance(message, UserTyping) and len(data) > MAX_TEXT_FRAME:
            data = encode(UserTyping())  # that somebody types is what matters
        for entry in self._entries:
            if isinstance(entry, _Letter) and entry.kind is type(message) and not entry.sent:
                entry.data = data
                return
        self._entries.append(_Letter("", type(message), data))

    def add(self, recording: Recording) -> None:
        """Queue a recording: its frames leave as they come. Raises QueueFull when other
        recordings, ten minutes together, or too many messages wait already."""
        waiting = sum(each.waiting for each in self._entries if isinstance(each, Recording))
        if waiting >= MAX_WAITING or len(self._entries) >= self._limit:
            raise _full()
        self._entries.append(recording)

    def restart(self) -> None:
        """A new connection: all that is not acknowledged leaves again, in order."""
        kept: list[_Letter | Recording] = []
        for entry in self._entries:
            if isinstance(entry, Recording):
                entry.restart()
                kept.append(entry)
            elif entry.id:
                entry.sent = False
                kept.append(entry)
        self._entries = kept

    def next(self) -> str | bytes | None:
        """The next message for this connection: str for text, bytes for binary, None to wait."""
        self._entries = [e for e in self._entries if not (isinstance(e, Recording) and e.over)]
        earlier = False
        for entry in self._entries:
            if isinstance(entry, Recording):
                # A connection carries one recording at a time.
                if earlier:
                    continue
                earlier = True
                data = entry.next()
                if data is not None:
                    return data
                if entry.holds_up:
                    return None
            elif not entry.sent:
                entry.sent = True
                if not entry.id:
                    self._entries.remove(entry)
                return entry.data.decode()
        return None

    def accepted(self, id: str) -> None:
        """The server has stored what has this id."""
        for entry in self._with(id):
            if isinstance(entry, Recording):
                entry.delivered()
            self._entries.remove(entry)

    def refused(self, failure: Failure) -> None:
        """The server will not have what the failure names; sending it again would not help."""
        for entry in self._with(failure.id):
            if isinstance(entry, Recording):
                entry.refused(failure)
                if not entry.over:
                    continue
            self._entries.remove(entry)

    def drop_oldest_sent(self) -> str:
        """Take out the first message that has left and was not answered; its id, if there is one.

        Messages are answered in order, so this is the one that the server stopped at.
        """
        for entry in self._entries:
            if isinstance(entry, _Letter) and entry.sent:
                self._entries.remove(entry)
                return entry.id
        return ""

    def acknowledged(self, id: str, frame: int) -> None:
        """The server has stored this recording up to a frame."""
        for entry in self._with(id):
            if isinstance(entry, Recording):
                entry.acknowledged(frame)

    def abandon(self, error: PrepError) -> None:
        """The room is left: whoever waits for a recording learns why it did not arrive."""
        for entry in self._entries:
            if isinstance(entry, Recording):
                entry.abandon(error)
        self._entries.clear()

    def _with(self, id: str) -> list[_Letter | Recording]:
        return [entry for entry in self._entries if id and entry.id == id]


def _full() -> QueueFull:
    return QueueFull("Too much waits for the connection to come back. Try again when it is back.")
