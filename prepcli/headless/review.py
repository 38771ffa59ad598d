"""Review of the agenda before the start of an interview without a screen."""

import uuid

from prepcli.client.agenda import EDIT_HELP, parse_edit
from prepcli.client.room import Room
from prepcli.errors import RequestRefused, UsageError
from prepcli.headless.answers import AnswerQueue
from prepcli.headless.output import Output
from prepserver.wire.agenda import Agenda
from prepserver.wire.client_messages import AgendaEdit, InterviewStart
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Accepted, Failure

__all__ = ["AgendaReview"]

PROMPT = "Agenda: "


class AgendaReview:
    """Dialogue in which a person edits the agenda of a planned interview and starts the interview.
    Without a person at a terminal, the interview starts at once."""

    def __init__(self, room: Room, answers: AnswerQueue, output: Output) -> None:
        self._room = room
        self._answers = answers
        self._output = output
        self._explained = False
        self._edit_id = ""
        """Id of the edit that the server has not confirmed; empty if there is none."""
        self._start_id = ""
        self.due = True
        """True unless an edit or the start waits for the server."""

    async def ask(self, agenda: Agenda | None) -> bool:
        """Ask for commands until one is valid, and send it. Return False if the person ends the
        input instead."""
        self.due = False
        if agenda is not None and self._answers.is_interactive:
            if not self._explained:
                self._output.note(f"Press Enter to start, or edit: {EDIT_HELP}")
                self._explained = True
            while line := await self._ask_command():
                try:
                    edit = parse_edit(agenda, line)
                except UsageError as error:
                    self._output.note(str(error))
                    continue
                self._edit_id = uuid.uuid4().hex
                await self._room.send(AgendaEdit(id=self._edit_id, topics=edit))
                return True
            if line is None:
                return False
        self._start_id = uuid.uuid4().hex
        await self._room.send(InterviewStart(id=self._start_id))
        return True

    async def _ask_command(self) -> str | None:
        self._output.start_prompt()
        line = await self._answers.next_command(PROMPT)
        self._output.end_prompt("")
        return None if line is None else line.strip()

    def handle_response(self, response: Accepted | Failure) -> bool:
        """Handle the server's response to an edit or to the start. Return False for the response to
        another message. Raises RequestRefused if the interview cannot start."""
        if not response.id or response.id not in (self._edit_id, self._start_id):
            return False
        failure = response if isinstance(response, Failure) else None
        if response.id == self._edit_id:
            self.due = True
            if failure is not None:
                self._output.note(failure.message)
        elif failure is not None and failure.code != ErrorCode.ALREADY_STARTED:
            raise RequestRefused(failure.message, code=failure.code)
        return True
