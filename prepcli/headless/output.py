"""Output of an interview without a screen: the conversation as text, or the protocol as JSON."""

from typing import Protocol, TextIO

from prepcli.client.state import ConnectionStatus, RoomState
from prepcli.headless.export import speaker_name
from prepcli.terminal_text import escape_json, printable
from prepserver.wire.protocol import Message, MessageKind, Phase, Role, StreamingMessage

__all__ = ["JsonOutput", "Output", "PlainOutput"]

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

    def prompt(self) -> None:
        """Ask the user to type an answer."""

    def skip_echo(self, text: str) -> None:
        """Avoid printing the answer `text` again, because the user has typed it at the prompt."""

    def note(self, line: str) -> None:
        """Show a note from prep itself."""


class _StderrNotes:
    """Output of notes and progress on standard error."""

    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._phase = Phase.IDLE
        self._online = True

    def note(self, line: str) -> None:
        print(f"· {printable(line)}", file=self._err, flush=True)

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

    def __init__(self, out: TextIO, err: TextIO) -> None:
        super().__init__(err)
        self._out = out

    def write_frame(self, data: str) -> None:
        print(escape_json(data), file=self._out, flush=True)

    def show_state(self, state: RoomState) -> None:
        self._show_progress(state)

    def prompt(self) -> None:
        return

    def skip_echo(self, text: str) -> None:
        return


class PlainOutput(_StderrNotes):
    """Output of the conversation as text. If `live` is True, each delta is printed as it
    arrives."""

    def __init__(self, out: TextIO, err: TextIO, *, live: bool) -> None:
        """If `live` is True, a message is printed while it is being generated, not once it is
        complete."""
        super().__init__(err)
        self._out = out
        self._live = live
        self._printed: dict[str, str] = {}
        """Text of each printed message by message id."""
        self._streaming_id = ""
        """Id of the message that is partly printed on the last line; empty if there is no such
        message."""
        self._streaming_text = ""
        self._prompting = False
        self._echoed = ""
        """Answer that the user has typed and the server has not confirmed; empty if there is no
        such answer."""

    def write_frame(self, data: str) -> None:
        return

    def show_state(self, state: RoomState) -> None:
        for message in state.messages:
            if self._printed.get(message.id) != message.text:
                self._print_message(message)
        if self._live:
            self._print_streaming(state.streaming)
        self._show_progress(state)

    def note(self, line: str) -> None:
        self._end_line()
        super().note(line)

    def prompt(self) -> None:
        self._end_line()
        self._prompting = True
        self._write("You: ")

    def skip_echo(self, text: str) -> None:
        self._prompting = False
        self._echoed = text

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
        prompting = self._prompting
        self._end_line()
        self._write(f"{_prefix(message.kind, message.role, text, corrected=corrected)}{text}\n")
        if prompting:
            self.prompt()

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
        if self._streaming_id or self._prompting:
            self._write("\n")
        self._streaming_id = self._streaming_text = ""
        self._prompting = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _prefix(kind: MessageKind, role: Role, text: str, *, corrected: bool = False) -> str:
    """Return the label before a message's text; a summary with its own heading gets a blank line
    instead."""
    if kind is MessageKind.SUMMARY:
        return "\n" if text.startswith("#") else "\nSummary:\n"
    return f"{speaker_name(kind, role)}{' (corrected)' if corrected else ''}: "
