"""What an interview without a screen prints: the conversation as lines, or the wire as JSON."""

from typing import Protocol, TextIO

from prepcli.client.state import ConnectionStatus, RoomState
from prepcli.headless.export import printable, speaker_name
from prepserver.wire.protocol import Message, MessageKind, Phase, Role, StreamingMessage

__all__ = ["JsonOutput", "Output", "PlainOutput"]

_PHASES = {
    Phase.EXTRACTING: "reading what the interview is about",
    Phase.TRANSCRIBING: "writing down what you said",
    Phase.GENERATING: "thinking",
    Phase.HINTING: "thinking of a hint",
    Phase.REVIEWING: "reviewing",
}


class Output(Protocol):
    """`frame` is given what the server sent, `show` what it came to, `note` what prep says."""

    def frame(self, data: str) -> None: ...
    def show(self, state: RoomState) -> None: ...
    def ask(self) -> None:
        """A person is about to type an answer."""

    def typed(self, text: str) -> None:
        """A person has typed an answer, which stands on the terminal already."""

    def note(self, line: str) -> None: ...


class _Notes:
    """Progress, on standard error."""

    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._phase = Phase.IDLE
        self._online = True

    def note(self, line: str) -> None:
        print(f"· {printable(line)}", file=self._err, flush=True)

    def _progress(self, state: RoomState) -> None:
        if state.phase is not self._phase:
            self._phase = state.phase
            if state.phase in _PHASES:
                self.note(_PHASES[state.phase])
        if state.connection is ConnectionStatus.OFFLINE and self._online:
            self._online = False
            self.note("connection lost, trying again")
        elif state.connection is ConnectionStatus.ONLINE and not self._online:
            self._online = True
            self.note("connected again")


class JsonOutput(_Notes):
    """Every text frame of the server as it came, one a line."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        super().__init__(err)
        self._out = out

    def frame(self, data: str) -> None:
        print(data, file=self._out, flush=True)

    def show(self, state: RoomState) -> None:
        self._progress(state)

    def ask(self) -> None:
        return

    def typed(self, text: str) -> None:
        return


class PlainOutput(_Notes):
    """The conversation as lines; on a terminal each word as it comes."""

    def __init__(self, out: TextIO, err: TextIO, *, live: bool) -> None:
        """`live` prints what is being said; otherwise messages are printed whole."""
        super().__init__(err)
        self._out = out
        self._live = live
        self._printed: dict[str, str] = {}
        self._open = ""
        """Id of the message whose beginning stands on the last line."""
        self._open_text = ""
        self._asking = False
        self._typed = ""

    def frame(self, data: str) -> None:
        return

    def show(self, state: RoomState) -> None:
        for message in state.messages:
            if self._printed.get(message.id) != message.text:
                self._print(message)
        if self._live:
            self._stream(state.streaming)
        self._progress(state)

    def note(self, line: str) -> None:
        self._end_line()
        super().note(line)

    def ask(self) -> None:
        self._end_line()
        self._asking = True
        self._write("You: ")

    def typed(self, text: str) -> None:
        self._asking = False
        self._typed = text

    def _print(self, message: Message) -> None:
        again = message.id in self._printed
        self._printed[message.id] = message.text
        text = printable(message.text)
        if message.role is Role.CANDIDATE and self._typed == message.text and not again:
            self._typed = ""
            return
        if message.id == self._open and text.startswith(self._open_text):
            self._write(text[len(self._open_text) :])
            self._end_line()
            return
        asking = self._asking
        self._end_line()
        self._write(f"{_lead(message.kind, message.role, text, again=again)}{text}\n")
        if asking:
            self.ask()

    def _stream(self, streaming: StreamingMessage | None) -> None:
        if streaming is None:
            if self._open:
                self._end_line()  # what was being said has been taken back
            return
        text = printable(streaming.text)
        # What is not printable may come in halves, so the text need not have grown by a delta.
        if streaming.id != self._open or not text.startswith(self._open_text):
            self._end_line()
            self._write(_lead(streaming.kind, Role.INTERVIEWER, text))
            self._open, self._open_text = streaming.id, ""
        self._write(text[len(self._open_text) :])
        self._open_text = text

    def _end_line(self) -> None:
        if self._open or self._asking:
            self._write("\n")
        self._open = self._open_text = ""
        self._asking = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _lead(kind: MessageKind, role: Role, text: str, *, again: bool = False) -> str:
    """What stands before the words of a message. A text with a title of its own needs none."""
    if kind is MessageKind.SUMMARY:
        return "\n" if text.startswith("#") else "\nSummary:\n"
    return f"{speaker_name(kind, role)}{' (corrected)' if again else ''}: "
