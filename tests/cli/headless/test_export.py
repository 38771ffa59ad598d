from msgspec.structs import replace

from prepcli.headless.export import markdown, spoken_answer_lines
from prepserver.wire.protocol import MessageKind, Source, Status
from prepserver.wire.rest import SpokenAnswer, TranscribedSegment
from tests.cli.client.builders import make_interview, make_message


def test_markdown_has_title_specification_and_transcript() -> None:
    """A Markdown export has the title, the specification, and each message under its speaker."""
    about = make_interview(status=Status.COMPLETED, answered=1, skills=["sql", "caching"])
    answer = replace(make_message(1, MessageKind.ANSWER, "Because."), edited=True)
    summary = make_message(2, MessageKind.SUMMARY, "## Summary\n\nGood.")
    assert markdown(about, [make_message(0), answer, summary]) == (
        "# Backend Engineer\n\n"
        "Backend Engineer: technical, mid, 1 of 2 answered, completed\n\n"
        "Skills: sql, caching\n\n"
        "**Interviewer:**\n\nWhy?\n\n"
        "**You (corrected):**\n\nBecause.\n\n"
        "## Summary\n\nGood.\n"
    )


def test_markdown_contains_requests_and_marks_translations() -> None:
    """Requests and replies are turns of their own, and a translated question is marked."""
    translated = replace(make_message(0, text="Warum?"), source=Source.TRANSLATION)
    request = make_message(1, MessageKind.REQUEST, "Again, please.")
    reply = make_message(2, MessageKind.REPLY, "Of course.")
    assert markdown(make_interview(), [translated, request, reply]).endswith(
        "**Interviewer (translated):**\n\nWarum?\n\n"
        "**You:**\n\nAgain, please.\n\n"
        "**Interviewer:**\n\nOf course.\n"
    )


def test_markdown_contains_no_control_characters() -> None:
    """Control characters in a message are replaced, except tabs and line feeds."""
    text = markdown(make_interview(), [make_message(0, text="a\tb\r\nc\x1b[2J\x9bd")])
    assert text.endswith("a\tb\nc\ufffd[2J\ufffdd\n")


def test_spoken_answer_lists_its_segments_by_time() -> None:
    """Kept and dropped segments are listed by start time, each dropped segment with the reason."""
    kept = TranscribedSegment(start=1.5, end=4.0, text="I led a team.")
    dropped = TranscribedSegment(start=0.0, end=1.5, text="", drop_reason="silence")
    answer = SpokenAnswer(text="I led a team.", seconds=4.0, segments=[kept], dropped=[dropped])
    assert spoken_answer_lines(make_message(1, MessageKind.ANSWER), answer) == (
        "You (4.0 s):\n     0.0-1.5  dropped, silence: (no words)\n     1.5-4.0  I led a team.\n"
    )
