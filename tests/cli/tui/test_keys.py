"""Help for the key bindings, and conflicts between key bindings."""

import pytest
from textual.widgets import TextArea

from prepcli.tui import keys
from prepcli.tui.keys import SECTIONS, Key

MULTIPLEXER_PREFIXES = {"ctrl+a", "ctrl+b"}
"""Prefix keys of GNU Screen and tmux."""


def names(key: Key) -> list[str]:
    return key.keys.split(",")


def test_every_key_is_in_the_help() -> None:
    """The help lists every key, except those that are explained on their own screen."""
    defined = {key.action for key in vars(keys).values() if isinstance(key, Key)}
    explained = {key.action for section in SECTIONS for key in section.keys}
    assert defined - explained == {"close", "yes", "no", "choose", "app.show_help"}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_no_key_does_two_things_at_once(section: keys.Section) -> None:
    """No key has two actions on the same screen, except the keys that end or discard a
    recording."""
    speaking = {"finish", "discard"}
    used = [name for key in section.keys if key.action not in speaking for name in names(key)]
    assert len(used) == len(set(used))


def test_editing_keys_are_left_to_the_answer_box() -> None:
    """Only page up and page down of the interview screen's keys override editing keys, and none is
    a prefix key of GNU Screen or tmux."""
    editing = {
        name
        for binding in TextArea.BINDINGS
        for name in (binding.key if not isinstance(binding, tuple) else binding[0]).split(",")
    }
    interview = SECTIONS[0]
    used = {name for key in interview.keys for name in names(key)}
    assert used & editing == {"pageup", "pagedown"}
    assert not used & MULTIPLEXER_PREFIXES
