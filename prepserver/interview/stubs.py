"""Typed stubs of the interview objects, for the HTTP routes and for calls between objects."""

from typing import Any

from prepserver.engines.types import Transcription
from prepserver.objects.stubs import ObjectCall, ObjectStub
from prepserver.wire import protocol as wire
from prepserver.wire.agenda import Agenda, EditedTopic

__all__ = ["InterviewStub", "UserInterviewsStub"]


class InterviewStub(ObjectStub):
    """Stub of the object that holds one interview. The object's name is the interview's id."""

    kind = "interview"

    def begin(self, owner: str, spec: dict[str, Any], view: wire.Interview) -> ObjectCall[None]:
        return self._call("begin", owner, spec, view)

    def agenda(self) -> ObjectCall[Agenda]:
        return self._call("agenda")

    def edit_agenda(self, topics: list[EditedTopic]) -> ObjectCall[Agenda]:
        return self._call("edit_agenda", topics)

    def rename(self, title: str) -> ObjectCall[wire.Interview]:
        return self._call("rename", title)

    def messages(self) -> ObjectCall[list[wire.Message]]:
        return self._call("messages")

    def transcription(self, message_id: str) -> ObjectCall[Transcription]:
        return self._call("transcription", message_id)

    def delete(self, owner: str, id: str) -> ObjectCall[None]:
        return self._call("delete", owner, id)


class UserInterviewsStub(ObjectStub):
    """Stub of the object that holds a user's list of interviews. The object's name is the user's
    id."""

    kind = "user-interviews"

    def create(self, request: wire.CreateInterview) -> ObjectCall[wire.Interview]:
        return self._call("create", request)

    def find(self, id: str) -> ObjectCall[wire.Interview]:
        return self._call("find", id)

    def list(self) -> ObjectCall[list[wire.Interview]]:
        return self._call("list")

    def delete(self, id: str) -> ObjectCall[None]:
        return self._call("delete", id)

    def update(self, view: wire.Interview) -> ObjectCall[None]:
        return self._call("update", view)

    def confirm_deleted(self, id: str) -> ObjectCall[None]:
        return self._call("confirm_deleted", id)
