"""What an interview's state means for the candidate: what is shown, and what may be done now."""

from prepcli.client.state import RoomState, is_completed, open_question
from prepcli.tui.widgets.transcript import Scene
from prepserver.wire.protocol import Message, MessageKind, Phase

WAITING = frozenset({Phase.IDLE, Phase.HINTING})
"""Phases in which the candidate has the floor, if a question is open."""


def messages(state: RoomState) -> tuple[Message, ...]:
    """All that was said, in order, the hint to the open question among it."""
    hint = state.hint
    if hint is None or any(message.id == hint.id for message in state.messages):
        return state.messages
    return tuple(sorted((*state.messages, hint), key=lambda message: message.position))


def scene(state: RoomState, sending: str = "", *, hearing: bool = False) -> Scene:
    """What the transcript shows; `sending` is an answer on its way.

    A caption is shown while the candidate is being heard or written down, and not after.
    """
    speaking = hearing or state.phase is Phase.TRANSCRIBING
    return Scene(
        messages=messages(state),
        streaming=state.streaming,
        caption=state.caption if speaking else "",
        sending=sending,
    )


def answers(state: RoomState) -> int:
    return sum(message.kind is MessageKind.ANSWER for message in state.messages)


def why_not_answer(state: RoomState) -> str:
    """What to tell a candidate who may not answer now; empty when they may."""
    if is_completed(state):
        return "This interview is completed."
    if state.phase not in WAITING:
        return "The interviewer is still at work. What you wrote stays in the box."
    if open_question(state) is None:
        if state.failed is not None:
            return "The interviewer was stopped. Press ctrl+g to try again; your text stays here."
        return "There is no question yet."
    return ""
