"""Durable object that holds one user's list of interviews and has a room of its own."""

import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from prepserver.errors import BadRequest, Conflict, NotFound
from prepserver.interview import schema
from prepserver.interview.stubs import InterviewStub
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject
from prepserver.objects.storage import Storage
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.languages import check_language

__all__ = ["UserInterviews", "find_interview", "list_interviews"]

RECOVERY_DELAY = 5.0
"""Seconds until the alarm that repeats a creation or deletion if the interview has not confirmed
it, for example because of a crash."""


class UserInterviews(DurableObject):
    """Object that creates, lists and deletes the interviews of one user, and checks ownership."""

    migrations = schema.USER_INTERVIEWS

    def __init__(
        self,
        context: Context,
        version: str,
        choose_set: Callable[[str], str],
        find_fetch: Callable[[], wire.ModelFetch | None] = lambda: None,
    ) -> None:
        """`choose_set` is `Gateway.choose_set`. `find_fetch` returns the progress of the models
        that the server fetches."""
        super().__init__(context)
        self._version = version
        self._choose_set = choose_set
        self._find_fetch = find_fetch

    # --- Called by the HTTP routes ------------------------------------------------------------

    def create(self, request: wire.CreateInterview) -> wire.Interview:
        """Create and start an interview. A request with a known id returns the existing interview.

        The interview's mailbox receives `begin` before the caller receives the result, so a client
        that connects at once finds the interview started.

        Raises Conflict (`being_removed`) while the interview with this id is being deleted, and
        BadRequest if the language is unknown or, with the code `model_not_found`, the server does
        not offer the requested set of models.
        """
        try:
            check_language(request.language)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        id = self._interview_id(request.id)
        known = self.context.storage.row("SELECT deleting, view FROM interviews WHERE id = ?", id)
        if known is not None:
            deleting, encoded = known
            if deleting:
                raise Conflict(
                    "The interview with this id is being deleted. Try again in a moment.",
                    code=ErrorCode.BEING_REMOVED,
                    retryable=True,
                )
            existing = msgspec.json.decode(encoded, type=wire.Interview)
            self._begin_unconfirmed(existing)
            return existing
        request = msgspec.structs.replace(request, model_set=self._chosen_set(request.model_set))
        now = self.context.clock.now()
        spec = {field: getattr(request, field) for field in wire.InterviewSpec.__struct_fields__}
        view = wire.Interview(
            id=id,
            title=_default_title(request),
            role=request.role,
            company=request.company,
            type=request.type,
            level=request.level,
            mode=request.mode,
            questions=request.questions,
            model_set=request.model_set,
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
        self._begin_interview(view, spec)
        self.context.broadcast(wire.InterviewCreated(interview=view))
        return view

    def find(self, id: str) -> wire.Interview:
        """Return the interview with this id.

        If a crash came between the creation of the interview and its start, start it now: a caller
        that connects to the interview next finds it started.

        Raises NotFound if the user has no such interview.
        """
        view = find_interview(self.context.storage, id)
        self._begin_unconfirmed(view)
        return view

    def list(self) -> list[wire.Interview]:
        """Return the user's interviews, the newest first."""
        return list_interviews(self.context.storage)

    def delete(self, id: str) -> None:
        """Hide an interview and start to delete it.

        The row stays until the interview confirms the deletion. Raises NotFound if the user has no
        interview with this id.
        """
        find_interview(self.context.storage, id)
        self.context.storage.sql("UPDATE interviews SET deleting = 1 WHERE id = ?", id)
        self.context.set_alarm(self.context.clock.now() + RECOVERY_DELAY)
        self.context.tell(InterviewStub(id).delete(self.context.name, id))
        self.context.broadcast(wire.InterviewDeleted(interview_id=id))

    # --- Called by interviews -----------------------------------------------------------------

    def update(self, view: wire.Interview) -> None:
        """Store a newer view of an interview, which also confirms that the interview has begun.

        Broadcast only a changed view, and ignore a view that is older than the stored one.
        """
        row = self.context.storage.row(
            "SELECT view, spec FROM interviews WHERE id = ? AND NOT deleting", view.id
        )
        if row is None:
            return
        stored, unconfirmed = row
        encoded = msgspec.json.encode(view)
        changed = stored != encoded
        if view.updated_at < msgspec.json.decode(stored, type=wire.Interview).updated_at:
            return
        if changed or unconfirmed is not None:
            self.context.storage.sql(
                "UPDATE interviews SET view = ?, spec = NULL WHERE id = ?", encoded, view.id
            )
        if changed:
            self.context.broadcast(wire.InterviewUpdated(interview=view))

    def confirm_deleted(self, id: str) -> None:
        """Remove the row of an interview that has been deleted."""
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
            raise BadRequest(
                "This room accepts no audio. Send audio to an interview's room.",
                code=ErrorCode.BAD_MESSAGE,
            )
        try:
            decoded = codec.decode_client(message)
        except msgspec.DecodeError as error:
            raise BadRequest(
                f"The message is invalid: {error}.", code=ErrorCode.BAD_MESSAGE
            ) from error
        if not isinstance(decoded, client_messages.GetAllMessages):
            raise BadRequest(
                "This room accepts only get_all_messages. Send other messages to an interview's "
                "room.",
                code=ErrorCode.BAD_MESSAGE,
            )
        self._send_snapshot(connection)
        if decoded.id:
            self.context.send(connection, wire.Accepted(id=decoded.id))

    def on_alarm(self, retry_count: int) -> None:
        """Repeat every creation and deletion that its interview has not confirmed."""
        for id, view, spec, deleting in self.context.storage.sql(
            "SELECT id, view, spec, deleting FROM interviews WHERE deleting OR spec IS NOT NULL"
        ):
            if deleting:
                self.context.tell(InterviewStub(id).delete(self.context.name, id))
            else:
                self._begin_interview(
                    msgspec.json.decode(view, type=wire.Interview), msgspec.json.decode(spec)
                )
            self.context.set_alarm(self.context.clock.now() + RECOVERY_DELAY)

    def _chosen_set(self, requested: str) -> str:
        chosen = self._choose_set(requested)
        if requested not in ("", chosen):
            raise BadRequest(
                f"This server does not offer the models {requested!r}. Leave the choice to the "
                f"server, which uses {chosen!r}.",
                code=ErrorCode.MODEL_NOT_FOUND,
            )
        return chosen

    def _interview_id(self, requested: str) -> str:
        """Return an id that is unique on the whole server; random if no id is requested.

        A requested id is hashed together with the user's id. A repeated request therefore gives the
        same id, and the id of another user's interview gives no access to that interview.
        """
        if not requested:
            return uuid.uuid4().hex
        return hashlib.sha256(f"{self.context.name}/{requested}".encode()).hexdigest()[:32]

    def _begin_unconfirmed(self, view: wire.Interview) -> None:
        """Start an interview again that has not confirmed its start."""
        row = self.context.storage.row(
            "SELECT spec FROM interviews WHERE id = ? AND spec IS NOT NULL", view.id
        )
        if row is not None:
            self._begin_interview(view, msgspec.json.decode(row[0]))

    def _begin_interview(self, view: wire.Interview, spec: dict[str, Any]) -> None:
        self.context.tell(InterviewStub(view.id).begin(self.context.name, spec, view))

    def _send_snapshot(self, connection: Connection) -> None:
        self.context.send(
            connection, wire.Snapshot(interviews=self.list(), fetch=self._find_fetch())
        )


def list_interviews(storage: Storage) -> list[wire.Interview]:
    """Return the stored interviews of one user, the newest first."""
    rows = storage.sql(
        "SELECT view FROM interviews WHERE NOT deleting ORDER BY created_at DESC, id"
    )
    return [msgspec.json.decode(row[0], type=wire.Interview) for row in rows]


def find_interview(storage: Storage, id: str) -> wire.Interview:
    """Return a stored interview of one user. Raises NotFound if the user has no interview with this
    id."""
    row = storage.row("SELECT view FROM interviews WHERE id = ? AND NOT deleting", id)
    if row is None:
        raise NotFound("You have no interview with this id.", code=ErrorCode.NO_SUCH_INTERVIEW)
    return msgspec.json.decode(row[0], type=wire.Interview)


def _default_title(request: wire.CreateInterview) -> str:
    return f"{request.role} at {request.company}" if request.company else request.role
