"""One message of the transcript: a heading and its text."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Markdown, Static

from prepcli.terminal_text import printable
from prepserver.wire.protocol import MessageKind, Role, Source, speaker_of

HEADINGS = {
    MessageKind.QUESTION: "Interviewer",
    MessageKind.ANSWER: "You",
    MessageKind.HINT: "Hint",
    MessageKind.CLOSING: "Interviewer",
    MessageKind.SUMMARY: "How it went",
    MessageKind.REQUEST: "You",
    MessageKind.REPLY: "Interviewer",
}


def heading(kind: MessageKind, *, number: int = 0, source: Source | None = None) -> str:
    """Return the heading of a message, such as `Interviewer · question 2` or `You · spoken`."""
    name = HEADINGS[kind]
    if kind is MessageKind.QUESTION and number:
        translated = " · translated" if source is Source.TRANSLATION else ""
        return f"{name} · question {number}{translated}"
    if speaker_of(kind) is Role.CANDIDATE and source is Source.SPEECH:
        return f"{name} · spoken"
    return name


class MessageView(Vertical):
    """A message in the transcript, whose text may still grow.

    The interviewer's text is rendered as Markdown; the candidate's text is shown as plain text.
    """

    DEFAULT_CSS = """
    MessageView {
        height: auto;
        margin: 0 0 1 0;
        padding: 0 1;
        border-left: thick $primary-muted;
        & > .message--heading { color: $text-muted; text-style: bold; }
        & > .message--words { padding: 0; height: auto; }
        &.-answer { border-left: thick $success-muted; }
        &.-hint { border-left: wide $warning; background: $warning 8%; }
        &.-hint > .message--heading { color: $text-warning; }
        &.-request { border-left: thick $foreground 20%; color: $text-muted; }
        &.-reply { border-left: thick $foreground 20%; color: $text-muted; }
        &.-reply Markdown { color: $text-muted; }
        &.-summary { border-left: thick $accent; }
        &.-growing { border-left: thick $primary; }
        &.-provisional { border-left: thick $foreground 20%; }
        &.-provisional > .message--words { color: $text-muted; text-style: italic; }
        Markdown > MarkdownBlock:first-child { margin-top: 0; }
        Markdown > MarkdownBlock:last-child { margin-bottom: 0; }
        MarkdownHeader { margin: 1 0 0 0; padding: 0; content-align: left middle; }
    }
    """

    def __init__(
        self, kind: MessageKind, title: str, text: str = "", *, growing: bool = False
    ) -> None:
        super().__init__(classes=f"-{kind.value}")
        self.kind = kind
        self.title = title
        self.text = printable(text)
        self._heading = Static(title, classes="message--heading", markup=False)
        self._plain = Static(self.text, classes="message--words", markup=False)
        self._markdown = Markdown(self.text, classes="message--words", open_links=False)
        self.set_class(growing, "-growing")

    @property
    def role(self) -> Role:
        return speaker_of(self.kind)

    def compose(self) -> ComposeResult:
        yield self._heading
        yield self._plain if self.role is Role.CANDIDATE else self._markdown

    def set_title(self, title: str) -> None:
        if title != self.title:
            self.title = title
            self._heading.update(title)

    async def update_text(self, text: str, *, growing: bool = False) -> None:
        """Show `text` in place of the previous text. In a growing message of the interviewer, only
        appended text is laid out.

        Calls must not overlap, so that added text stays in order.
        """
        self.set_class(growing, "-growing")
        text = printable(text)
        if text == self.text:
            return
        grown = text.removeprefix(self.text) if text.startswith(self.text) else None
        self.text = text
        if self.role is Role.CANDIDATE:
            self._plain.update(text)
        elif grown is None or not growing:
            await self._markdown.update(text)
        else:
            await self._markdown.append(grown)
