"""The status line: the current activity in plain words, and the progress of the interview."""

from typing import ClassVar

from msgspec import Struct
from rich.text import Text
from textual.reactive import reactive
from textual.timer import Timer
from textual.widget import Widget

from prepcli.tui.text import duration
from prepserver.wire.protocol import Interview, MessageKind, Phase, Quota, Status, StreamingMessage

FRAMES = ("●··", "·●·", "··●", "·●·")
"""Frames of the animation that marks a busy activity."""

STILL = "···"
"""Marker that replaces the animation while animations are turned off."""

FRAME_SECONDS = 0.3


class Activity(Struct, frozen=True):
    """The current activity in words, animated if `busy` and highlighted if `trouble`."""

    words: str
    busy: bool = False
    trouble: bool = False


def activity(
    phase: Phase,
    *,
    streaming: StreamingMessage | None = None,
    opening: bool = False,
    recording: bool = False,
    failed: bool = False,
    completed: bool = False,
    planned: bool = False,
    sending: bool = False,
    asked: bool = True,
    known: bool = True,
) -> Activity:
    """Return the activity to show to the candidate.

    `opening` is True while the microphone is being opened, `sending` while an answer is
    unacknowledged, `planned` while the interview waits for its start, `asked` while a question is
    open, and `known` once a snapshot of the room has arrived.
    """
    if opening:
        return Activity("Opening the microphone…", busy=True)
    if recording:
        return Activity("Listening…")
    if not known:
        return Activity("Opening the interview…", busy=True)
    match phase:
        case Phase.EXTRACTING:
            return Activity("Choosing the topics…", busy=True)
        case Phase.TRANSCRIBING:
            return Activity("Transcribing your answer…", busy=True)
        case Phase.HINTING:
            return Activity("Thinking of a hint…", busy=True)
        case Phase.REVIEWING:
            return Activity("Reviewing your answers…", busy=True)
        case Phase.GENERATING:
            words = "Thinking…" if streaming is None else _STREAMING[streaming.kind]
            return Activity(words, busy=True)
    if sending:
        return Activity("Sending your answer…", busy=True)
    if failed:
        return Activity("Stopped", trouble=True)
    if completed:
        return Activity("Completed")
    if planned:
        return Activity("Ready to start")
    return Activity("Your turn" if asked else "Waiting")


_STREAMING = {
    MessageKind.QUESTION: "Asking…",
    MessageKind.ANSWER: "Transcribing your answer…",
    MessageKind.HINT: "Giving a hint…",
    MessageKind.CLOSING: "Closing…",
    MessageKind.SUMMARY: "Summing up…",
    MessageKind.REQUEST: "Transcribing your answer…",
    MessageKind.REPLY: "Replying…",
}


def progress(interview: Interview) -> str:
    """Return the progress of an interview as `5 questions`, `question 2 of 5` or `5 of 5
    answered`."""
    if interview.status is Status.COMPLETED:
        return f"{interview.answered} of {interview.questions} answered"
    if not interview.asked:
        return f"{interview.questions} question{'' if interview.questions == 1 else 's'}"
    return f"question {min(interview.asked, interview.questions)} of {interview.questions}"


def allowance(quota: Quota | None) -> str:
    """Return a text such as `87 requests left`, or an empty string if requests are not limited or
    the quota is unknown."""
    if quota is None or not quota.limit:
        return ""
    return f"{quota.remaining} request{'' if quota.remaining == 1 else 's'} left"


class StatusLine(Widget):
    """Line with the activity on the left, and with progress, allowance and elapsed time on the
    right.

    In a narrow window the allowance is dropped first, then the progress.
    """

    DEFAULT_CSS = """
    StatusLine {
        height: 1;
        padding: 0 1;
        & > .status--mark { color: $text-accent; text-style: bold; }
        & > .status--words { color: $text; }
        & > .status--trouble { color: $text-warning; text-style: bold; }
        & > .status--facts { color: $text-muted; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "status--mark",
        "status--words",
        "status--trouble",
        "status--facts",
    }

    activity: reactive[Activity] = reactive(Activity("Connecting…", busy=True))
    progress = reactive("")
    allowance = reactive("")
    elapsed: reactive[int | None] = reactive(None)
    """Seconds since the screen was opened; None hides the clock."""
    _frame = reactive(0)

    def on_mount(self) -> None:
        self._animation: Timer = self.set_interval(
            FRAME_SECONDS, self._next_frame, pause=not self._animated(self.activity)
        )

    def _animated(self, activity: Activity) -> bool:
        return activity.busy and self.app.animation_level != "none"

    def _next_frame(self) -> None:
        self._frame = (self._frame + 1) % len(FRAMES)

    def watch_activity(self, activity: Activity) -> None:
        if not self.is_mounted:
            return
        if self._animated(activity):
            self._animation.resume()
        else:
            self._animation.pause()

    def mark(self) -> str:
        """Return the marker, three cells wide, that precedes the activity."""
        if self.activity.busy:
            return FRAMES[self._frame] if self._animated(self.activity) else STILL
        return " ! " if self.activity.trouble else " ● "

    def facts(self, width: int) -> str:
        """Return as much of progress, allowance and elapsed time as fits into `width` cells."""
        time = "" if self.elapsed is None else duration(self.elapsed)
        for parts in (
            (self.progress, self.allowance, time),
            (self.progress, time),
            (time,),
        ):
            text = " · ".join(part for part in parts if part)
            if len(text) <= width:
                return text
        return ""

    def render(self) -> Text:
        words = f"{self.mark()} {self.activity.words}"
        width = self.content_size.width
        facts = self.facts(width - len(words) - 2)
        style = "status--trouble" if self.activity.trouble else "status--words"
        return Text.assemble(
            (self.mark(), self.get_component_rich_style("status--mark")),
            (f" {self.activity.words}", self.get_component_rich_style(style)),
            " " * max(1, width - len(words) - len(facts)),
            (facts, self.get_component_rich_style("status--facts")),
            no_wrap=True,
            overflow="crop",
        )
