"""Storage of the agenda, of the next move, and of what was asked and answered."""

import msgspec

from prepserver.interview.agenda import MINUTES_PER_QUESTION, PlannedTopic, StoredAgenda
from prepserver.interview.dialogue.decision import Move, MoveKind
from prepserver.interview.dialogue.records import AskedQuestion, AssessedAnswer
from prepserver.interview.questions.bank import Bank
from prepserver.objects.storage import Storage
from prepserver.wire.agenda import Topic, TopicStatus
from prepserver.wire.protocol import Interview, Message, MessageKind, Mode, Status

__all__ = ["DialogueStore", "is_agenda_hidden", "read_agenda"]

_AGENDA = "agenda"
_NEXT_MOVE = "next_move"
"""Storage keys."""

_OLD_PLAN = "questions"
"""Storage key of the ids of the main questions in interviews that were planned without an
agenda."""


class DialogueStore:
    """Stored state of the conversation: where it stands on the agenda, and what comes next."""

    def __init__(self, storage: Storage, bank: Bank) -> None:
        self._storage = storage
        self._bank = bank

    # --- Agenda -------------------------------------------------------------------------------

    def agenda(self) -> StoredAgenda | None:
        """Return the agenda, or None before it is planned."""
        stored = read_agenda(self._storage)
        if stored is None and (ids := self._storage.get(_OLD_PLAN, list[str])) is not None:
            return self._agenda_of_old_plan(ids)
        return stored

    def save_agenda(self, agenda: StoredAgenda) -> None:
        self._storage.put(_AGENDA, agenda)

    def _agenda_of_old_plan(self, ids: list[str]) -> StoredAgenda:
        """Return an agenda with a topic for each question of an old plan. The questions that were
        asked are done, and the last one is current."""
        rows = self._storage.sql(
            "SELECT text FROM messages WHERE kind = ? ORDER BY position", MessageKind.QUESTION
        )
        texts = [str(text) for (text,) in rows]
        topics: list[PlannedTopic] = []
        last, last_position = -1, -1
        for question in self._bank.get_questions(ids):
            position = max((n for n, text in enumerate(texts) if question.text in text), default=-1)
            if position > last_position:
                last, last_position = len(topics), position
            status = TopicStatus.PLANNED if position < 0 else TopicStatus.DONE
            topic = Topic(
                id=question.id, question=question.text, minutes=MINUTES_PER_QUESTION, status=status
            )
            topics.append(PlannedTopic(topic=topic, question=question))
        if last >= 0:
            current = msgspec.structs.replace(topics[last].topic, status=TopicStatus.CURRENT)
            topics[last] = msgspec.structs.replace(topics[last], topic=current)
        return StoredAgenda(topics=tuple(topics))

    # --- Moves --------------------------------------------------------------------------------

    def next_move(self) -> Move:
        """Return the move that was decided for the next question. The default opens a topic."""
        return self._storage.get(_NEXT_MOVE, Move) or Move(MoveKind.NEXT)

    def save_next_move(self, move: Move) -> None:
        self._storage.put(_NEXT_MOVE, move)

    def moves(self) -> dict[str, Move]:
        """Return the move for which each question was asked, by message id."""
        rows = self._storage.sql("SELECT message_id, asked FROM asked_questions")
        return {str(id): msgspec.json.decode(asked, type=AskedQuestion).move for id, asked in rows}

    def add_question(self, message: Message) -> None:
        """Store that the question was asked for the next move."""
        self._storage.sql(
            "INSERT OR REPLACE INTO asked_questions VALUES (?, ?)",
            message.id,
            msgspec.json.encode(AskedQuestion(move=self.next_move())),
        )

    def add_assessment(self, message_id: str, assessed: AssessedAnswer) -> None:
        """Store what the answer with this id covered."""
        self._storage.sql(
            "INSERT OR REPLACE INTO assessments VALUES (?, ?)",
            message_id,
            msgspec.json.encode(assessed),
        )

    def assessment(self, message_id: str) -> AssessedAnswer | None:
        """Return what the answer with this id covered, or None if it was not assessed."""
        row = self._storage.row(
            "SELECT assessment FROM assessments WHERE message_id = ?", message_id
        )
        return None if row is None else msgspec.json.decode(row[0], type=AssessedAnswer)


def read_agenda(storage: Storage) -> StoredAgenda | None:
    """Return the agenda that an interview has stored, or None if there is none."""
    return storage.get(_AGENDA, StoredAgenda)


def is_agenda_hidden(view: Interview) -> bool:
    """Return True for a real interview that is not over."""
    return view.mode is Mode.REAL and view.status is not Status.COMPLETED
