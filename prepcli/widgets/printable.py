"""Text from elsewhere, made safe for a terminal.

What a model, a document or another person wrote may hold escape sequences; the terminal would
obey them.
"""

import re

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with carriage returns made line ends and other controls replaced by U+FFFD.

    Tabs and line ends stay. Marks that change the direction of writing count as controls, for
    they can make a line read as something else. The length in code points stays as it is.
    """
    return _CONTROLS.sub(lambda match: "\n" if match[0] == "\r" else "\ufffd", text)


def one_line(text: str) -> str:
    """`printable`, with every run of white space made one space."""
    return " ".join(printable(text).split())
