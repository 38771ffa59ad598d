"""Arrangement of a chat for models that accept only user and assistant turns in alternation."""

import pytest

from prepserver.engines.chat_turns import alternating_turns, joined_turns
from prepserver.engines.types import ChatTurn


def chat(text: str) -> list[ChatTurn]:
    """Return the turns in a text such as `s=Rules a=Why?`, in which the roles are initials."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    parts = (part.split("=") for part in text.split())
    return [ChatTurn(roles[role], content.replace("+", "\n\n")) for role, content in parts]


@pytest.mark.parametrize(
    ("turns", "alternating"),
    [
        ("s=S u=1", "u=S+1"),
        ("s=S a=1 u=2 u=3", "u=S a=1 u=2+3"),
        ("s=S u=1 u=2 a=3 a=4 u=5", "u=S+1+2 a=3+4 u=5"),
        ("s=S s=T u=1", "u=S+T+1"),
        ("u=1 s=S a=2", "u=1+S a=2"),
        ("a=1 u=2", "u=Begin. a=1 u=2"),
        ("u=1 a=2 u=3", "u=1 a=2 u=3"),
        ("s=S", "u=S"),
        ("", ""),
    ],
)
def test_turns_are_arranged_in_alternation(turns: str, alternating: str) -> None:
    """System turns join the next user turn, and consecutive turns of one role are joined."""
    assert alternating_turns(chat(turns)) == chat(alternating)


def test_joined_turns_keep_the_system_turn() -> None:
    """Consecutive turns of one role are joined by a blank line, and other turns are unchanged."""
    assert joined_turns(chat("s=S u=1 u=2 a=3")) == chat("s=S u=1+2 a=3")
