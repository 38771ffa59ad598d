"""Interviews of one user, read from a data directory that no server is using.

Neither the objects nor the models are needed: only the databases are opened. A list can be older
than its interviews if the last server was killed, because the interviews report their progress
again when a server starts.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.errors import NotFound
from prepserver.interview import schema
from prepserver.interview.dialogue_store import is_agenda_hidden, read_agenda
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.interview.transcript import Transcript
from prepserver.interview.user_interviews import find_interview, list_interviews
from prepserver.objects.registry import open_stored_object
from prepserver.wire.agenda import Agenda
from prepserver.wire.protocol import Interview, Message, Source
from prepserver.wire.rest import SpokenAnswer

__all__ = ["StoredInterview", "read_interview", "read_interviews"]


class StoredInterview(Struct, frozen=True, kw_only=True):
    """An interview with its transcript and its agenda."""

    interview: Interview
    messages: list[Message]
    """Messages in order of position."""
    spoken: dict[str, SpokenAnswer]
    """Transcription of each spoken answer that has one, by message id."""
    agenda: Agenda | None
    """Agenda; null before it is planned, and in a real interview before the end."""


def read_interviews(data_dir: Path, user_id: str) -> list[Interview]:
    """Return the user's interviews, newest first. Raises Conflict if a server is using the data
    directory, and StorageError if the disk fails."""
    with open_stored_object(
        data_dir, UserInterviewsStub.kind, user_id, schema.USER_INTERVIEWS
    ) as storage:
        return list_interviews(storage)


def read_interview(data_dir: Path, user_id: str, id: str) -> StoredInterview:
    """Return one interview of the user. Raises NotFound if the user has no interview with this id,
    and the errors of `read_interviews`."""
    with open_stored_object(
        data_dir, UserInterviewsStub.kind, user_id, schema.USER_INTERVIEWS
    ) as storage:
        interview = find_interview(storage, id)
    with open_stored_object(data_dir, InterviewStub.kind, id, schema.INTERVIEW) as storage:
        transcript = Transcript(storage)
        messages = transcript.messages()
        spoken = {
            message.id: answer
            for message in messages
            if message.source is Source.SPEECH
            and (answer := _spoken_answer(transcript, message.id)) is not None
        }
        agenda = read_agenda(storage)
    return StoredInterview(
        interview=interview,
        messages=messages,
        spoken=spoken,
        agenda=None if agenda is None or is_agenda_hidden(interview) else agenda.view,
    )


def _spoken_answer(transcript: Transcript, message_id: str) -> SpokenAnswer | None:
    try:
        transcription = transcript.transcription(message_id)
    except NotFound:
        return None  # from before transcriptions were stored
    return msgspec.convert(transcription, SpokenAnswer, from_attributes=True)
