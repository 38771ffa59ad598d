"""One user's list of interviews: a durable object with a row for each, and a room of its own."""

import hashlib
import uuid
from typing import Any

import msgspec

from prepserver.errors import BadRequest, Conflict, NotFound
from prepserver.interview import schema
from prepserver.interview.stubs import InterviewStub
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["UserInterviews"]

RECOVERY_DELAY = 5.0
"""Seconds after which a creation or removal that was cut short is taken up again."""


class UserInterviews(DurableObject):
    """Creates, lists and removes interviews, and owns the answer to "whose is it?"."""

    migrations = schema.USER_INTERVIEWS

    def __init__(self, context: Context, version: str) -> None:
        super().__init__(context)
        self._version = version

    # --- Called by the edge -------------------------------------------------------------------

    def create(self, request: wire.CreateInterview) -> wire.Interview:
        """Again with the same id gives the interview that is there.

        Raises Conflict (`being_removed`) while the one with this id is on its way out.
        """
        id = self._id_for(request.id)
        known = self.context.storage.row("SELECT deleting FROM interviews WHERE id = ?", id)
        if known is not None:
            if known[0]:
                raise Conflict(
                    "The interview with this id is being removed: try again in a moment.",
                    code=ErrorCode.BEING_REMOVED,
                    retryable=True,
                )
            return self.find(id)
        now = self.context.clock.now()
        spec = {field: getattr(request, field) for field in wire.InterviewSpec.__struct_fields__}
        view = wire.Interview(
            id=id,
            title=_title(request),
            role=request.role,
            company=request.company,
            type=request.type,
            level=request.level,
            questions=request.questions,
            created_at=now,
            updated_at=now,
        )
        self.context.storage.sql(
            "INSERT INTO interviews (id, created_at, view, spec) VALUES (?, ?, ?, ?)",
            id,
            now,
            msgspec.json.encode(view),
            msgspec.json.encode(spec),
        )
        self.context.set_alarm(now + RECOVERY_DELAY)
        self._tell_begin(view, spec)
        self.context.broadcast(wire.InterviewCreated(interview=view))
        return view

    def find(self, id: str) -> wire.Interview:
        """Raises NotFound, also for an interview of somebody else."""
        row = self.context.storage.row(
            "SELECT view FROM interviews WHERE id = ? AND NOT deleting", id
        )
        if row is None:
            raise NotFound("You have no interview with this id.", code=ErrorCode.NO_SUCH_INTERVIEW)
        return msgspec.json.decode(row[0], type=wire.Interview)

    def list(self) -> list[wire.Interview]:
        """The newest first."""
        rows = self.context.storage.sql(
            "SELECT view FROM interviews WHERE NOT deleting ORDER BY created_at DESC, id"
        )
        return [msgspec.json.decode(row[0], type=wire.Interview) for row in rows]

    def delete(self, id: str) -> None:
        """Raises NotFound. The row stays, hidden, until the interview itself is gone."""
        self.find(id)
        self.context.storage.sql("UPDATE interviews SET deleting = 1 WHERE id = ?", id)
        self.context.set_alarm(self.context.clock.now() + RECOVERY_DELAY)
        self.context.tell(InterviewStub(id).delete(self.context.name, id))
        self.context.broadcast(wire.InterviewDeleted(interview_id=id))

    # --- Called by interviews -----------------------------------------------------------------

    def update(self, view: wire.Interview) -> None:
        """An interview's news; what is already known is not news."""
        row = self.context.storage.row(
            "SELECT view, spec FROM interviews WHERE id = ? AND NOT deleting", view.id
        )
        encoded = msgspec.json.encode(view)
        if row is None or (row[0] == encoded and row[1] is None):
            return
        if view.updated_at < msgspec.json.decode(row[0], type=wire.Interview).updated_at:
            return  # overtaken on its way
        self.context.storage.sql(
            "UPDATE interviews SET view = ?, spec = NULL WHERE id = ?", encoded, view.id
        )
        self.context.broadcast(wire.InterviewUpdated(interview=view))

    def forget(self, id: str) -> None:
        self.context.storage.sql("DELETE FROM interviews WHERE id = ? AND deleting", id)

    # --- Hooks --------------------------------------------------------------------------------

    def on_connect(self, connection: Connection) -> None:
        hello = wire.Hello(
            protocol=wire.PROTOCOL_VERSION,
            server=self._version,
            connection=connection.id,
            party="user-interviews",
            room=self.context.name,
        )
        self.context.send(connection, hello)
        self._send_snapshot(connection)

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        if isinstance(message, bytes):
            raise BadRequest("This room takes no audio.", code=ErrorCode.BAD_MESSAGE)
        try:
            decoded = codec.decode_client(message)
        except msgspec.DecodeError as error:
            raise BadRequest(
                f"The message cannot be understood: {error}", code=ErrorCode.BAD_MESSAGE
            ) from error
        if not isinstance(decoded, wire.GetAllMessages):
            raise BadRequest("This room only takes get_all_messages.", code=ErrorCode.BAD_MESSAGE)
        self._send_snapshot(connection)
        if decoded.id:
            self.context.send(connection, wire.Accepted(id=decoded.id))

    def on_alarm(self, retry_count: int) -> None:
        """Take up what a crash cut short between this object and an interview."""
        for id, view, spec, deleting in self.context.storage.sql(
            "SELECT id, view, spec, deleting FROM interviews WHERE deleting OR spec IS NOT NULL"
        ):
            if deleting:
                self.context.tell(InterviewStub(id).delete(self.context.name, id))
            else:
                self._tell_begin(
                    msgspec.json.decode(view, type=wire.Interview), msgspec.json.decode(spec)
                )
            self.context.set_alarm(self.context.clock.now() + RECOVERY_DELAY)

    def _id_for(self, wanted: str) -> str:
        """An interview's id is its address on the whole server, so it is never what a client
        says: another user's interview could be entered by naming it. What a client says makes,
        together with the user, always the same id."""
        if not wanted:
            return uuid.uuid4().hex
        return hashlib.sha256(f"{self.context.name}/{wanted}".encode()).hexdigest()[:32]

    def _tell_begin(self, view: wire.Interview, spec: dict[str, Any]) -> None:
        self.context.tell(InterviewStub(view.id).begin(self.context.name, spec, view))

    def _send_snapshot(self, connection: Connection) -> None:
        self.context.send(connection, wire.Snapshot(interviews=self.list()))


def _title(request: wire.CreateInterview) -> str:
    return f"{request.role} at {request.company}" if request.company else request.role
