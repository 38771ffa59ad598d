"""First steps in prep, as people take them who do not know it."""

import asyncio
from collections.abc import Sequence

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Button, Input

from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import LocalServerFailed, NotFound
from prepcli.local_server.commands import MissingModel
from prepcli.local_server.sessions import ConfirmFetch
from prepcli.tui.app import PrepApp
from prepcli.tui.screens.confirm import ConfirmScreen
from prepcli.tui.screens.help import HelpScreen
from prepcli.tui.screens.interview import InterviewScreen
from prepcli.tui.screens.lobby import LobbyScreen
from prepcli.tui.screens.new_interview import NewInterviewScreen
from prepcli.tui.screens.starting import StartingScreen
from prepcli.tui.widgets.connection import ConnectionBanner
from prepcli.tui.widgets.interviews import InterviewList
from prepcli.tui.widgets.message import MessageView
from prepcli.tui.widgets.transcript import Transcript
from prepserver.wire.client_messages import HintRequest, UserMessage
from prepserver.wire.protocol import (
    InterviewMessage,
    MessageKind,
    Phase,
    Snapshot,
    StateChanged,
    Status,
)
from tests.cli.tui.screens.interviews import box, ready, texts
from tests.cli.tui.screens.support import (
    NOW,
    Clock,
    FakeMicrophone,
    FakeSession,
    answer,
    asked_once,
    drive,
    interview,
    joined,
    message,
    notices,
    question,
    settle,
    shown,
)

HINTED = [question(0), message(1, MessageKind.HINT, "Think of rollback.")]


def two_interviews() -> FakeSession:
    older = interview("older", created_at=NOW - 90_000, updated_at=NOW - 90_000)
    return FakeSession([older, interview("newer")])


def type_ahead(app: PrepApp, *keys: str) -> None:
    """Post keys as a terminal does that delivers them at once."""
    for key in keys:
        app.post_message(Key(key, key if len(key) == 1 else None))


async def until(pilot: Pilot[int], condition: object) -> None:
    """Wait until `condition()` is true, for at most 30 seconds."""
    async with asyncio.timeout(30.0):
        while not condition():  # type: ignore[operator]
            await pilot.pause(0.01)


def highlighted(app: PrepApp) -> str:
    found = app.screen.query_one(InterviewList).highlighted_interview
    assert found is not None
    return found.id


# --- The list -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        (),
        (ConnectionChanged(status=ConnectionStatus.CONNECTING),),
        (ConnectionChanged(status=ConnectionStatus.OFFLINE, retry_in=1.0),),
        joined(Snapshot())[:2],
    ],
)
def test_opens_prep_while_the_list_is_loading(events: Sequence[object]) -> None:
    """Until the list has arrived, the screen does not say that there are no interviews."""
    session = FakeSession()
    session.mute_lobby()
    session.lobby.emit(*events)  # type: ignore[arg-type]

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert "No interviews yet" not in shown(app)
        session.lobby.emit(*joined(Snapshot(interviews=[])))
        await settle(pilot)
        assert "No interviews yet" in shown(app)

    drive(watch, session)


def test_starts_an_interview_and_deletes_it() -> None:
    """After a new interview, the list has that one selected, so that `d` deletes no other."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("down", "n")
        await settle(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, InterviewScreen))
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert highlighted(app) == "new"
        await pilot.press("d")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert session.rest.deleted == ["new"]

    drive(watch, session)


def test_comes_back_from_the_interview_named_on_the_command_line() -> None:
    """After `prep interview --id`, the list has that interview selected."""

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await until(pilot, lambda: isinstance(app.screen, InterviewScreen))
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert highlighted(app) == "older"

    drive(watch, two_interviews(), interview_id="older")


def test_names_an_unknown_interview() -> None:
    """An unknown `--id` ends prep with exit code 2."""
    session = two_interviews()
    session.rest.error = NotFound("You have no interview with this id.")

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert app.return_code == 2

    drive(watch, session, interview_id="unknown")


# --- Typing ahead -------------------------------------------------------------------------------


def test_types_ahead_into_the_form() -> None:
    """Text and tab typed before the form is open reach its fields, not the list."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        type_ahead(app, *"nquad", "tab", *"dq", "tab", "tab", "tab", "backspace", "7")
        await until(
            pilot,
            lambda: [each.value for each in app.screen.query("#questions").results(Input)] == ["7"],
        )
        assert app.screen.query_one("#role", Input).value == "quad"
        assert app.screen.query_one("#company", Input).value == "dq"

    drive(watch, session)


