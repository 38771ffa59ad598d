"""An interview on the screen, as the candidate sees and drives it."""

from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Markdown, Static

from prepcli.app import PrepApp
from prepcli.client.state import ConnectionChanged, ConnectionStatus
from prepcli.errors import MicrophoneUnavailable, NotAuthorised, NotFound
from prepcli.screens.confirm import ConfirmScreen
from prepcli.screens.interview import InterviewScreen
from prepcli.screens.lobby import LobbyScreen
from prepcli.widgets.answer import AnswerBox
from prepcli.widgets.connection import ConnectionBanner
from prepcli.widgets.level import LevelMeter
from prepcli.widgets.status import StatusLine
from prepcli.widgets.transcript import Transcript
from prepserver.protocol import (
    BYTES_PER_SECOND,
    MAX_ANSWER,
    Caption,
    DeltaDropped,
    Failure,
    GetAllMessages,
    HintRequest,
    InterviewDeleted,
    InterviewEnd,
    MessageKind,
    MessageSaid,
    Phase,
    Snapshot,
    StateChanged,
    Status,
    Streaming,
    TurnRetry,
    TurnStop,
    UserMessage,
    UserRecording,
    UserTyping,
)
from tests.cli.screens.support import (
    Clock,
    Ears,
    FakeRoom,
    FakeSession,
    answer,
    asked_once,
    drive,
    headings,
    interview,
    joined,
    notices,
    question,
    said,
    settle,
    shown,
    streamed,
    words,
)

