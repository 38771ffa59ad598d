"""What is said in an interview on the screen, and the answers that are typed."""

from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Markdown

from prepcli.tui.app import PrepApp
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.limits import MAX_ANSWER
from prepserver.wire.protocol import (
    DeltaDropped,
    Failure,
    GetAllMessages,
    InterviewMessage,
    MessageKind,
    Phase,
    StateChanged,
    StreamingMessage,
    UserMessage,
    UserTyping,
)
from tests.cli.tui.screens.interviews import box, ready, status, texts
from tests.cli.tui.screens.support import (
    Clock,
    answer,
    asked_once,
    drive,
    headings,
    notices,
    said,
    settle,
    streamed,
    words,
)


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
        room.say(
            InterviewMessage(message=said(0, MessageKind.QUESTION, "Why a queue?", message_id="q"))
        )
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
    half = StreamingMessage(id="q", kind=MessageKind.QUESTION, text="Why a ", offset=6)
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
        room.say(InterviewMessage(message=answer(1, "on a copy")))
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
        room.say(Failure(code=ErrorCode.RATE_LIMITED, message="Come back tomorrow.", id=sent.id))
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
