import io
from collections.abc import Iterable

from prepcli.client.state import ConnectionChanged, ConnectionStatus, RoomEvent, RoomState, apply
from prepcli.headless.output import JsonOutput, PlainOutput
from prepserver.wire.protocol import (
    Delta,
    DeltaDropped,
    InterviewMessage,
    MessageKind,
    Phase,
    Snapshot,
    StateChanged,
)
from tests.cli.client.things import interview, said

QUESTION, ANSWER, HINT = MessageKind.QUESTION, MessageKind.ANSWER, MessageKind.HINT


class Terminal:
    """What stands on a terminal after some events."""

    def __init__(self, *, live: bool) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.output = PlainOutput(self.out, self.err, live=live)
        self.state = RoomState()

    def play(self, *events: RoomEvent) -> str:
        for event in events:
            self.state = apply(self.state, event)
            self.output.show(self.state)
        return self.out.getvalue()


def deltas(pieces: Iterable[str]) -> list[RoomEvent]:
    events: list[RoomEvent] = []
    offset = 0
    for piece in pieces:
        first = Delta(message_id="m0", kind=QUESTION, offset=0, text=piece)
        events.append(Delta(offset=offset, text=piece) if offset else first)
        offset += len(piece)
    return events


def test_the_conversation_is_lines() -> None:
    """Each message is a line that begins with who says it; a summary has lines of its own."""
    terminal = Terminal(live=False)
    text = terminal.play(
        *deltas(["Wh"]),
        InterviewMessage(message=said(0)),
        InterviewMessage(message=said(1, HINT, "Think.")),
        InterviewMessage(message=said(2, ANSWER, "Because.")),
        InterviewMessage(message=said(3, MessageKind.CLOSING, "Thanks.")),
        InterviewMessage(message=said(4, MessageKind.SUMMARY, "- a\n- b")),
    )
    assert text == (
        "Interviewer: Why?\nHint: Think.\nYou: Because.\nInterviewer: Thanks.\n"
        "\nSummary:\n- a\n- b\n"
    )


def test_a_terminal_sees_each_word_as_it_comes() -> None:
    """The line grows with the deltas, and the whole message only completes it."""
    terminal = Terminal(live=True)
    first, second = deltas(["Wh", "y"])
    assert terminal.play(first) == "Interviewer: Wh"
    assert terminal.play(second) == "Interviewer: Why"
    assert terminal.play(InterviewMessage(message=said(0))) == "Interviewer: Why?\n"


def test_a_message_that_is_taken_back_ends_its_line() -> None:
    """What comes after it begins on a new line and is printed whole."""
    terminal = Terminal(live=True)
    text = terminal.play(
        *deltas(["Wha"]), DeltaDropped(message_id="m0"), InterviewMessage(message=said(0))
    )
    assert text == "Interviewer: Wha\nInterviewer: Why?\n"


def test_a_message_that_turned_out_otherwise_is_printed_again() -> None:
    """What was streamed is not what is stored: the stored one counts."""
    terminal = Terminal(live=True)
    text = terminal.play(*deltas(["Wha"]), InterviewMessage(message=said(0)))
    assert text == "Interviewer: Wha\nInterviewer: Why?\n"


def test_a_snapshot_prints_only_what_is_new() -> None:
    """After a reconnect nothing is said twice, and nothing is missing."""
    terminal = Terminal(live=False)
    terminal.play(InterviewMessage(message=said(0)))
    text = terminal.play(
        Snapshot(interview=interview(), messages=[said(0), said(1, ANSWER, "A."), said(2)])
    )
    assert text == "Interviewer: Why?\nYou: A.\nInterviewer: Why?\n"


def test_a_corrected_answer_says_that_it_is_one() -> None:
    """A correction from another client is seen."""
    terminal = Terminal(live=False)
    text = terminal.play(
        InterviewMessage(message=said(1, ANSWER, "wrong")),
        InterviewMessage(message=said(1, ANSWER, "right")),
    )
    assert text == "You: wrong\nYou (corrected): right\n"


def test_what_was_typed_at_the_prompt_is_not_printed_again() -> None:
    """The terminal shows it already; other answers are printed."""
    terminal = Terminal(live=True)
    terminal.play(InterviewMessage(message=said(0)))
    terminal.output.ask()
    terminal.out.write("Because.\n")  # the echo
    terminal.output.typed("Because.")
    text = terminal.play(InterviewMessage(message=said(1, ANSWER, "Because.")))
    assert text == "Interviewer: Why?\nYou: Because.\n"
    assert (
        terminal.play(InterviewMessage(message=said(3, ANSWER, "Because."))).count("Because.") == 2
    )


def test_a_hint_at_the_prompt_leaves_a_prompt() -> None:
    """Whoever thinks about an answer gets the hint on a line of its own, and the prompt again."""
    terminal = Terminal(live=True)
    terminal.output.ask()
    text = terminal.play(InterviewMessage(message=said(1, HINT, "Think.")))
    assert text == "You: \nHint: Think.\nYou: "


def test_terminals_are_not_obeyed() -> None:
    """Words that would move the cursor or set the title are only words."""
    terminal = Terminal(live=True)
    evil = "Wh\x1b]0;owned\x07y\x9b2J?\r"
    text = terminal.play(*deltas([evil]), InterviewMessage(message=said(0, text=evil)))
    assert text == "Interviewer: Wh]0;ownedy2J?\n"


def test_progress_is_not_part_of_the_conversation() -> None:
    """States and lost connections go to standard error, each once."""
    terminal = Terminal(live=False)
    text = terminal.play(
        ConnectionChanged(ConnectionStatus.ONLINE),
        StateChanged(state=Phase.TRANSCRIBING),
        StateChanged(state=Phase.GENERATING),
        StateChanged(state=Phase.GENERATING),
        ConnectionChanged(ConnectionStatus.OFFLINE, 1.0),
        ConnectionChanged(ConnectionStatus.CONNECTING),
        ConnectionChanged(ConnectionStatus.OFFLINE, 1.0),
        ConnectionChanged(ConnectionStatus.ONLINE),
    )
    assert text == ""
    assert terminal.err.getvalue().splitlines() == [
        "· writing down what you said",
        "· thinking",
        "· connection lost, trying again",
        "· connected again",
    ]


def test_json_is_what_the_server_sent() -> None:
    """Frames pass as they came, one a line, and nothing else is on standard output."""
    out, err = io.StringIO(), io.StringIO()
    output = JsonOutput(out, err)
    output.frame('{"type":"from.the.future", "x":1}')
    output.show(RoomState(phase=Phase.GENERATING))
    output.note("a note")
    output.ask()
    output.typed("x")
    assert out.getvalue() == '{"type":"from.the.future", "x":1}\n'
    assert err.getvalue() == "· thinking\n· a note\n"
