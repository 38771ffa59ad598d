"""What was said so far, newest at the bottom, and what is being said right now."""

from collections.abc import Iterator

from msgspec import Struct
from textual.containers import VerticalScroll

from prepcli.tui.widgets.message import Said, heading
from prepserver.wire.protocol import Message, MessageKind, StreamingMessage


class Scene(Struct, frozen=True, kw_only=True):
    """Everything that the transcript shows."""

    messages: tuple[Message, ...] = ()
    """In their order."""
    streaming: StreamingMessage | None = None
    caption: str = ""
    """What the candidate seems to be saying."""
    sending: str = ""
    """An answer that is on its way to the server."""


class Transcript(VerticalScroll):
    """Keeps to the newest words unless the reader has scrolled back.

    `show` compares with what is on the screen and changes only that: an unchanged message is not
    laid out again, a growing one is appended to.
    """

    DEFAULT_CSS = """
    Transcript {
        height: 1fr;
        padding: 1 1 0 1;
        scrollbar-size-vertical: 1;
    }
    """

    can_focus = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._said: dict[str, Said] = {}
        self._caption: Said | None = None
        self._sending: Said | None = None

    def on_mount(self) -> None:
        self.anchor()

    def follow(self) -> None:
        """Go to the newest words and stay with them."""
        self.anchor()

    def turn_page(self, direction: int) -> None:
        """Back by a page with -1; forward with 1, and at the end stay with the newest words."""
        if direction < 0:
            self.scroll_page_up(animate=False)
        elif self.scroll_y + self.scrollable_content_region.height >= self.max_scroll_y:
            self.follow()
        else:
            self.scroll_page_down(animate=False)

    async def show(self, scene: Scene) -> None:
        """Make the screen match the scene. One call at a time."""
        lines = list(_lines(scene))
        kinds = {line.key: line.kind for line in lines}
        for key in [key for key, said in self._said.items() if kinds.get(key) is not said.kind]:
            await self._said.pop(key).remove()
        await self._mount(lines)
        for line in lines:
            said = self._said[line.key]
            said.entitle(line.title)
            await said.say(line.text, growing=line.growing)
        self._sending = await self._provisional(self._sending, "You · on its way", scene.sending)
        self._caption = await self._provisional(self._caption, "You · speaking", scene.caption)

    async def _mount(self, lines: list["_TranscriptLine"]) -> None:
        """Put in what is missing, each run of missing lines in one go."""
        missing: list[Said] = []
        for line in lines:
            if line.key in self._said:
                if missing:
                    await self.mount_all(missing, before=self._said[line.key])
                    missing = []
                continue
            said = Said(line.kind, line.title, line.text, growing=line.growing)
            self._said[line.key] = said
            missing.append(said)
        if missing:
            await self.mount_all(missing, before=self._sending or self._caption)

    async def _provisional(self, said: Said | None, title: str, text: str) -> Said | None:
        """Words that are not final: at the end, dimmed, gone when there are none."""
        if not text:
            if said is not None:
                await said.remove()
            return None
        if said is None:
            said = Said(MessageKind.ANSWER, title)
            said.add_class("-provisional")
            await self.mount(said)
        await said.say(text)
        return said


class _TranscriptLine(Struct, frozen=True):
    key: str
    kind: MessageKind
    title: str
    text: str
    growing: bool


def _lines(scene: Scene) -> Iterator[_TranscriptLine]:
    """One line a message, then the one that is being said unless it is there already."""
    asked = 0
    for message in scene.messages:
        asked += message.kind is MessageKind.QUESTION
        title = heading(message.kind, number=asked, source=message.source)
        yield _TranscriptLine(message.id, message.kind, title, message.text, False)
    growing = scene.streaming
    if growing is not None and all(message.id != growing.id for message in scene.messages):
        yield _TranscriptLine(
            growing.id, growing.kind, heading(growing.kind, number=asked + 1), growing.text, True
        )
