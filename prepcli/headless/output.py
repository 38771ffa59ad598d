"""Output of an interview without a screen: the conversation as text, or the protocol as JSON."""

from collections.abc import Callable
from typing import Protocol, TextIO

from prepcli.client.state import ConnectionStatus, RoomState
from prepcli.headless.agenda import agenda_text
from prepcli.headless.export import speaker_name
from prepcli.terminal_text import escape_json, printable
from prepserver.wire.agenda import Agenda
from prepserver.wire.protocol import Message, MessageKind, Phase, Role, Status, StreamingMessage

__all__ = ["JsonOutput", "Output", "PlainOutput", "PrintAbove", "print_now"]

PrintAbove = Callable[[Callable[[], None]], None]
"""Function that calls its argument, which prints whole lines, without damage to an open prompt of
the terminal."""

_PHASE_NOTES = {
    Phase.EXTRACTING: "choosing the topics",
    Phase.TRANSCRIBING: "transcribing your answer",
    Phase.GENERATING: "thinking",
    Phase.HINTING: "thinking of a hint",
    Phase.REVIEWING: "reviewing your answers",
}


class Output(Protocol):
    """Output of a headless interview: plain text or the server's frames as JSON lines."""

    def write_frame(self, data: str) -> None:
        """Handle an unparsed text frame from the server."""

    def show_state(self, state: RoomState) -> None:
        """Show what has changed since the previous state."""

    def start_prompt(self) -> None:
        """Prepare for a prompt, at which the user types an answer."""

    def end_prompt(self, text: str) -> None:
        """Continue after the prompt, at which the user has typed the answer `text`."""

    def note(self, line: str) -> None:
        """Show a note from prep itself."""

    def show_agenda(self, agenda: Agenda) -> None:
        """Show the agenda at the user's request."""


def print_now(write: Callable[[], None]) -> None:
    """Call `write`. Used in place of a `PrintAbove` if there is no prompt."""
    write()


class _StderrNotes:
    """Output of notes and progress on standard error."""

    def __init__(self, out: TextIO, err: TextIO, print_above: PrintAbove = print_now) -> None:
        self._out = out
        self._err = err
        self._print_above = print_above
        self._phase = Phase.IDLE
        self._online = True

    def note(self, line: str) -> None:
        self._write(f"· {printable(line)}\n", self._err)

    def _write(self, text: str, stream: TextIO | None = None) -> None:
        """Write to `stream`, which is standard output by default."""
        stream = stream or self._out

        def write() -> None:
            stream.write(text)
            stream.flush()

        if stream.isatty():
            self._print_above(write)
        else:
            write()

    def _show_progress(self, state: RoomState) -> None:
        """Print a note when a phase other than `IDLE` begins, and when the connection is lost or
        restored."""
        if state.phase is not self._phase:
            self._phase = state.phase
            if state.phase in _PHASE_NOTES:
                self.note(_PHASE_NOTES[state.phase])
        if state.connection is ConnectionStatus.OFFLINE and self._online:
            self._online = False
            self.note("connection lost; reconnecting")
        elif state.connection is ConnectionStatus.ONLINE and not self._online:
            self._online = True
            self.note("reconnected")


class JsonOutput(_StderrNotes):
    """Output of the server's text frames, one per line, with unsafe characters escaped."""

    def write_frame(self, data: str) -> None:
        self._write(f"{escape_json(data, self._out.encoding)}\n")

    def show_state(self, state: RoomState) -> None:
        self._show_progress(state)

    def start_prompt(self) -> None:
        return

    def end_prompt(self, text: str) -> None:
        return

    def show_agenda(self, agenda: Agenda) -> None:
        """Show the agenda on standard error, since standard output is for the server's frames."""
        for line in agenda_text(agenda).splitlines():
            self.note(line)


class PlainOutput(_StderrNotes):
    """Output of the conversation as text. If `live` is True, each delta is printed as it
    arrives."""

    def __init__(
        self, out: TextIO, err: TextIO, print_above: PrintAbove = print_now, *, live: bool
    ) -> None:
        """If `live` is True, `out` is a terminal: a message is printed while it is being generated,
        not once it is complete, and an answer from the prompt is not printed again."""
        super().__init__(out, err, print_above)
        self._live = live
        self._printed: dict[str, str] = {}
        """Text of each printed message by message id."""
        self._streaming_id = ""
        """Id of the message that is partly printed on the last line; empty if there is no such
        message."""
        self._streaming_text = ""
        self._prompting = False
        self._agenda: Agenda | None = None
        """Agenda that was printed last."""
        self._echoed = ""
        """Answer that the user has typed and the server has not confirmed; empty if there is no
        such answer."""

    def write_frame(self, data: str) -> None:
        return

    def show_state(self, state: RoomState) -> None:
        self._print_plan(state)
        for message in state.messages:
            if self._printed.get(message.id) != message.text:
                self._print_message(message)
        self._show_progress(state)
        if self._live and not self._prompting:
            self._print_streaming(state.streaming)

    def note(self, line: str) -> None:
        self._end_line()
        super().note(line)

    def show_agenda(self, agenda: Agenda) -> None:
        self._end_line()
        self._write(agenda_text(agenda))
        self._agenda = agenda

    def start_prompt(self) -> None:
        self._end_line()
        self._prompting = True

    def end_prompt(self, text: str) -> None:
        self._prompting = False
        if self._live:
            self._echoed = text

    def _print_plan(self, state: RoomState) -> None:
        """Print the agenda when it is planned, and when it changes before the start."""
        if state.agenda is None or state.interview is None:
            return
        before_start = state.interview.status is Status.PLANNED
        first = self._agenda is None and not state.messages
        if first or (before_start and state.agenda != self._agenda):
            self.show_agenda(state.agenda)

    def _print_message(self, message: Message) -> None:
        corrected = message.id in self._printed
        self._printed[message.id] = message.text
        text = printable(message.text)
        if message.role is Role.CANDIDATE and self._echoed == message.text and not corrected:
            self._echoed = ""
            return
        if message.id == self._streaming_id and text.startswith(self._streaming_text):
            self._write(text[len(self._streaming_text) :])
            self._end_line()
            return
        self._end_line()
        self._write(f"{_prefix(message.kind, message.role, text, corrected=corrected)}{text}\n")

    def _print_streaming(self, streaming: StreamingMessage | None) -> None:
        if streaming is None:
            if self._streaming_id:
                self._end_line()  # the message was abandoned
            return
        text = printable(streaming.text)
        # A message that is generated again restarts under the same id.
        if streaming.id != self._streaming_id or not text.startswith(self._streaming_text):
            self._end_line()
            self._write(_prefix(streaming.kind, Role.INTERVIEWER, text))
            self._streaming_id, self._streaming_text = streaming.id, ""
        self._write(text[len(self._streaming_text) :])
        self._streaming_text = text

    def _end_line(self) -> None:
        if self._streaming_id:
            self._write("\n")
        self._streaming_id = self._streaming_text = ""


def _prefix(kind: MessageKind, role: Role, text: str, *, corrected: bool = False) -> str:
    """Return the label before a message's text; a summary with its own heading gets a blank line
    instead."""
    if kind is MessageKind.SUMMARY:
        return "\n" if text.startswith("#") else "\nSummary:\n"
    return f"{speaker_name(kind, role)}{' (corrected)' if corrected else ''}: "
