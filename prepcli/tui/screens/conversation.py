"""View of the conversation, derived from the room's state: messages to show and actions to
allow."""

from prepcli.client.state import RoomState, is_completed, is_planned, open_question
from prepcli.tui.keys import BEGIN, RETRY
from prepcli.tui.widgets.transcript import TranscriptState
from prepserver.wire.protocol import Message, MessageKind, Phase

WAITING = frozenset({Phase.IDLE, Phase.HINTING})
"""Phases in which the candidate may answer, if a question is open."""


def messages(state: RoomState) -> tuple[Message, ...]:
    """Return all messages in order of position, including the hint for the open question."""
    hint = state.hint
    if hint is None or any(message.id == hint.id for message in state.messages):
        return state.messages
    return tuple(sorted((*state.messages, hint), key=lambda message: message.position))


def transcript_state(
    state: RoomState, sending: str = "", *, transcribing: bool = False
) -> TranscriptState:
    """Return the content of the transcript. `sending` is the text of an unacknowledged answer.

    A caption is shown only while an answer is being recorded or transcribed.
    """
    speaking = transcribing or state.phase is Phase.TRANSCRIBING
    return TranscriptState(
        messages=messages(state),
        streaming=state.streaming,
        caption=state.caption if speaking else "",
        sending=sending,
    )


def is_answer(message: Message) -> bool:
    """Return True for a message that the candidate gave as an answer, also if it was taken for a
    request."""
    return message.kind in (MessageKind.ANSWER, MessageKind.REQUEST)


def count_answers(state: RoomState) -> int:
    """Return the number of messages for which `is_answer` is true."""
    return sum(map(is_answer, state.messages))


def reason_not_to_answer(state: RoomState) -> str:
    """Return the reason why the candidate may not answer now, or an empty string if there is
    none."""
    if is_completed(state):
        return "This interview is completed."
    if is_planned(state):
        return f"The interview has not started. Press {BEGIN.name} to start it."
    if state.phase not in WAITING:
        return "The interviewer is still working. Your text stays in the box."
    if open_question(state) is None:
        if state.failed is not None:
            return (
                f"The interviewer has stopped. Press {RETRY.name} to retry. "
                "Your text stays in the box."
            )
        return "Wait for the next question."
    return ""
