"""The status line: what the interview does right now, in plain words, and how far it is."""

from typing import ClassVar

from msgspec import Struct
from rich.text import Text
from textual.reactive import reactive
from textual.timer import Timer
from textual.widget import Widget

from prepcli.tui.text import length
from prepserver.wire.protocol import Interview, MessageKind, Phase, Quota, Status, StreamingMessage

FRAMES = ("●··", "·●·", "··●", "·●·")
"""Of the animation while the model works."""

STILL = "···"
"""In its place where animations are switched off."""

FRAME_SECONDS = 0.3


class Activity(Struct, frozen=True):
    """What goes on, in words, and whether something is being waited for."""

    words: str
    busy: bool = False
    trouble: bool = False


def activity(
    phase: Phase,
    *,
    streaming: StreamingMessage | None = None,
    recording: bool = False,
    failed: bool = False,
    completed: bool = False,
    sending: bool = False,
    asked: bool = True,
    known: bool = True,
) -> Activity:
    """The live state of an interview, as the candidate should read it.

    `sending`: an answer is on its way. `asked`: a question is open. `known`: the room has been
    heard at all.
    """
    if recording:
        return Activity("Listening…")
    if not known:
        return Activity("Opening the interview…", busy=True)
    match phase:
        case Phase.EXTRACTING:
            return Activity("Reading your resume and the job…", busy=True)
        case Phase.TRANSCRIBING:
            return Activity("Writing down what you said…", busy=True)
        case Phase.HINTING:
            return Activity("Thinking of a hint…", busy=True)
        case Phase.REVIEWING:
            return Activity("Reviewing your answers…", busy=True)
        case Phase.GENERATING:
            saying = "Thinking…" if streaming is None else _SAYING[streaming.kind]
            return Activity(saying, busy=True)
    if sending:
        return Activity("Sending your answer…", busy=True)
    if failed:
        return Activity("Stopped", trouble=True)
    if completed:
        return Activity("Completed")
    return Activity("Your turn" if asked else "Waiting")


_SAYING = {
    MessageKind.QUESTION: "Asking…",
    MessageKind.ANSWER: "Writing down what you said…",
    MessageKind.HINT: "Giving a hint…",
    MessageKind.CLOSING: "Closing…",
    MessageKind.SUMMARY: "Summing up…",
}


def progress(interview: Interview) -> str:
    """`question 2 of 5`, or `5 of 5 answered` when it is over."""
    if interview.status is Status.COMPLETED:
        return f"{interview.answered} of {interview.questions} answered"
    if not interview.asked:
        return f"{interview.questions} questions"
    return f"question {min(interview.asked, interview.questions)} of {interview.questions}"


def allowance(quota: Quota | None) -> str:
    """`87 requests left`; empty when nothing is counted."""
    if quota is None or not quota.limit:
        return ""
    return f"{quota.remaining} request{'' if quota.remaining == 1 else 's'} left"


class StatusLine(Widget):
    """Activity to the left; progress, allowance and elapsed time to the right.

    In a narrow window the allowance goes first, then the progress.
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
    """Seconds since the screen was opened; None where they mean nothing."""
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
        """Three cells before the words."""
        if self.activity.busy:
            return FRAMES[self._frame] if self._animated(self.activity) else STILL
        return " ! " if self.activity.trouble else " ● "

    def facts(self, room: int) -> str:
        """What fits into `room` cells of progress, allowance and elapsed time."""
        time = "" if self.elapsed is None else length(self.elapsed)
        for parts in (
            (self.progress, self.allowance, time),
            (self.progress, time),
            (time,),
        ):
            text = " · ".join(part for part in parts if part)
            if len(text) <= room:
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
