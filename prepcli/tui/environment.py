"""Environment variables of Textual. This module does not import Textual, which reads them once."""

from collections.abc import MutableMapping

__all__ = ["remove_textual_settings"]

_KEPT = frozenset({"TEXTUAL_ANIMATIONS", "TEXTUAL_DISABLE_KITTY_KEY", "TEXTUAL_SMOOTH_SCROLL"})
"""Settings that describe the terminal or its user, and that accept any value."""


def remove_textual_settings(environment: MutableMapping[str, str]) -> None:
    """Remove the settings that a person has made for other programs, such as a theme that only
    another program has, or for the development of such programs."""
    for name in [each for each in environment if each.startswith("TEXTUAL_")]:
        if name not in _KEPT:
            del environment[name]
