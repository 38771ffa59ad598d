import io
import json
from collections.abc import Iterable

import pytest

from prepcli.client.state import ConnectionChanged, ConnectionStatus, RoomEvent, RoomState, apply
from prepcli.headless.output import JsonOutput, PlainOutput
from prepserver.wire.agenda import Agenda, TopicStatus, Where
from prepserver.wire.protocol import (
    AgendaChanged,
    Delta,
    DeltaDropped,
    InterviewMessage,
    MessageKind,
    Phase,
    Snapshot,
    StateChanged,
    Status,
)
from tests.cli.client.builders import make_agenda, make_interview, make_message, make_topic

QUESTION, ANSWER, HINT = MessageKind.QUESTION, MessageKind.ANSWER, MessageKind.HINT


class Terminal:
    """Plain output with the state that it shows and the text that it has printed."""

    def __init__(self, *, live: bool) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.output = PlainOutput(self.out, self.err, live=live)
        self.state = RoomState()

    def show(self, *events: RoomEvent) -> str:
        """Apply the events and return everything printed so far."""
        for event in events:
            self.state = apply(self.state, event)
            self.output.show_state(self.state)
        return self.out.getvalue()


def deltas(pieces: Iterable[str]) -> list[RoomEvent]:
    """Return one delta for each piece of a question with the id `m0`."""
    events: list[RoomEvent] = []
    offset = 0
    for piece in pieces:
        first = Delta(message_id="m0", kind=QUESTION, offset=0, text=piece)
        events.append(Delta(offset=offset, text=piece) if offset else first)
        offset += len(piece)
    return events


def test_messages_are_lines_with_a_speaker() -> None:
    """Each message is printed on one line after its speaker; a summary is printed below its
    heading."""
    terminal = Terminal(live=False)
    text = terminal.show(
        *deltas(["Wh"]),
        InterviewMessage(message=make_message(0)),
        InterviewMessage(message=make_message(1, HINT, "Think.")),
        InterviewMessage(message=make_message(2, ANSWER, "Because.")),
        InterviewMessage(message=make_message(3, MessageKind.CLOSING, "Thanks.")),
        InterviewMessage(message=make_message(4, MessageKind.SUMMARY, "- a\n- b")),
    )
    assert text == (
        "Interviewer: Why?\nHint: Think.\nYou: Because.\nInterviewer: Thanks.\n"
        "\nSummary:\n- a\n- b\n"
    )


def test_live_output_prints_deltas_as_they_arrive() -> None:
    """On a terminal, each delta extends the printed line; the complete message adds the rest and
    ends the line."""
    terminal = Terminal(live=True)
    first, second = deltas(["Wh", "y"])
    assert terminal.show(first) == "Interviewer: Wh"
    assert terminal.show(second) == "Interviewer: Why"
    assert terminal.show(InterviewMessage(message=make_message(0))) == "Interviewer: Why?\n"


def test_abandoned_message_ends_its_line() -> None:
    """On a terminal, the message after an abandoned one is printed in full on a new line."""
    terminal = Terminal(live=True)
    text = terminal.show(
        *deltas(["Wha"]), DeltaDropped(message_id="m0"), InterviewMessage(message=make_message(0))
    )
    assert text == "Interviewer: Wha\nInterviewer: Why?\n"


def test_message_that_differs_from_its_deltas_is_printed_again() -> None:
    """On a terminal, a complete message that does not extend the streamed text is printed in full
    on a new line."""
    terminal = Terminal(live=True)
    text = terminal.show(*deltas(["Wha"]), InterviewMessage(message=make_message(0)))
    assert text == "Interviewer: Wha\nInterviewer: Why?\n"


def test_snapshot_prints_only_new_messages() -> None:
    """The snapshot after a reconnect prints only messages that have not been printed before."""
    terminal = Terminal(live=False)
    terminal.show(InterviewMessage(message=make_message(0)))
    text = terminal.show(
        Snapshot(
            interview=make_interview(),
            messages=[make_message(0), make_message(1, ANSWER, "A."), make_message(2)],
        )
    )
    assert text == "Interviewer: Why?\nYou: A.\nInterviewer: Why?\n"


def test_corrected_answer_is_marked() -> None:
    """A corrected answer is printed again and marked as corrected."""
    terminal = Terminal(live=False)
    text = terminal.show(
        InterviewMessage(message=make_message(1, ANSWER, "wrong")),
        InterviewMessage(message=make_message(1, ANSWER, "right")),
    )
    assert text == "You: wrong\nYou (corrected): right\n"


def test_answer_typed_at_the_prompt_is_not_printed_again() -> None:
    """An answer that the terminal has echoed is not printed; a later answer with the same text is
    printed."""
    terminal = Terminal(live=True)
    terminal.show(InterviewMessage(message=make_message(0)))
    terminal.output.start_prompt()
    terminal.output.end_prompt("Because.")
    text = terminal.show(InterviewMessage(message=make_message(1, ANSWER, "Because.")))
    assert text == "Interviewer: Why?\n"
    text = terminal.show(InterviewMessage(message=make_message(3, ANSWER, "Because.")))
    assert text == "Interviewer: Why?\nYou: Because.\n"


def test_answer_typed_at_the_prompt_is_printed_to_a_file() -> None:
    """If standard output is not the terminal, it contains the answers typed at the prompt."""
    terminal = Terminal(live=False)
    terminal.output.start_prompt()
    terminal.output.end_prompt("Because.")
    text = terminal.show(InterviewMessage(message=make_message(1, ANSWER, "Because.")))
    assert text == "You: Because.\n"