@pytest.mark.parametrize(("key", "deleted"), [("y", ["newer"]), ("n", []), ("escape", [])])
def test_types_ahead_into_a_dialogue(key: str, deleted: list[str]) -> None:
    """A key typed before the dialogue is open answers the dialogue."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        type_ahead(app, "d", key)
        await until(pilot, lambda: session.rest.deleted == deleted)
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)

    drive(watch, session)


def test_types_the_answer_before_the_interview_is_open() -> None:
    """Text typed right after enter on the list reaches the answer box of that interview."""
    session = two_interviews()
    session.interview("newer").emit(*joined(asked_once(interview=interview("newer"))))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        type_ahead(app, "enter", *"quiet")
        await until(pilot, lambda: isinstance(app.screen, InterviewScreen))
        await until(pilot, lambda: box(app).text == "quiet")

    drive(watch, session)


# --- The form and dialogues ---------------------------------------------------------------------


@pytest.mark.parametrize("field", ["role", "company", "questions", "job", "resume"])
def test_presses_enter_in_the_form(field: str) -> None:
    """Enter in any text field starts the interview."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("n")
        await settle(pilot)
        app.screen.query_one(f"#{field}").focus()
        await pilot.press("enter")
        await until(pilot, lambda: len(session.rest.created) == 1)
        await until(pilot, lambda: isinstance(app.screen, InterviewScreen))

    drive(watch, session)


