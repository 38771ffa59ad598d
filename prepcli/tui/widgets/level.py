"""The level meter: how loud the microphone hears the candidate, while a recording runs."""

from typing import ClassVar

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from prepcli.tui.text import length

FLOOR = -60.0
"""dBFS at which the meter is empty: a quiet room."""

QUIET = -45.0
"""dBFS under which speech is hardly understood."""

LOUD = -3.0
"""dBFS over which the microphone is about to clip."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(level: float, width: int) -> str:
    """A bar of `width` cells for a level in dBFS, to an eighth of a cell."""
    share = min(1.0, max(0.0, (level - FLOOR) / -FLOOR))
    eighths = round(share * width * 8)
    whole, rest = divmod(eighths, 8)
    filled = "█" * whole + (_EIGHTHS[rest] if rest else "")
    return filled.ljust(width)


class LevelMeter(Widget):
    """One line: the length of the recording, the level, and a word when it is too low or high."""

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
    """RMS of the newest block in dBFS."""

    seconds = reactive(0)
    """Length of the recording."""

    def verdict(self) -> str:
        """What the candidate can do about the level, in words; empty when it is right."""
        if self.level >= LOUD:
            return "too loud"
        if self.level < QUIET:
            return "quiet"
        return ""

    def render(self) -> Text:
        """`● Recording 0:07 ████▌     quiet`, cut to the width there is."""
        lead = f"● Recording {length(self.seconds)} "
        word = self.verdict()
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
