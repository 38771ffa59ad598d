"""The transcript: finished messages, the streamed message, and provisional text at the bottom."""

from collections.abc import Iterator

from msgspec import Struct
from textual.containers import VerticalScroll

from prepcli.tui.widgets.message import MessageView, heading
from prepserver.wire.protocol import Message, MessageKind, StreamingMessage


class TranscriptState(Struct, frozen=True, kw_only=True):
    """Everything that the transcript shows."""

    messages: tuple[Message, ...] = ()
    """Messages in order of position."""
    streaming: StreamingMessage | None = None
    caption: str = ""
    """The partial transcript of what the candidate is saying."""
    sending: str = ""
    """An answer that the server has not acknowledged yet."""


class Transcript(VerticalScroll):
    """Scrolling list of messages that follows new text unless the reader has scrolled back.

    `update_transcript` changes only what differs from the screen: unchanged messages are not laid
    out again, and streamed text is appended.
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
        self._views: dict[str, MessageView] = {}
        self._caption: MessageView | None = None
        self._sending: MessageView | None = None
        self._following_summary = False
        self._read = ""
        """Key of the summary that was scrolled to its beginning when it was complete."""

    def on_mount(self) -> None:
        self.anchor()

    def follow(self) -> None:
        """Scroll to the end and keep following new text."""
        self.anchor()

    def scroll_by_page(self, direction: int) -> None:
        """Scroll one page back (-1) or forward (1). Scrolling forward at the end follows new text
        again."""
        if direction < 0:
            self.scroll_page_up(animate=False)
        elif self.scroll_y + self.scrollable_content_region.height >= self.max_scroll_y:
            self.follow()
        else:
            self.scroll_page_down(animate=False)

    async def update_transcript(self, state: TranscriptState) -> None:
        """Show `state`. Calls must not overlap."""
        lines = list(_lines(state))
        kinds = {line.key: line.kind for line in lines}
        for key in [key for key, view in self._views.items() if kinds.get(key) is not view.kind]:
            await self._views.pop(key).remove()
        await self._mount(lines)
        for line in lines:
            view = self._views[line.key]
            view.set_title(line.title)
            await view.update_text(line.text, growing=line.growing)
        self._sending = await self._show_provisional(self._sending, "You · sending", state.sending)
        self._caption = await self._show_provisional(self._caption, "You · speaking", state.caption)
        self._follow_summary(lines)

    def _follow_summary(self, lines: list["_TranscriptLine"]) -> None:
        """Scroll on only until the summary's heading is at the top, unless the reader has scrolled
        back."""
        last = lines[-1] if lines else None
        if last is None or last.kind is not MessageKind.SUMMARY or last.key == self._read:
            return
        if not self._following_summary:
            if self._anchor_released and self.scroll_y < self.max_scroll_y:
                return
            self._following_summary = True
            self.anchor(False)
        if not last.growing:
            self._read = last.key
        view = self._views[last.key]
        self.call_after_refresh(self.scroll_to_widget, view, top=True, animate=False, force=True)

    async def _mount(self, lines: list["_TranscriptLine"]) -> None:
        """Mount a view for each line that has none. Adjacent views are mounted together."""
        missing: list[MessageView] = []
        for line in lines:
            if line.key in self._views:
                if missing:
                    await self.mount_all(missing, before=self._views[line.key])
                    missing = []
                continue
            view = MessageView(line.kind, line.title, line.text, growing=line.growing)
            self._views[line.key] = view
            missing.append(view)
        if missing:
            await self.mount_all(missing, before=self._sending or self._caption)

    async def _show_provisional(
        self, view: MessageView | None, title: str, text: str
    ) -> MessageView | None:
        """Show dimmed text at the end, or remove `view` if `text` is empty. Return the view that is
        shown, or None."""
        if not text:
            if view is not None:
                await view.remove()
            return None
        if view is None:
            view = MessageView(MessageKind.ANSWER, title)
            view.add_class("-provisional")
            await self.mount(view)
        await view.update_text(text)
        return view


class _TranscriptLine(Struct, frozen=True):
    key: str
    kind: MessageKind
    title: str
    text: str
    growing: bool


def _lines(state: TranscriptState) -> Iterator[_TranscriptLine]:
    """Yield a line for each message, then for the streamed message unless it is already
    complete."""
    asked = 0
    for message in state.messages:
        asked += message.kind is MessageKind.QUESTION
        title = heading(message.kind, number=asked, source=message.source)
        yield _TranscriptLine(message.id, message.kind, title, message.text, False)
    growing = state.streaming
    if growing is not None and all(message.id != growing.id for message in state.messages):
        yield _TranscriptLine(
            growing.id, growing.kind, heading(growing.kind, number=asked + 1), growing.text, True
        )
