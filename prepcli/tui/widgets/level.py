"""The level meter, shown while a recording runs."""

from typing import ClassVar

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from prepcli.tui.text import duration

FLOOR = -60.0
"""Level in dBFS at which the meter is empty: a quiet room."""

QUIET = -45.0
"""Level in dBFS below which speech is hard to transcribe."""

LOUD = -3.0
"""Level in dBFS at or above which the microphone is about to clip."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(level: float, width: int) -> str:
    """Return a bar of `width` cells for a level in dBFS, accurate to an eighth of a cell."""
    share = min(1.0, max(0.0, (level - FLOOR) / -FLOOR))
    eighths = round(share * width * 8)
    whole, rest = divmod(eighths, 8)
    filled = "█" * whole + (_EIGHTHS[rest] if rest else "")
    return filled.ljust(width)


class LevelMeter(Widget):
    """Line with the recording's duration and level, and with a warning if the level is
    unsuitable."""

    DEFAULT_CSS = """
    LevelMeter {
        height: 1;
        padding: 0 1;
        & > .meter--recording { color: $text-error; text-style: bold; }
        & > .meter--good { color: $success; }
        & > .meter--poor { color: $warning; }
        & > .meter--word { color: $text-warning; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "meter--recording",
        "meter--good",
        "meter--poor",
        "meter--word",
    }

    level = reactive(FLOOR)
    """RMS level of the newest block in dBFS."""

    seconds = reactive(0)
    """Duration of the recording in seconds."""

    def warning(self) -> str:
        """Return a short warning about an unsuitable level, or an empty string if the level is
        suitable."""
        if self.level >= LOUD:
            return "too loud"
        if self.level < QUIET:
            return "quiet"
        return ""

    def render(self) -> Text:
        """Render `● Recording 0:07 ████▌     quiet`, cropped to the widget's width."""
        lead = f"● Recording {duration(self.seconds)} "
        word = self.warning()
        width = max(4, min(48, self.size.width - len(lead) - 10))
        filled = bar(self.level, width)
        style = "meter--poor" if word else "meter--good"
        return Text.assemble(
            (lead, self.get_component_rich_style("meter--recording")),
            (filled, self.get_component_rich_style(style)),
            (f" {word}", self.get_component_rich_style("meter--word")),
            no_wrap=True,
            overflow="crop",
        )
