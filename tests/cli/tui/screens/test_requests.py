"""Requests to the interviewer on the interview screen."""

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from prepcli.tui.app import PrepApp
from prepcli.tui.screens.ask import AskScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepserver.wire.client_messages import (
    CandidatePause,
    CandidateRepeat,
    CandidateRephrase,
    CandidateSkip,
)
from prepserver.wire.protocol import InterviewMessage, MessageKind, Phase, Role, Snapshot, Source
from tests.cli.tui.screens.interviews import box, ready, texts
from tests.cli.tui.screens.support import (
    asked_once,
    drive,
    headings,
    message,
    notices,
    question,
    settle,
    words,
)

REQUEST = replace(message(1, MessageKind.REQUEST, "Pardon?"), role=Role.CANDIDATE)
REPLY = message(2, MessageKind.REPLY, "How do you test a migration?")


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (["ctrl+p", "r"], CandidateRepeat),
        (["ctrl+p", "enter"], CandidateRepeat),
        (["f5", "p"], CandidateRephrase),
        (["ctrl+p", "m"], CandidatePause),
        (["ctrl+p", "down", "down", "down", "enter"], CandidateSkip),
    ],
)
def test_a_request_is_sent(keys: list[str], kind: type) -> None:
    """A key of the menu, or enter on one of its lines, sends the request; the text in the box
    stays."""
    session, room = ready()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        box(app).set_text("A draft")
        await pilot.press(*keys)
        await settle(pilot)
        assert [type(each) for each in room.sent] == [kind]
        assert isinstance(app.screen, InterviewScreen)
        assert box(app).text == "A draft"

    drive(play, session, interview_id="one")


def test_escape_sends_nothing() -> None:
    """Escape closes the menu."""
    session, room = ready()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+p")
        await settle(pilot)
        assert isinstance(app.screen, AskScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert not room.sent

    drive(play, session, interview_id="one")


@pytest.mark.parametrize(
    "snapshot",
    [asked_once(messages=[]), asked_once(messages=[], state=Phase.GENERATING)],
    ids=["no question", "thinking"],
)
def test_without_a_question_there_is_no_menu(snapshot: Snapshot) -> None:
    """The menu needs an open question."""
    session, room = ready(snapshot)

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+p")
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert not room.sent

    drive(play, session, interview_id="one")


def test_requests_and_replies_are_shown_as_turns() -> None:
    """A request and its reply have headings of their own, and do not count as a question."""
    answered = message(3, MessageKind.ANSWER, "On a copy.")
    asked = replace(question(4), source=Source.TRANSLATION)
    session, _ = ready(asked_once(messages=[question(0), REQUEST, REPLY, answered, asked]))

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        assert headings(app) == [
            "Interviewer · question 1",
            "You",
            "Interviewer",
            "You",
            "Interviewer · question 2 · translated",
        ]

    drive(play, session, interview_id="one")


@pytest.mark.parametrize("first", [MessageKind.ANSWER, MessageKind.REQUEST])
def test_an_answer_taken_for_a_request_counts_as_sent(first: MessageKind) -> None:
    """An answer that the server takes for a request, at once or later, is shown once, and the next
    answer can be sent."""
    session, room = ready()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"Pardon?", "enter")
        await settle(pilot)
        for kind in (first, MessageKind.REQUEST):
            room.emit(InterviewMessage(message=replace(REQUEST, kind=kind)))
        room.emit(InterviewMessage(message=REPLY))
        await settle(pilot)
        assert words(app).count("Pardon?") == 1
        await pilot.press(*"On a copy.", "enter")
        await settle(pilot)
        assert texts(room) == ["Pardon?", "On a copy."]
        assert not notices(app)

    drive(play, session, interview_id="one")
