"""Removal of control characters from untrusted text before it reaches a terminal.

Text from a model, a document or a server can contain escape sequences, which a terminal executes,
and format characters, which make text look different from what it says.
"""

import re

__all__ = ["escape_json", "one_line", "printable"]

_UNSAFE = re.compile(
    "["
    # C0 and C1 controls except tab and line feed: a terminal executes them.
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    # The characters with the Unicode property Bidi_Control (UAX #9): they reorder what is shown.
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    # Line and paragraph separators, and the deprecated format controls.
    "\u2028\u2029\u206a-\u206f"
    # Interlinear annotation marks and tag characters: they hide text that programs still read.
    "\ufff9-\ufffb\U000e0000-\U000e007f"
    # Lone surrogates, from file names that are not valid UTF-8: a terminal cannot encode them.
    "\ud800-\udfff"
    "]"
)
# Zero-width spaces and joiners, variation selectors and combining marks are kept: emoji and many
# scripts need them, and they neither reorder text nor carry text of their own.

_NOT_ASCII = re.compile("[^\x00-\x7f]")


def printable(text: str) -> str:
    """Replace each unsafe character with U+FFFD; keep tabs, and turn every line ending into LF."""
    return _UNSAFE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(text: str) -> str:
    """Apply `printable` and collapse each run of white space into one space."""
    return " ".join(printable(text).split())


def escape_json(data: str, encoding: str | None = None) -> str:
    """Replace each unsafe character in JSON text with its escape sequence, and every character
    outside ASCII if `encoding` lacks one of them. The decoded value is unchanged."""
    escaped = _UNSAFE.sub(lambda match: _escape(match[0]), data)
    try:
        escaped.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        escaped = _NOT_ASCII.sub(lambda match: _escape(match[0]), escaped)
    return escaped


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