@pytest.mark.parametrize("key", ["click", "enter"])
def test_presses_the_start_button(key: str) -> None:
    """A click on the button of the form, or enter on it, starts the interview."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("n")
        await settle(pilot)
        if key == "click":
            await pilot.click("#start")
        else:
            app.screen.query_one("#start", Button).focus()
            await pilot.press(key)
        await until(pilot, lambda: len(session.rest.created) == 1)

    drive(watch, session)


@pytest.mark.parametrize(
    ("keys", "deleted"),
    [
        (("enter",), []),
        (("left", "enter"), ["newer"]),
        (("tab", "enter"), ["newer"]),
        (("right", "right", "enter"), []),
        (("#yes",), ["newer"]),
        (("#no",), []),
    ],
)
def test_answers_a_dialogue(keys: Sequence[str], deleted: list[str]) -> None:
    """Enter presses the highlighted button, at first the one that loses nothing, and a click
    presses the button under the mouse."""
    session = two_interviews()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("d")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        for key in keys:
            if key.startswith("#"):
                await pilot.click(key)
            else:
                await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, LobbyScreen))
        await settle(pilot)
        assert session.rest.deleted == deleted

    drive(watch, session)


@pytest.mark.parametrize("key", ["", "n", "d", "f1", "enter"])
def test_presses_ctrl_c(key: str) -> None:
    """On every screen, ctrl+c says which keys quit, and each of those keys quits."""
    kinds = {
        "": LobbyScreen,
        "n": NewInterviewScreen,
        "d": ConfirmScreen,
        "f1": HelpScreen,
        "enter": InterviewScreen,
    }
    for quit_key in ("ctrl+q", "f10"):

        async def watch(app: PrepApp, pilot: Pilot[int], quit_key: str = quit_key) -> None:
            if key:
                await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, kinds[key]))
            await settle(pilot)
            await pilot.press("ctrl+c")
            await settle(pilot)
            assert len(notices(app)) == 1
            assert "ctrl+q or f10" in notices(app)[0]
            await pilot.press(quit_key)
            await settle(pilot)
            assert app.return_value == 0

        drive(watch, two_interviews())


def test_presses_ctrl_c_while_the_models_load() -> None:
    """Ctrl+c says which keys quit while prep is starting."""
    ready_to_open = asyncio.Event()

    async def connect(*_: object) -> FakeSession:
        await ready_to_open.wait()
        return FakeSession()

    async def run() -> None:
        app = PrepApp(connect, microphone=FakeMicrophone(), monotonic=Clock())
        async with app.run_test() as pilot:
            await settle(pilot)
            assert isinstance(app.screen, StartingScreen)
            await pilot.press("ctrl+c")
            await settle(pilot)
            assert "ctrl+q or f10" in notices(app)[0]

    asyncio.run(run())


@pytest.mark.parametrize(("key", "agreed"), [("enter", True), ("y", True), ("escape", False)])
def test_is_offered_the_missing_models(key: str, agreed: bool) -> None:
    """Missing models are named with their size, and downloaded only after a confirmation."""
    answers: list[bool] = []

    async def connect(on_progress: object, confirm_fetch: ConfirmFetch) -> FakeSession:
        models = [MissingModel("interviewer", 98_000_000), MissingModel("whisper", 78_000_000)]
        answers.append(await confirm_fetch(models))
        return FakeSession()

    async def run() -> None:
        app = PrepApp(connect, microphone=FakeMicrophone(), monotonic=Clock())
        async with app.run_test() as pilot:
            await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
            await settle(pilot)
            assert "176 MB" in shown(app)
            assert "interviewer and whisper" in shown(app)
            await pilot.press(key)
            await until(pilot, lambda: answers == [agreed])

    asyncio.run(run())


# --- The transcript -----------------------------------------------------------------------------


def past(count: int = 12) -> list[object]:
    return [
        each
        for place in range(0, count, 2)
        for each in (question(place), answer(place + 1, "Because. " * 40))
    ]


@pytest.mark.parametrize("streamed_first", [False, True])
def test_reads_the_summary(streamed_first: bool) -> None:
    """A long summary is shown from its heading, whether it arrives now or was there before."""
    long = "\n\n".join(f"Paragraph {number}." for number in range(60))
    done = {"interview": interview(asked=6, answered=6, status=Status.COMPLETED)}
    summary = message(12, MessageKind.SUMMARY, long)
    start = {} if streamed_first else {**done, "messages": [*past(), summary]}
    session, room = ready(asked_once(**{"messages": past(), **start}))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        if streamed_first:
            room.emit(InterviewMessage(message=summary))
            room.emit(*joined(asked_once(**{**done, "messages": [*past(), summary]})))
        await settle(pilot)
        await settle(pilot)
        transcript = app.screen.query_one(Transcript)
        view = list(app.screen.query(MessageView))[-1]
        assert view.kind is MessageKind.SUMMARY
        assert view.region.y == transcript.content_region.y
        assert "How it went" in shown(app)

    drive(watch, session, interview_id="one")


def test_asks_for_a_hint_while_scrolled_back() -> None:
    """A hint is shown although the transcript was scrolled back when it was asked for."""
    messages = past()
    session, room = ready(asked_once(messages=[*messages, question(12)]))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("pageup", "pageup", "pageup")
        await settle(pilot)
        await pilot.press("ctrl+t")
        await settle(pilot)
        assert isinstance(room.sent[-1], HintRequest)
        hint = message(13, MessageKind.HINT, "Think of rollback.")
        room.emit(StateChanged(state=Phase.HINTING), InterviewMessage(message=hint))
        room.emit(StateChanged(state=Phase.IDLE))
        await settle(pilot)
        assert "Think of rollback." in shown(app)

    drive(watch, session, interview_id="one")


# --- The local server ---------------------------------------------------------------------------


def test_loses_the_local_server() -> None:
    """While the local server is restarted, both screens say so; if it cannot be restarted, a
    dialogue offers another attempt, which sends an unconfirmed answer again."""
    session, room = ready()
    session.local = True

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"sent", "enter", *"draft")
        await settle(pilot)
        room.emit(ConnectionChanged(status=ConnectionStatus.OFFLINE, retry_in=0.2))
        await settle(pilot)
        assert app.screen.query_one(ConnectionBanner).display
        assert "The interviewer stopped. Restarting" in shown(app)
        for each in (room, session.lobby):
            each.emit(LocalServerFailed("The local server did not start. It says: no space."))
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await settle(pilot)
        assert "no space" in shown(app)
        assert "Your answer and your draft are safe." in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, InterviewScreen))
        await until(pilot, lambda: len(texts(room)) == 2)
        assert session.restarts == 1
        first, second = (each for each in room.sent if isinstance(each, UserMessage))
        assert first == second
        assert box(app).text == "draft"
        room.emit(*joined(asked_once()))
        await settle(pilot)
        assert not app.screen.query_one(ConnectionBanner).display

    drive(watch, session, interview_id="one")


def test_gives_up_on_the_local_server() -> None:
    """Without another attempt, prep ends with exit code 3."""
    session, room = ready()
    session.local = True

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(LocalServerFailed("The local server did not start."))
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("n")
        await settle(pilot)
        assert app.return_code == 3

    drive(watch, session, interview_id="one")
