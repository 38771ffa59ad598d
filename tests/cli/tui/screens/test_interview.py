"""Transcript and typed answers on the interview screen."""

from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Markdown

from prepcli.tui.app import PrepApp
from prepserver.wire.client_messages import (
    GetAllMessages,
    UserMessage,
    UserTyping,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.limits import MAX_ANSWER
from prepserver.wire.protocol import (
    DeltaDropped,
    Failure,
    InterviewMessage,
    MessageKind,
    Phase,
    StateChanged,
    StreamingMessage,
)
from tests.cli.tui.screens.interviews import box, ready, status, texts
from tests.cli.tui.screens.support import (
    Clock,
    answer,
    asked_once,
    drive,
    headings,
    message,
    notices,
    settle,
    streamed,
    words,
)


def test_question_streams_in() -> None:
    """Each delta of a question is shown as soon as it arrives."""
    session, room = ready(asked_once(messages=[], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert status(app) == "Thinking…"
        seen = []
        for piece in streamed("q", ["Why ", "a queue, ", "and not a lock?"]):
            room.emit(piece)
            await settle(pilot)
            seen.append(words(app)[-1])
        assert seen == ["Why ", "Why a queue, ", "Why a queue, and not a lock?"]
        assert status(app) == "Asking…"
        assert app.screen.query(Markdown).last().source == "Why a queue, and not a lock?"

    drive(watch, session, interview_id="one")


def test_whole_message_replaces_the_streamed_one() -> None:
    """A finished question appears once in the transcript, with its final text."""
    session, room = ready(asked_once(messages=[], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(*streamed("q", ["Why a ", "queu"]))
        await settle(pilot)
        room.emit(
            InterviewMessage(
                message=message(0, MessageKind.QUESTION, "Why a queue?", message_id="q")
            )
        )
        room.emit(StateChanged(state=Phase.IDLE))
        await settle(pilot)
        assert words(app) == ["Why a queue?"]
        assert status(app) == "Your turn"

    drive(watch, session, interview_id="one")


def test_dropped_stream_disappears() -> None:
    """The text of an abandoned question is removed from the screen."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(StateChanged(state=Phase.GENERATING), *streamed("q", ["Why a "]))
        await settle(pilot)
        assert len(words(app)) == 2
        room.emit(DeltaDropped(message_id="q"))
        await settle(pilot)
        assert words(app) == ["How do you test a migration?"]

    drive(watch, session, interview_id="one")


def test_refresh_in_the_middle_of_a_stream() -> None:
    """A client that joins while a question is streaming shows the text so far, then the rest."""
    half = StreamingMessage(id="q", kind=MessageKind.QUESTION, text="Why a ", offset=6)
    session, room = ready(asked_once(state=Phase.GENERATING, streaming=half))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        assert words(app) == ["How do you test a migration?", "Why a "]
        assert status(app) == "Asking…"
        room.emit(*streamed("q", ["queue?"], start="Why a "))
        await settle(pilot)
        assert words(app)[-1] == "Why a queue?"

    drive(watch, session, interview_id="one")


def test_gap_in_a_stream_requests_a_snapshot() -> None:
    """A delta that leaves a gap in the text is not shown, and the client requests a snapshot."""
    session, room = ready(asked_once(messages=[], state=Phase.GENERATING))

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(*streamed("q", ["lock?"], start="Why a queue and not a "))
        await settle(pilot)
        assert words(app) == []
        assert [m for m in room.sent if isinstance(m, GetAllMessages)] == [GetAllMessages()]

    drive(watch, session, interview_id="one")


def test_enter_sends_the_answer() -> None:
    """Enter sends the text and empties the box; the answer is marked as being sent until the server
    has stored the answer."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"on a copy", "enter")
        await settle(pilot)
        assert texts(room) == ["on a copy"]
        assert box(app).text == ""
        assert headings(app)[-1] == "You · sending"
        assert words(app)[-1] == "on a copy"
        room.emit(InterviewMessage(message=answer(1, "on a copy")))
        await settle(pilot)
        assert headings(app)[-1] == "You"
        assert words(app) == ["How do you test a migration?", "on a copy"]

    drive(watch, session, interview_id="one")


def test_ctrl_j_inserts_a_line_break() -> None:
    """Ctrl+J inserts a line break without sending the answer; Ctrl+S sends all lines."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("a", "ctrl+j", "b")
        assert texts(room) == []
        await pilot.press("ctrl+s")
        await settle(pilot)
        assert texts(room) == ["a\nb"]

    drive(watch, session, interview_id="one")


def test_burst_of_keys_is_handled_in_order() -> None:
    """Keys that arrive faster than the screen updates take effect in order."""
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


def test_empty_answer_is_not_sent() -> None:
    """An answer that consists only of white space is not sent."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press("space", "enter")
        await settle(pilot)
        assert texts(room) == []

    drive(watch, session, interview_id="one")


def test_too_long_answer_stays_in_the_box() -> None:
    """An answer above the maximum length is not sent but stays in the box, and a warning is
    shown."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        box(app).set_text("x" * (MAX_ANSWER + 1))
        await pilot.press("enter")
        await settle(pilot)
        assert texts(room) == []
        assert len(box(app).text) == MAX_ANSWER + 1
        assert "at most 16,000 characters" in notices(app)[-1]

    drive(watch, session, interview_id="one")


def test_answer_waits_while_the_model_works() -> None:
    """An answer that is entered while the model is working is not sent but stays in the box."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        room.emit(StateChanged(state=Phase.GENERATING))
        await settle(pilot)
        await pilot.press(*"later", "enter")
        await settle(pilot)
        assert texts(room) == []
        assert box(app).text == "later"
        assert "still working" in notices(app)[-1]

    drive(watch, session, interview_id="one")


def test_rejected_answer_comes_back() -> None:
    """A rejected answer returns to the box, before any text that has been typed since."""
    session, room = ready()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        await pilot.press(*"first", "enter", *"next")
        await settle(pilot)
        [sent] = [m for m in room.sent if isinstance(m, UserMessage)]
        room.emit(Failure(code=ErrorCode.RATE_LIMITED, message="Come back tomorrow.", id=sent.id))
        await settle(pilot)
        assert box(app).text == "first\nnext"
        assert notices(app)[-1] == "Come back tomorrow."
        assert words(app) == ["How do you test a migration?"]

    drive(watch, session, interview_id="one")


def test_typing_is_reported_every_two_seconds() -> None:
    """While the candidate is typing, the room is notified at most once every two seconds."""
    session, room = ready()
    clock = Clock()

    async def watch(app: PrepApp, pilot: Pilot[int]) -> None:
        def reports() -> int:
            return sum(isinstance(message, UserTyping) for message in room.sent)

        await pilot.press(*"quick")
        await settle(pilot)
        assert reports() == 1
        clock.time = 1.9
        await pilot.press(*"er")
        await settle(pilot)
        assert reports() == 1
        clock.time = 2.0
        await pilot.press("s")
        await settle(pilot)
        assert reports() == 2

    drive(watch, session, interview_id="one", monotonic=clock)
