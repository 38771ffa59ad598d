import io
import json

import pytest

from prepcli.client.state import RoomState
from prepcli.headless.export import markdown
from prepcli.headless.output import PlainOutput
from prepcli.terminal_text import escape_json, one_line, printable
from prepcli.tui.widgets.message import MessageView
from prepserver.wire.protocol import MessageKind
from tests.cli.client.builders import make_interview, make_message

UNSAFE = [
    "\x00",
    "\x07",
    "\x0b",
    "\x1b",
    "\x7f",
    "\x9b",
    "\u061c",
    "\u200e",
    "\u200f",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u206a",
    "\ufff9",
    "\U000e0001",
    "\U000e0041",
    "\ud800",
]


@pytest.mark.parametrize("character", UNSAFE, ids=ascii)
def test_unsafe_character_is_replaced(character: str) -> None:
    """Lone surrogates, format characters that reorder or hide text, and control characters other
    than tabs and line endings become U+FFFD."""
    assert printable(f"a{character}b") == "a\ufffdb"


@pytest.mark.parametrize(
    "text",
    [
        "tab\tand\nline feed",
        "👩\u200d💻 👍🏽 ☕\ufe0f 🇬🇧",
        "e\u0301 क\u094dष می\u200cخواهم ภาษา\u200bไทย",
        "葛\U000e0100城 שלום مرحبا",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    """Tabs, line feeds, emoji sequences, combining marks, zero-width joiners and text in any script
    are unchanged."""
    assert printable(text) == text


def test_line_endings_become_line_feeds() -> None:
    """CRLF and CR become LF, so that no text overwrites its own line."""
    assert printable("a\r\nb\rc\n") == "a\nb\nc\n"


def test_one_line_collapses_white_space() -> None:
    """Each run of spaces, tabs or line feeds becomes one space, or nothing at the ends of the
    text."""
    assert one_line(" a\n\tb\u2028c \r\n") == "a b\ufffdc"


def test_plain_output_markdown_and_screens_show_the_same_text() -> None:
    """Plain output, Markdown and screens replace the same characters."""
    text = "ok \u202egnp.exe"
    message = make_message(0, text=text)
    out = io.StringIO()
    output = PlainOutput(out, io.StringIO(), live=False)
    output.show_state(RoomState(messages=(message,)))
    expected = "ok \ufffdgnp.exe"
    assert out.getvalue() == f"Interviewer: {expected}\n"
    assert MessageView(MessageKind.QUESTION, "", text).text == expected
    assert markdown(make_interview(), [message]).endswith(f"\n{expected}\n")


@pytest.mark.parametrize("character", UNSAFE[:-1], ids=ascii)
def test_escaped_json_keeps_its_value(character: str) -> None:
    """Unsafe characters in JSON are escaped, and the JSON decodes to the same text."""
    data = json.dumps({"text": f"a{character}b"}, ensure_ascii=False)
    escaped = escape_json(data)
    assert character not in escaped
    assert json.loads(escaped) == {"text": f"a{character}b"}
