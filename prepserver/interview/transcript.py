"""Storage of the transcript: the messages of one interview, in order."""

from collections.abc import Sequence

import msgspec

from prepserver.engines.types import Transcription
from prepserver.errors import NotFound
from prepserver.objects.storage import Storage
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Intent, Message, MessageKind, Role, Source, speaker_of

__all__ = ["Transcript"]

_COLUMNS = "id, role, kind, text, source, position, created_at, edited, intent, topic"


class Transcript:
    """Stored messages of one interview."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def messages(self) -> list[Message]:
        rows = self._storage.sql(f"SELECT {_COLUMNS} FROM messages ORDER BY position")
        return [_message(*row) for row in rows]

    def add(
        self,
        id: str,
        kind: MessageKind,
        text: str,
        source: Source,
        *,
        at: float,
        intent: Intent | None = None,
        topic: str = "",
    ) -> Message:
        """Append a message, or replace the text and source of the message with this id.

        `at` is in seconds since the Unix epoch.
        """
        self._storage.sql(
            "INSERT INTO messages"
            " (id, position, role, kind, text, source, created_at, intent, topic) VALUES"
            " (?, (SELECT coalesce(max(position) + 1, 0) FROM messages), ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET text = excluded.text, source = excluded.source",
            id,
            speaker_of(kind),
            kind,
            text,
            source,
            at,
            intent,
            topic,
        )
        return self._get(id)

    def set_intent(self, id: str, kind: MessageKind, intent: Intent) -> Message:
        """Set the kind and the intent of a candidate's message."""
        self._storage.sql("UPDATE messages SET kind = ?, intent = ? WHERE id = ?", kind, intent, id)
        return self._get(id)

    def add_transcription(self, message_id: str, transcription: Transcription) -> None:
        """Store the transcription of a spoken answer."""
        self._storage.sql(
            "INSERT OR REPLACE INTO transcriptions VALUES (?, ?)",
            message_id,
            msgspec.json.encode(transcription),
        )

    def transcription(self, message_id: str) -> Transcription:
        """Return the transcription of a spoken answer.

        Raises NotFound if the message is not a spoken answer.
        """
        row = self._storage.row(
            "SELECT transcription FROM transcriptions WHERE message_id = ?", message_id
        )
        if row is None:
            raise NotFound(
                "The interview has no spoken answer with this id.", code=ErrorCode.NO_SUCH_MESSAGE
            )
        return msgspec.json.decode(row[0], type=Transcription)

    def edit(self, id: str, text: str) -> Message:
        """Replace the text of an answer and mark the answer as edited.

        Raises NotFound if no answer has this id.
        """
        changed = self._storage.sql(
            "UPDATE messages SET text = ?, edited = 1 WHERE id = ? AND kind = ? RETURNING id",
            text,
            id,
            MessageKind.ANSWER,
        )
        if not changed:
            raise NotFound(
                "The interview has no answer with this id.", code=ErrorCode.NO_SUCH_MESSAGE
            )
        return self._get(id)

    def count(self, kind: MessageKind) -> int:
        row = self._storage.row("SELECT count(*) FROM messages WHERE kind = ?", kind)
        return 0 if row is None else int(row[0])

    def first_question(self) -> Message | None:
        row = self._storage.row(
            f"SELECT {_COLUMNS} FROM messages WHERE kind = ? ORDER BY position",
            MessageKind.QUESTION,
        )
        return None if row is None else _message(*row)

    def last_candidate_message(self) -> Message | None:
        """Return the last message of the candidate, or None if there is none."""
        row = self._storage.row(
            f"SELECT {_COLUMNS} FROM messages WHERE kind IN (?, ?) ORDER BY position DESC",
            MessageKind.ANSWER,
            MessageKind.REQUEST,
        )
        return None if row is None else _message(*row)

    def count_open_requests(self, intents: Sequence[Intent]) -> int:
        """Count the requests with one of `intents` since the open question."""
        marks = ", ".join("?" for _ in intents)
        row = self._storage.row(
            f"SELECT count(*) FROM messages WHERE kind = ? AND intent IN ({marks}) AND position >"
            " (SELECT coalesce(max(position), -1) FROM messages WHERE kind = ?)",
            MessageKind.REQUEST,
            *intents,
            MessageKind.QUESTION,
        )
        return 0 if row is None else int(row[0])

    def open_question(self) -> Message | None:
        """Return the question that awaits an answer, or None if there is none."""
        last = self._storage.row(
            f"SELECT {_COLUMNS} FROM messages WHERE kind IN (?, ?, ?) ORDER BY position DESC",
            MessageKind.QUESTION,
            MessageKind.ANSWER,
            MessageKind.CLOSING,
        )
        message = None if last is None else _message(*last)
        return message if message and message.kind is MessageKind.QUESTION else None

    def hint(self) -> Message | None:
        """Return the latest hint for the open question, or None if there is none."""
        question = self.open_question()
        if question is None:
            return None
        row = self._storage.row(
            f"SELECT {_COLUMNS} FROM messages WHERE kind = ? AND position > ?"
            " ORDER BY position DESC",
            MessageKind.HINT,
            question.position,
        )
        return None if row is None else _message(*row)

    def _get(self, id: str) -> Message:
        row = self._storage.row(f"SELECT {_COLUMNS} FROM messages WHERE id = ?", id)
        assert row is not None
        return _message(*row)


def _message(
    id: str,
    role: str,
    kind: str,
    text: str,
    source: str,
    position: int,
    created_at: float,
    edited: int,
    intent: str | None,
    topic: str,
) -> Message:
    return Message(
        id=id,
        role=Role(role),
        kind=MessageKind(kind),
        text=text,
        source=Source(source),
        position=position,
        created_at=created_at,
        edited=bool(edited),
        intent=None if intent is None else Intent(intent),
        topic=topic,
    )