SECOND = b"\x00\x10" * (BYTES_PER_SECOND // 2)
"""A second of sound."""


def ready(snapshot: Snapshot | None = None) -> tuple[FakeSession, FakeRoom]:
    """A session with one interview in which a question is open."""
    session = FakeSession([interview()])
    room = session.interview()
    room.say(*joined(snapshot or asked_once()))
    return session, room


def box(app: PrepApp) -> AnswerBox:
    return app.screen.query_one(AnswerBox)


def status(app: PrepApp) -> str:
    return app.screen.query_one(StatusLine).activity.words


def texts(room: FakeRoom) -> list[str]:
    """The answers that the room was given."""
    return [message.text for message in room.sent if isinstance(message, UserMessage)]


def test_question_streams_in() -> None:
    """Each piece of a question is on the screen before the next one comes."""
    session, room = ready(asked_once(messages=[], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert status(app) == "Thinking…"
        seen = []
        for piece in streamed("q", ["Why ", "a queue, ", "and not a lock?"]):
            room.say(piece)
            await settle(pilot)
            seen.append(words(app)[-1])
        assert seen == ["Why ", "Why a queue, ", "Why a queue, and not a lock?"]
        assert status(app) == "Asking…"
        assert app.screen.query(Markdown).last().source == "Why a queue, and not a lock?"

    drive(watch, session, interview_id="one")


def test_whole_message_takes_the_place_of_what_streamed() -> None:
    """A question that is whole stands once in the transcript, as it was decided at the end."""
    session, room = ready(asked_once(messages=[], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.say(*streamed("q", ["Why a ", "queu"]))
        await settle(pilot)
        room.say(MessageSaid(message=said(0, MessageKind.QUESTION, "Why a queue?", message_id="q")))
        room.say(StateChanged(state=Phase.IDLE))
        await settle(pilot)
        assert words(app) == ["Why a queue?"]
        assert status(app) == "Your turn"

    drive(watch, session, interview_id="one")


def test_dropped_stream_disappears() -> None:
    """Words of a question that will not be finished leave the screen."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.say(StateChanged(state=Phase.GENERATING), *streamed("q", ["Why a "]))
        await settle(pilot)
        assert len(words(app)) == 2
        room.say(DeltaDropped(message_id="q"))
        await settle(pilot)
        assert words(app) == ["How do you test a migration?"]

    drive(watch, session, interview_id="one")


def test_refresh_in_the_middle_of_a_stream() -> None:
    """Who joins while the model speaks sees what it said so far and then the rest."""
    half = Streaming(id="q", kind=MessageKind.QUESTION, text="Why a ", offset=6)
    session, room = ready(asked_once(state=Phase.GENERATING, streaming=half))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert words(app) == ["How do you test a migration?", "Why a "]
        assert status(app) == "Asking…"
        room.say(*streamed("q", ["queue?"], start="Why a "))
        await settle(pilot)
        assert words(app)[-1] == "Why a queue?"

    drive(watch, session, interview_id="one")


def test_gap_in_a_stream_asks_for_a_snapshot() -> None:
    """A piece that does not fit is not shown in a wrong place: the whole truth is asked for."""
    session, room = ready(asked_once(messages=[], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.say(*streamed("q", ["lock?"], start="Why a queue and not a "))
        await settle(pilot)
        assert words(app) == []
        assert [m for m in room.sent if isinstance(m, GetAllMessages)] == [GetAllMessages()]

    drive(watch, session, interview_id="one")


def test_enter_sends_the_answer() -> None:
    """Enter sends what was typed, the box is empty, and the answer is shown as on its way."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"on a copy", "enter")
        await settle(pilot)
        assert texts(room) == ["on a copy"]
        assert box(app).text == ""
        assert headings(app)[-1] == "You · on its way"
        assert words(app)[-1] == "on a copy"
        room.say(MessageSaid(message=answer(1, "on a copy")))
        await settle(pilot)
        assert headings(app)[-1] == "You"
        assert words(app) == ["How do you test a migration?", "on a copy"]

    drive(watch, session, interview_id="one")


def test_ctrl_j_begins_a_new_line() -> None:
    """An answer may have several lines; nothing leaves before enter."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("a", "ctrl+j", "b")
        assert texts(room) == []
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert texts(room) == ["a\nb"]

    drive(watch, session, interview_id="one")


def test_burst_of_keys_is_taken_in_order() -> None:
    """Keys that come faster than the screen keeps up with end up where they were meant."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        for character in "ab":
            app.post_message(Key(character, character))
        app.post_message(Key("ctrl+j", "\n"))
        app.post_message(Key("c", "c"))
        app.post_message(Key("enter", "\r"))
        app.post_message(Key("d", "d"))
        await settle(pilot)
        assert texts(room) == ["ab\nc"]
        assert box(app).text == "d"

    drive(watch, session, interview_id="one")


def test_empty_answer_stays() -> None:
    """White space is no answer."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("space", "enter")
        await settle(pilot)
        assert texts(room) == []

    drive(watch, session, interview_id="one")


def test_too_long_answer_stays_in_the_box() -> None:
    """An answer over the limit is not sent, and the candidate is told."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        box(app).put("x" * (MAX_ANSWER + 1))
        await pilot.press("enter")
        await settle(pilot)
        assert texts(room) == []
        assert len(box(app).text) == MAX_ANSWER + 1
        assert "at most 16,000 characters" in notices(app)[-1]

    drive(watch, session, interview_id="one")


def test_answer_waits_while_the_model_works() -> None:
    """While the interviewer is at work an answer is not sent, and not lost."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.say(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        await pilot.press(*"later", "enter")
        await settle(pilot)
        assert texts(room) == []
        assert box(app).text == "later"
        assert "still at work" in notices(app)[-1]

    drive(watch, session, interview_id="one")


def test_refused_answer_comes_back() -> None:
    """An answer that the server does not take returns to the box, before what was typed since."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"first", "enter", *"next")
        await settle(pilot)
        [sent] = [m for m in room.sent if isinstance(m, UserMessage)]
        room.say(Failure(code="rate_limited", message="Come back tomorrow.", id=sent.id))
        await settle(pilot)
        assert box(app).text == "first\nnext"
        assert notices(app)[-1] == "Come back tomorrow."
        assert words(app) == ["How do you test a migration?"]

    drive(watch, session, interview_id="one")


def test_typing_is_told_every_two_seconds() -> None:
    """However fast somebody types, the room hears of it at most once in two seconds."""
    session, room = ready()
    clock = Clock()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        def told() -> int:
            return sum(isinstance(message, UserTyping) for message in room.sent)

        await pilot.press(*"quick")
        await settle(pilot)
        assert told() == 1
        clock.time = 1.9
        await pilot.press(*"er")
        await settle(pilot)
        assert told() == 1
        clock.time = 2.0
        await pilot.press("s")
        await settle(pilot)
        assert told() == 2

    drive(watch, session, interview_id="one", monotonic=clock)


def test_recording() -> None:
    """One key records and shows the level, the same key stops and sends what was heard."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        meter = app.screen.query_one(LevelMeter)
        assert meter.display
        assert meter.seconds == 1
        assert -20 < meter.level < -15
        assert status(app) == "Listening…"
        assert UserRecording() in room.sent
        room.say(Caption(text="On a copy"))
        await settle(pilot)
        assert headings(app)[-1] == "You · speaking"
        await pilot.press("ctrl+r")
        ears.say(SECOND)
        await settle(pilot)
        [recording] = room.recordings
        assert recording.pcm == SECOND * 2
        assert recording.ended == "stopped"
        assert not meter.display
        assert headings(app) == ["Interviewer · question 1"]

    ears = Ears(SECOND)
    drive(watch, session, interview_id="one", hears=ears)


def test_short_recording_is_discarded_by_escape() -> None:
    """Escape forgets a recording of a moment without a question."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert status(app) == "Your turn"
        ears.say(SECOND)
        await settle(pilot)
        assert [recording.ended for recording in room.recordings] == ["cancelled"]
        assert not app.screen.query_one(LevelMeter).display
        assert not any(isinstance(message, TurnStop) for message in room.sent)

    ears = Ears(SECOND)
    drive(watch, session, interview_id="one", hears=ears)


def test_long_recording_is_not_discarded_by_accident() -> None:
    """Before a long recording is forgotten, prep asks, and records on meanwhile."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        ears.say(SECOND)
        await settle(pilot)
        assert room.recordings[0].pcm == SECOND * 5
        assert room.recordings[0].ended == ""
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("y")
        ears.say(SECOND)
        await settle(pilot)
        assert room.recordings[0].ended == "cancelled"

    ears = Ears(*[SECOND] * 4)
    drive(watch, session, interview_id="one", hears=ears)


def test_leaving_forgets_a_recording() -> None:
    """A recording whose screen is left is cancelled, not sent half."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert [recording.ended for recording in room.recordings] == ["cancelled"]

    drive(watch, session, interview_id="one", hears=Ears(SECOND))


def test_no_Ears() -> None:
    """Without a microphone the key says why, and answers can still be typed."""
    session, room = ready()
    reason = "The microphone needs PortAudio, which is not installed."

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+r")
        await settle(pilot)
        assert notices(app) == [reason]
        assert room.recordings == []
        assert status(app) == "Your turn"
        await pilot.press(*"typed", "enter")
        await settle(pilot)
        assert texts(room) == ["typed"]

    ears = Ears(error=MicrophoneUnavailable(reason))
    drive(watch, session, interview_id="one", hears=ears)


def test_lost_connection_is_shown_and_nothing_typed_is_lost() -> None:
    """The banner counts down to the next attempt; the draft stays; online again, it goes."""
    session, room = ready()
    clock = Clock()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"half a")
        room.say(ConnectionChanged(status=ConnectionStatus.OFFLINE, retry_in=7.5))
        await settle(pilot)
        banner = app.screen.query_one(ConnectionBanner)
        assert banner.display
        assert "trying again in 8 s" in shown(app)
        clock.time = 7.5
        room.say(ConnectionChanged(status=ConnectionStatus.CONNECTING))
        await settle(pilot)
        assert banner.display
        assert "trying again now" in shown(app)
        room.say(*joined(asked_once()))
        await settle(pilot)
        assert not banner.display
        assert box(app).text == "half a"

    drive(watch, session, interview_id="one", monotonic=clock)


def test_failed_turn_offers_to_try_again() -> None:
    """A turn that failed shows the server's sentence and the key, and the key retries."""
    session, room = ready(asked_once(messages=[question(0), answer(1)], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.say(Failure(code="inference", message="The model did not answer.", retryable=True))
        room.say(StateChanged(state=Phase.IDLE))
        await settle(pilot)
        failure = str(app.screen.query_one("#failure", Static).render())
        assert failure == "The model did not answer. Press ctrl+g to try again."
        assert status(app) == "Stopped"
        assert "Try again" in shown(app)
        await pilot.press("ctrl+g")
        await settle(pilot)
        assert isinstance(room.sent[-1], TurnRetry)
        room.say(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        assert not app.screen.query_one("#failure").display

    drive(watch, session, interview_id="one")


def test_escape_stops_the_interviewer() -> None:
    """Escape stops a model that works, and does nothing when none does."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("escape")
        await settle(pilot)
        assert room.sent == []
        room.say(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(room.sent[-1], TurnStop)

    drive(watch, session, interview_id="one")


def test_hint() -> None:
    """A hint is asked for by key and stands out from what the interviewer asks."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+t")
        await settle(pilot)
        assert isinstance(room.sent[-1], HintRequest)
        room.say(StateChanged(state=Phase.HINTING))
        await settle(pilot)
        assert status(app) == "Thinking of a hint…"
        room.say(MessageSaid(message=said(1, MessageKind.HINT, "Think of rollback.")))
        room.say(StateChanged(state=Phase.IDLE))
        await settle(pilot)
        assert headings(app)[-1] == "Hint"
        assert status(app) == "Your turn"

    drive(watch, session, interview_id="one")


def test_ending_is_confirmed() -> None:
    """The interview ends by key, but only after a yes."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+o")
        await settle(pilot)
        await pilot.press("n")
        await settle(pilot)
        assert room.sent == []
        await pilot.press("ctrl+o")
        await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert isinstance(room.sent[-1], InterviewEnd)

    drive(watch, session, interview_id="one")


def test_completed() -> None:
    """A completed interview says so, shows closing and summary, and takes no more answers."""
    over = asked_once(
        interview=interview(asked=5, answered=5, status=Status.COMPLETED),
        messages=[
            question(0),
            answer(1),
            said(2, MessageKind.CLOSING, "Thank you."),
            said(3, MessageKind.SUMMARY, "You **tested** first."),
        ],
    )
    session, room = ready(over)

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = shown(app)
        assert "Interview completed" in screen
        assert "5 of 5 answered" in screen
        assert headings(app)[-2:] == ["Interviewer", "How it went"]
        assert not box(app).display
        assert "Record" not in screen
        await pilot.press("ctrl+r", "x", "enter")
        await settle(pilot)
        assert room.sent == []
        await pilot.press("ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)

    drive(watch, session, interview_id="one")


def test_draft_is_kept_when_the_interview_is_left() -> None:
    """What was written and not sent is in the box again when the interview is opened again."""
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"draft", "ctrl+l")
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(app.screen, InterviewScreen)
        assert box(app).text == "draft"

    drive(watch, session, interview_id="one")


def test_quitting_does_not_lose_an_answer_by_accident() -> None:
    """With an unsent answer in the box prep asks before it ends; without one it just ends."""
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("x", "ctrl+q")
        await settle(pilot)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        await settle(pilot)
        assert box(app).text == "x"
        await pilot.press("backspace", "ctrl+q")
        await settle(pilot)
        assert app.return_value == 0

    drive(watch, session, interview_id="one")


def test_interview_deleted_elsewhere() -> None:
    """An interview that is deleted by another client closes, with what is open on top of it."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("f1")
        await settle(pilot)
        room.say(InterviewDeleted(interview_id="one"))
        await settle(pilot)
        assert isinstance(app.screen, LobbyScreen)
        assert notices(app) == ["This interview was deleted."]

    drive(watch, session, interview_id="one")


def test_missing_interview() -> None:
    """An interview that is not there leaves the candidate in the list, with the reason."""
    session = FakeSession()
    session.interview().say(NotFound("There is no interview “one”."))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert isinstance(app.screen, LobbyScreen)
        assert notices(app) == ["There is no interview “one”."]

    drive(watch, session, interview_id="one")


def test_not_authorised() -> None:
    """Without authorisation prep ends with exit code 4."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.say(NotAuthorised("Log in again: prep login."))
        await settle(pilot)
        assert app.return_value == 4

    drive(watch, session, interview_id="one")


def test_candidate_words_are_shown_as_written() -> None:
    """Markdown in an answer is not interpreted, and escape sequences do not reach the terminal."""
    session, _ = ready(asked_once(messages=[question(0), answer(1, "*a* [b](c) \x1b[31mred")]))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert words(app)[-1] == "*a* [b](c) \ufffd[31mred"
        assert "*a* [b](c)" in shown(app)
        assert "\x1b" not in shown(app)

    drive(watch, session, interview_id="one")


def test_reader_who_went_back_is_left_there() -> None:
    """Page up reads what was said before while new words come; page down follows them again."""
    told = [
        message
        for place in range(0, 12, 2)
        for message in (question(place), answer(place + 1, "Because. " * 40))
    ]
    session, room = ready(asked_once(messages=told, state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        transcript = app.screen.query_one(Transcript)
        assert transcript.scroll_y == transcript.max_scroll_y > 20
        await pilot.press("pageup", "pageup")
        await settle(pilot)
        there = transcript.scroll_y
        assert there < transcript.max_scroll_y - 10
        room.say(*streamed("q", ["Why? "] * 60))
        await settle(pilot)
        assert transcript.scroll_y == there
        await pilot.press(*["pagedown"] * 5)
        await settle(pilot)
        assert transcript.scroll_y == transcript.max_scroll_y
        room.say(*streamed("q", ["Really? "] * 60, start="Why? " * 60))
        await settle(pilot)
        assert transcript.scroll_y == transcript.max_scroll_y

    drive(watch, session, interview_id="one")


def test_narrow_terminal() -> None:
    """In 44 columns the state and the time stay, and the rest of the facts go."""
    session, _ = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        screen = shown(app)
        assert "Your turn" in screen
        assert "question 1 of 5 · 0:00" in screen
        assert "requests left" not in screen
        assert all(len(line) <= 44 for line in screen.splitlines())

    drive(watch, session, interview_id="one", size=(44, 20))
