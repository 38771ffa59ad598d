"""Activity and facts on the status line."""

import pytest

from prepcli.tui.widgets.status import Activity, StatusLine, activity, allowance, progress
from prepserver.wire.protocol import (
    Interview,
    InterviewType,
    Level,
    MessageKind,
    Phase,
    Quota,
    Status,
    StreamingMessage,
)


def interview(asked: int, answered: int = 0, status: Status = Status.ACTIVE) -> Interview:
    return Interview(
        id="one",
        title="One",
        role="One",
        company="",
        type=InterviewType.MIXED,
        level=Level.MID,
        questions=5,
        asked=asked,
        answered=answered,
        status=status,
        created_at=0.0,
        updated_at=0.0,
    )


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase.EXTRACTING, "Choosing the topics…"),
        (Phase.TRANSCRIBING, "Transcribing your answer…"),
        (Phase.GENERATING, "Thinking…"),
        (Phase.HINTING, "Thinking of a hint…"),
        (Phase.REVIEWING, "Reviewing your answers…"),
    ],
)
def test_every_working_phase_is_animated(phase: Phase, words: str) -> None:
    """In each working phase, the status line says what the model is doing and is animated."""
    assert activity(phase) == Activity(words, busy=True)


@pytest.mark.parametrize("kind", list(MessageKind))
def test_every_streamed_kind_has_words(kind: MessageKind) -> None:
    """While a message of any kind is streaming, the activity is animated and is not "Thinking…"."""
    streaming = StreamingMessage(id="m", kind=kind, text="W", offset=1)
    shown = activity(Phase.GENERATING, streaming=streaming)
    assert shown.busy
    assert shown.words != "Thinking…"


def test_idle_says_what_the_candidate_can_do() -> None:
    """The status line of an idle interview says that the candidate can answer, or why not."""
    assert activity(Phase.IDLE).words == "Your turn"
    assert activity(Phase.IDLE, asked=False).words == "Waiting"
    assert activity(Phase.IDLE, sending=True).words == "Sending your answer…"
    assert activity(Phase.IDLE, completed=True).words == "Completed"
    assert activity(Phase.IDLE, known=False).words == "Opening the interview…"


def test_recording_comes_first() -> None:
    """During a recording, the status line shows "Listening…" and not the server's phase."""
    assert activity(Phase.HINTING, recording=True) == Activity("Listening…")


def test_failure_is_highlighted_until_retried() -> None:
    """A failed turn is highlighted, but not while a retry is running."""
    assert activity(Phase.IDLE, failed=True) == Activity("Stopped", trouble=True)
    assert not activity(Phase.GENERATING, failed=True).trouble


def test_progress() -> None:
    """Progress shows the planned number of questions, then the number of the latest question, and
    after completion the number of answers."""
    assert progress(interview(0)) == "5 questions"
    assert progress(interview(2, 1)) == "question 2 of 5"
    assert progress(interview(5, 5)) == "question 5 of 5"
    assert progress(interview(3, 2, Status.COMPLETED)) == "2 of 5 answered"


def test_allowance() -> None:
    """The number of remaining requests is shown unless the number is unlimited or unknown."""
    assert allowance(Quota(limit=100, remaining=87)) == "87 requests left"
    assert allowance(Quota(limit=100, remaining=1)) == "1 request left"
    assert allowance(Quota(limit=0, remaining=0)) == ""
    assert allowance(None) == ""


def test_facts_are_dropped_in_a_narrow_line() -> None:
    """Facts that do not fit on the line are dropped as a whole, the least important first."""
    line = StatusLine()
    line.set_reactive(StatusLine.progress, "question 2 of 5")
    line.set_reactive(StatusLine.allowance, "87 requests left")
    line.set_reactive(StatusLine.elapsed, 75)
    assert line.facts(80) == "question 2 of 5 · 87 requests left · 1:15"
    assert line.facts(30) == "question 2 of 5 · 1:15"
    assert line.facts(10) == "1:15"
    assert line.facts(3) == ""
