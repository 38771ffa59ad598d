"""Answers from a queue, and the commands that a person types at the prompt instead of an answer."""

import uuid
from collections.abc import Callable

from prepcli.client.state import RoomState
from prepcli.headless.answers import Answer, AnswerQueue, TypedAnswer
from prepcli.headless.output import Output
from prepcli.terminal_text import printable
from prepserver.wire.client_messages import (
    CandidatePause,
    CandidateRepeat,
    CandidateRephrase,
    CandidateSkip,
    ClientMessages,
    HintRequest,
    InterviewEnd,
)

__all__ = ["take_answer"]

REQUESTS: dict[str, tuple[Callable[..., ClientMessages], str]] = {
    "/repeat": (CandidateRepeat, "hear the question again"),
    "/rephrase": (CandidateRephrase, "hear the question in other words"),
    "/skip": (CandidateSkip, "go on without an answer"),
    "/pause": (CandidatePause, "take time to think"),
    "/hint": (HintRequest, "get a hint"),
    "/end": (InterviewEnd, "end the interview with a summary"),
}
"""Message and purpose of each command that sends one to the room."""

AGENDA = "/agenda"
HELP = "/help"
COMMANDS = (*REQUESTS, AGENDA, HELP)


async def take_answer(
    answers: AnswerQueue, output: Output, state: RoomState
) -> Answer | ClientMessages | None:
    """Return the next answer, the message that a command sends, or None after the last answer.

    Only a person at a terminal gives commands; `/agenda` and `/help` are carried out here. After a
    doubtful recording, a person edits the words that were heard.
    """
    heard = printable(str(state.doubt.details.get("text", ""))) if state.doubt else ""
    if not (answers.next_is_interactive or (heard and answers.is_interactive)):
        if heard:
            output.note(f"heard: {heard}")
        return await answers.next_answer(heard)
    while True:
        output.start_prompt()
        answer = await answers.next_answer(heard)
        text = answer.text if isinstance(answer, TypedAnswer) else ""
        command = text.strip().lower()
        if command not in COMMANDS:
            text = _unescape(text)
            output.end_prompt(text)
            return TypedAnswer(text) if text else answer
        output.end_prompt("")
        if command == AGENDA:
            _show_agenda(output, state)
        elif command == HELP:
            _show_help(output)
        else:
            return REQUESTS[command][0](id=uuid.uuid4().hex)


def _unescape(text: str) -> str:
    """Return an answer without the slash that escapes a command: `//skip` is the answer `/skip`.
    Other answers are unchanged."""
    escaped = text.removeprefix("/")
    return escaped if escaped.strip().lower() in COMMANDS else text


def _show_agenda(output: Output, state: RoomState) -> None:
    if state.agenda is not None:
        output.show_agenda(state.agenda)
    else:
        output.note("The agenda of a real interview is hidden until the end.")


def _show_help(output: Output) -> None:
    for name, (_, purpose) in REQUESTS.items():
        output.note(f"{name}: {purpose}")
    output.note(f"{AGENDA}: show the agenda")
    output.note("Any other text is your answer. To answer with one of these words, write //skip.")
