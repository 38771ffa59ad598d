"""The keys: every one is explained, and none is used twice in the same place."""

import pytest
from textual.widgets import TextArea

from prepcli.tui import keys
from prepcli.tui.keys import SECTIONS, Key

TAKEN_BY_MULTIPLEXERS = {"ctrl+a", "ctrl+b"}
"""The prefixes of screen and tmux."""


def names(key: Key) -> list[str]:
    return key.keys.split(",")


def test_every_key_is_in_the_help() -> None:
    """Whatever can be pressed is explained, but for keys that their own screen explains."""
    defined = {key.action for key in vars(keys).values() if isinstance(key, Key)}
    explained = {key.action for section in SECTIONS for key in section.keys}
    assert defined - explained == {"close", "yes", "no", "app.show_help"}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_no_key_does_two_things_at_once(section: keys.Section) -> None:
    """In one place a key has one meaning; while speaking, two keys have another."""
    speaking = {"finish", "discard"}
    used = [name for key in section.keys if key.action not in speaking for name in names(key)]
    assert len(used) == len(set(used))


def test_editing_keys_are_left_to_the_answer_box() -> None:
    """No key of the interview takes away one that edits text, but those that send and scroll."""
    editing = {
        name
        for binding in TextArea.BINDINGS
        for name in (binding.key if not isinstance(binding, tuple) else binding[0]).split(",")
    }
    interview = SECTIONS[0]
    used = {name for key in interview.keys for name in names(key)}
    assert used & editing == {"pageup", "pagedown"}
    assert not used & TAKEN_BY_MULTIPLEXERS
