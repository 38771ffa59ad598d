from msgspec.structs import replace

from prepcli.headless.export import markdown, printable
from prepserver.wire.protocol import MessageKind, Status
from tests.cli.client.things import interview, said


def test_an_interview_is_a_document() -> None:
    """Its title, what it was about, and who said what."""
    about = interview(status=Status.COMPLETED, answered=1, skills=["sql", "caching"])
    answer = replace(said(1, MessageKind.ANSWER, "Because."), edited=True)
    summary = said(2, MessageKind.SUMMARY, "## Summary\n\nGood.")
    assert markdown(about, [said(0), answer, summary]) == (
        "# Backend Engineer\n\n"
        "Backend Engineer: technical, mid, 1 of 2 answered, completed\n\n"
        "Skills: sql, caching\n\n"
        "**Interviewer:**\n\nWhy?\n\n"
        "**You (corrected):**\n\nBecause.\n\n"
        "## Summary\n\nGood.\n"
    )


def test_tabs_and_lines_are_printable_and_escapes_are_not() -> None:
    """What a terminal would obey is taken out; what makes a text readable stays."""
    assert printable("a\tb\r\nc\x1b[2J\x07\x9bd\u200b") == "a\tb\nc[2Jd\u200b"
