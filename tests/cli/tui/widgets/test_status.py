"""The words and facts of the status line."""

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
        (Phase.EXTRACTING, "Reading your resume and the job…"),
        (Phase.TRANSCRIBING, "Writing down what you said…"),
        (Phase.GENERATING, "Thinking…"),
        (Phase.HINTING, "Thinking of a hint…"),
        (Phase.REVIEWING, "Reviewing your answers…"),
    ],
)
def test_every_phase_of_work_has_words_and_moves(phase: Phase, words: str) -> None:
    """While a model works the candidate reads what it does, with an animation."""
    assert activity(phase) == Activity(words, busy=True)


@pytest.mark.parametrize("kind", list(MessageKind))
def test_whatever_is_being_said_has_words(kind: MessageKind) -> None:
    """A message of any kind that streams in is more than thinking."""
    streaming = StreamingMessage(id="m", kind=kind, text="W", offset=1)
    said = activity(Phase.GENERATING, streaming=streaming)
    assert said.busy
    assert said.words != "Thinking…"


def test_idle_says_whose_turn_it_is() -> None:
    """When nothing works the line says what the candidate can do."""
    assert activity(Phase.IDLE).words == "Your turn"
    assert activity(Phase.IDLE, asked=False).words == "Waiting"
    assert activity(Phase.IDLE, sending=True).words == "Sending your answer…"
    assert activity(Phase.IDLE, completed=True).words == "Completed"
    assert activity(Phase.IDLE, known=False).words == "Opening the interview…"


def test_recording_comes_first() -> None:
    """Whatever the server does, a candidate who is recorded is listened to."""
    assert activity(Phase.HINTING, recording=True) == Activity("Listening…")


def test_stopped_is_trouble_until_it_is_tried_again() -> None:
    """A failed turn is marked; a retry that works again is not."""
    assert activity(Phase.IDLE, failed=True) == Activity("Stopped", trouble=True)
    assert not activity(Phase.GENERATING, failed=True).trouble


def test_progress() -> None:
    """The progress counts the question that is open, and in the end the answers."""
    assert progress(interview(0)) == "5 questions"
    assert progress(interview(2, 1)) == "question 2 of 5"
    assert progress(interview(5, 5)) == "question 5 of 5"
    assert progress(interview(3, 2, Status.COMPLETED)) == "2 of 5 answered"


def test_allowance() -> None:
    """Requests are counted for people; an unlimited allowance is not worth a word."""
    assert allowance(Quota(limit=100, remaining=87)) == "87 requests left"
    assert allowance(Quota(limit=100, remaining=1)) == "1 request left"
    assert allowance(Quota(limit=0, remaining=0)) == ""
    assert allowance(None) == ""


def test_facts_give_way_in_a_narrow_line() -> None:
    """What does not fit is left out whole, the least needed first."""
    line = StatusLine()
    line.set_reactive(StatusLine.progress, "question 2 of 5")
    line.set_reactive(StatusLine.allowance, "87 requests left")
    line.set_reactive(StatusLine.elapsed, 75)
    assert line.facts(80) == "question 2 of 5 · 87 requests left · 1:15"
    assert line.facts(30) == "question 2 of 5 · 1:15"
    assert line.facts(10) == "1:15"
    assert line.facts(3) == ""
