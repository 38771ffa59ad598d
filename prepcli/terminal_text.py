"""Text from elsewhere, made safe for a terminal.

What a model, a document or another person wrote may hold escape sequences; the terminal would
obey them.
"""

import re

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with each control replaced by U+FFFD; tabs stay, and line ends of every kind.

    Marks that change the direction of writing count as controls, for they can make a line read
    as something else.
    """
    return _CONTROLS.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str) -> str:
    """`printable`, with every run of white space made one space."""
    return " ".join(printable(text).split())
