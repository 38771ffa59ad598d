"""Arrangement of a chat for models that accept only user and assistant turns in alternation.

The templates of Gemma and Mistral, for example, reject a system turn, two user turns in a row, or a
chat that begins with the assistant.
"""

from collections.abc import Iterable, Sequence

from prepserver.engines.types import ChatTurn

__all__ = ["alternating_turns", "joined_turns"]

FIRST_USER_TURN = "Begin."
"""User turn that precedes a chat without a system turn in which the assistant speaks first."""


def joined_turns(turns: Iterable[ChatTurn]) -> list[ChatTurn]:
    """Return the turns with consecutive turns of one role joined by a blank line."""
    joined: list[ChatTurn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            turn = ChatTurn(turn.role, f"{joined.pop().content}\n\n{turn.content}")
        joined.append(turn)
    return joined


def alternating_turns(turns: Sequence[ChatTurn]) -> list[ChatTurn]:
    """Return the turns as user and assistant turns in alternation, the first a user turn.

    The text of a system turn joins the next user turn, or becomes a user turn if the assistant
    speaks next.
    """
    joined = joined_turns(
        ChatTurn("user", turn.content) if turn.role == "system" else turn for turn in turns
    )
    if joined and joined[0].role == "assistant":
        joined.insert(0, ChatTurn("user", FIRST_USER_TURN))
    return joined
