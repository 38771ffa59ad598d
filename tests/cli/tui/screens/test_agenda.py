"""The agenda: shown before the start, and changed."""

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Input

from prepcli.tui.app import PrepApp
from prepcli.tui.screens.agenda import AgendaScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepserver.wire.agenda import Agenda, EditedTopic, TopicStatus, Where
from prepserver.wire.client_messages import AgendaEdit, InterviewStart
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    AgendaChanged,
    Failure,
    InterviewMessage,
    InterviewUpdated,
    Mode,
    Phase,
    Snapshot,
    Status,
)
from tests.cli.client.builders import make_agenda, make_topic
from tests.cli.tui.screens.interviews import box, ready, status
from tests.cli.tui.screens.support import (
    FakeRoom,
    FakeSession,
    asked_once,
    drive,
    interview,
    notices,
    question,
    settle,
    shown,
)

PLANNED = interview(asked=0, status=Status.PLANNED)
ONE, TWO, THREE = (EditedTopic(id=f"t{number}") for number in (1, 2, 3))


def planned(agenda: Agenda | None = None) -> tuple[FakeSession, FakeRoom]:
    """Return a session and the room of an interview that waits for its start."""
    return ready(Snapshot(interview=PLANNED, state=Phase.IDLE, agenda=agenda or make_agenda(3)))


def edits(room: FakeRoom) -> list[list[EditedTopic]]:
    return [message.topics for message in room.sent if isinstance(message, AgendaEdit)]


def started(room: FakeRoom) -> bool:
    return any(isinstance(message, InterviewStart) for message in room.sent)


def test_a_planned_interview_opens_its_agenda() -> None:
    """The agenda opens by itself and names each topic's minutes and reason; ctrl+s starts the
    interview, whose first question appears with the answer box."""
    reasoned = make_topic(2, reason="5 years of \x1b[2JKafka", where=Where.BOTH)
    session, room = planned(Agenda(topics=[make_topic(1), reasoned]))

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = shown(app)
        assert "Question 1?" in screen
        assert "3 min" in screen
        assert 'because the job says "5 years of \ufffd[2JKafka"' in screen
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert started(room)
        room.emit(InterviewUpdated(interview=interview()), InterviewMessage(message=question(0)))
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert status(app) == "Your turn"
        assert box(app).has_focus

    drive(play, session, interview_id="one")


def test_a_closed_agenda_can_be_opened_again() -> None:
    """Escape closes the agenda without a start, ctrl+n opens it again, and ctrl+s starts from
    either screen."""
    session, room = planned()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("escape")
        await settle(pilot)
        assert "ctrl+s starts the interview" in shown(app)
        assert status(app) == "Ready to start"
        assert not box(app).display
        room.emit(AgendaChanged(agenda=make_agenda(2)))
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        await pilot.press("ctrl+n")
        await settle(pilot)
        assert isinstance(app.screen, AgendaScreen)
        await pilot.press("escape", "ctrl+s")
        await settle(pilot)
        assert started(room)

    drive(play, session, interview_id="one")


@pytest.mark.parametrize(
    ("keys", "topics"),
    [
        (["down", "k"], [TWO, ONE, THREE]),
        (["shift+down"], [TWO, ONE, THREE]),
        (["end", "d"], [ONE, TWO]),
        (["plus"], [EditedTopic(id="t1", minutes=4), TWO, THREE]),
        (["down", "minus"], [ONE, EditedTopic(id="t2", minutes=2), THREE]),
        (["a", *"kafka", "enter"], [ONE, TWO, THREE, EditedTopic(skill="kafka")]),
        (
            ["enter", "ctrl+u", *"How?", "enter"],
            [EditedTopic(id="t1", question="How?"), TWO, THREE],
        ),
    ],
)
def test_keys_change_the_agenda(keys: list[str], topics: list[EditedTopic]) -> None:
    """Each change is sent with all planned topics."""
    session, room = planned()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*keys)
        await settle(pilot)
        assert edits(room) == [topics]
        assert not app.screen.query_one(Input).display

    drive(play, session, interview_id="one")


@pytest.mark.parametrize("keys", [["k"], ["end", "j"], ["a", "escape", "k"]])
def test_keys_without_effect(keys: list[str]) -> None:
    """A topic cannot be moved over the end of the list, and escape closes the text box only."""
    session, room = planned()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*keys)
        await settle(pilot)
        assert not room.sent
        assert isinstance(app.screen, AgendaScreen)

    drive(play, session, interview_id="one")


def test_the_cursor_follows_its_topic() -> None:
    """After a move the cursor stays on the topic, and until the server has answered, further
    changes are ignored."""
    session, room = planned()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("j", "j")
        await settle(pilot)
        assert edits(room) == [[TWO, ONE, THREE]]
        first, second, third = make_agenda(3).topics
        room.emit(AgendaChanged(agenda=Agenda(topics=[second, first, third])))
        await settle(pilot)
        await pilot.press("j")
        await settle(pilot)
        assert edits(room)[1] == [TWO, THREE, ONE]

    drive(play, session, interview_id="one")


def test_an_impossible_change_is_explained() -> None:
    """The screen says why a change is impossible; what was typed stays."""
    session, room = planned(make_agenda(1))

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("d")
        assert "at least one topic" in shown(app)
        await pilot.press("enter", "x", "enter")
        await settle(pilot)
        assert "question mark" in shown(app)
        assert app.screen.query_one(Input).value == "Question 1?x"
        assert not edits(room)

    drive(play, session, interview_id="one")


def test_a_refused_change_can_be_corrected() -> None:
    """The server's reason is shown, and the next change is sent."""
    session, room = planned()

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("plus")
        await settle(pilot)
        id = room.sent[0].id
        room.emit(Failure(code=ErrorCode.BAD_AGENDA, message="Too long.", id=id))
        await settle(pilot)
        assert "Too long." in notices(app)
        await pilot.press("minus")
        await settle(pilot)
        assert len(edits(room)) == 2

    drive(play, session, interview_id="one")


def test_the_agenda_during_an_interview() -> None:
    """The agenda shows what was asked; only later topics can be changed, and there is no start."""
    current = make_topic(2, TopicStatus.CURRENT)
    agenda = Agenda(topics=[make_topic(1, TopicStatus.DONE), current, make_topic(3)])
    session, room = ready(asked_once(agenda=agenda))

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+n")
        await settle(pilot)
        assert "asked" in shown(app)
        assert "now" in shown(app)
        assert "Start" not in shown(app)
        await pilot.press("plus")
        await settle(pilot)
        assert edits(room) == [[EditedTopic(id="t3", minutes=4)]]
        await pilot.press("home", "d", "ctrl+s")
        await settle(pilot)
        assert len(room.sent) == 1

    drive(play, session, interview_id="one")


def test_a_real_interview_shows_neither_agenda_nor_hint() -> None:
    """A real interview names its mode, and offers no hint and no agenda."""
    session, room = ready(asked_once(interview=replace(interview(), mode=Mode.REAL)))

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        assert "senior, real" in shown(app)
        assert "Hint" not in shown(app)
        await pilot.press("ctrl+t", "ctrl+n")
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert not room.sent

    drive(play, session, interview_id="one")


def test_the_list_names_planned_and_real_interviews() -> None:
    """The list says that an interview is ready to start, and which one is real."""
    real = replace(interview("two"), mode=Mode.REAL)

    async def play(app: PrepApp, pilot: Pilot[int]) -> None:
        assert "ready to start" in shown(app)
        assert "senior · real" in shown(app)

    drive(play, FakeSession([PLANNED, real]))