def test_hint_at_the_prompt_is_printed_whole() -> None:
    """A hint that arrives at the prompt is printed at once when it is complete, because it is
    printed above the prompt."""
    terminal = Terminal(live=True)
    terminal.output.start_prompt()
    terminal.show(Delta(message_id="m1", kind=HINT, offset=0, text="Thi"))
    assert terminal.out.getvalue() == ""
    text = terminal.show(InterviewMessage(message=make_message(1, HINT, "Think.")))
    assert text == "Hint: Think.\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "koi8-r", "utf-8"])
def test_narrow_encodings(encoding: str) -> None:
    """JSON is complete in every encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    JsonOutput(out, io.StringIO()).write_frame('{"text":"it’s – 語 😀 é"}')
    out.seek(0)
    assert json.loads(out.read()) == {"text": "it’s – 語 😀 é"}


def test_control_characters_are_replaced() -> None:
    """Control characters in streamed and complete messages are printed as U+FFFD."""
    terminal = Terminal(live=True)
    evil = "Wh\x1b]0;owned\x07y\x9b2J?"
    text = terminal.show(*deltas([evil]), InterviewMessage(message=make_message(0, text=evil)))
    assert text == "Interviewer: Wh\ufffd]0;owned\ufffdy\ufffd2J?\n"


def test_progress_goes_to_standard_error() -> None:
    """Each new phase, the loss of the connection and the reconnect are noted on standard error."""
    terminal = Terminal(live=False)
    text = terminal.show(
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
    notes = terminal.err.getvalue().splitlines()
    for note, keyword in zip(
        notes, ("transcribing", "thinking", "lost", "reconnected"), strict=True
    ):
        assert note.startswith("· ")
        assert keyword in note


def test_json_output_is_the_server_frames() -> None:
    """JSON output copies each server frame to one line of standard output; notes go to standard
    error."""
    out, err = io.StringIO(), io.StringIO()
    output = JsonOutput(out, err)
    output.write_frame('{"type":"from.the.future", "x":1}')
    output.show_state(RoomState(phase=Phase.GENERATING))
    output.note("a note")
    output.start_prompt()
    output.end_prompt("x")
    assert out.getvalue() == '{"type":"from.the.future", "x":1}\n'
    assert err.getvalue() == "· thinking\n· a note\n"


def test_json_output_escapes_control_characters() -> None:
    """Unsafe characters in a frame are escaped, and the value of the JSON is unchanged."""
    out = io.StringIO()
    JsonOutput(out, io.StringIO()).write_frame('{"text":"ok \u202e\x9b"}')
    assert out.getvalue() == '{"text":"ok \\u202e\\u009b"}\n'


@pytest.mark.parametrize("live", [True, False])
def test_the_agenda_is_printed_once_when_it_is_planned(live: bool) -> None:
    """The agenda is printed before the first question, with reasons and without control
    characters; its progress is not printed."""
    terminal = Terminal(live=live)
    topic = make_topic(1, question="Why\x1b[2J?", reason="3 years of SQL", where=Where.JOB)
    terminal.show(Snapshot(interview=make_interview()))
    printed = 'Agenda:\n  1. Why\ufffd[2J? (3 min, because the job says "3 years of SQL")\n'
    assert terminal.show(AgendaChanged(agenda=Agenda(topics=[topic]))) == printed
    current = make_topic(1, TopicStatus.CURRENT)
    text = terminal.show(*deltas(["Wh"]), AgendaChanged(agenda=Agenda(topics=[current])))
    assert text.count("Agenda") == 1


def test_the_agenda_is_not_printed_on_resuming() -> None:
    """An interview that is resumed, or a real one that ends, does not print its agenda."""
    terminal = Terminal(live=False)
    text = terminal.show(
        Snapshot(interview=make_interview(), messages=[make_message(0)], agenda=make_agenda(2))
    )
    assert "Agenda" not in text


def test_the_agenda_is_printed_again_while_it_is_edited() -> None:
    """Before the start each change of the agenda is printed; an equal agenda is not."""
    terminal = Terminal(live=False)
    waiting = make_interview(status=Status.PLANNED)
    terminal.show(Snapshot(interview=waiting, agenda=make_agenda(2)))
    text = terminal.show(*(AgendaChanged(agenda=make_agenda(n)) for n in (2, 3, 3, 1)))
    assert text.count("Agenda") == 3


def test_json_output_shows_the_agenda_among_the_notes() -> None:
    """At the user's request, JSON output prints the agenda on standard error."""
    out, err = io.StringIO(), io.StringIO()
    JsonOutput(out, err).show_agenda(make_agenda(1))
    assert out.getvalue() == ""
    assert "1. Question 1? (3 min)" in err.getvalue()


def test_requests_and_replies_are_turns_of_their_own() -> None:
    """A request and its reply are printed under their speakers. An answer that turns out to be a
    request is not printed again."""
    terminal = Terminal(live=False)
    text = terminal.show(
        InterviewMessage(message=make_message(0)),
        InterviewMessage(message=make_message(1, ANSWER, "Pardon?")),
        InterviewMessage(message=make_message(1, MessageKind.REQUEST, "Pardon?")),
        InterviewMessage(message=make_message(2, MessageKind.REPLY, "Again: why?")),
    )
    assert text == "Interviewer: Why?\nYou: Pardon?\nInterviewer: Again: why?\n"
