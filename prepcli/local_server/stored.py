"""The local server's interviews, read from its files while it is not running.

No server is started and no model is needed, so this takes a fraction of a second.
"""

from pathlib import Path

from msgspec import Struct

from prepcli.errors import NotFound, RequestRefused
from prepcli.local_server.commands import run_command
from prepcli.local_server.server import USER
from prepserver.wire.agenda import Agenda
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Interview, Message, Mode, Status
from prepserver.wire.rest import InterviewList, SpokenAnswer

__all__ = ["StoredInterviews"]


class _StoredInterview(Struct, frozen=True):
    """JSON output of `prep-server interviews ID`."""

    interview: Interview
    messages: list[Message]
    spoken: dict[str, SpokenAnswer]
    agenda: Agenda | None


class StoredInterviews:
    """Reader of the interviews in the local server's data directory.

    Its methods raise NotFound if the user has no interview with the given id, and LocalServerFailed
    if the files cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        """`directory` is the data directory, which no server is using."""
        self._arguments = ("--user", USER, "--data-dir", str(directory))
        self._read: dict[str, _StoredInterview] = {}

    async def list_interviews(self) -> list[Interview]:
        """Return the interviews, newest first."""
        found = await run_command("interviews", *self._arguments, type=InterviewList)
        return found.interviews

    async def get_interview(self, interview_id: str) -> Interview:
        return (await self._find(interview_id)).interview

    async def get_messages(self, interview_id: str) -> list[Message]:
        """Return the messages of an interview in order of position."""
        return (await self._find(interview_id)).messages

    async def get_agenda(self, interview_id: str) -> Agenda:
        """Return the agenda, which has no topics before it is planned. Raises RequestRefused in a
        real interview that is not completed."""
        found = await self._find(interview_id)
        view = found.interview
        if view.mode is Mode.REAL and view.status is not Status.COMPLETED:
            raise RequestRefused(
                "The agenda of a real interview is hidden until the end.",
                code=ErrorCode.AGENDA_HIDDEN,
            )
        return found.agenda or Agenda(topics=[])

    async def get_spoken_answer(self, interview_id: str, message_id: str) -> SpokenAnswer:
        """Return the transcription of a spoken answer. Raises NotFound if no transcription is
        stored."""
        answer = (await self._find(interview_id)).spoken.get(message_id)
        if answer is None:
            raise NotFound("No transcription of this answer is stored.")
        return answer

    async def _find(self, interview_id: str) -> _StoredInterview:
        if interview_id not in self._read:
            arguments = ("interviews", *self._arguments, "--", interview_id)
            self._read[interview_id] = await run_command(*arguments, type=_StoredInterview)
        return self._read[interview_id]
