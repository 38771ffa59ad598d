"""Times in words, the meter's bar, the banner, text made safe, and the looks."""

import pytest

from prepcli.terminal_text import one_line, printable
from prepcli.tui.text import ago, length
from prepcli.tui.themes import preferred
from prepcli.tui.widgets.answer import Throttle
from prepcli.tui.widgets.connection import banner
from prepcli.tui.widgets.level import FLOOR, LevelMeter, bar


def test_length() -> None:
    """Lengths are minutes and seconds, with hours when there are any."""
    assert length(-3) == "0:00"
    assert length(7.9) == "0:07"
    assert length(754) == "12:34"
    assert length(3723) == "1:02:03"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (3600, "1 hour ago"),
        (86_399, "23 hours ago"),
        (86_400, "1 day ago"),
        (604_799, "6 days ago"),
    ],
)
def test_ago(seconds: float, words: str) -> None:
    """How long ago something was is said in its largest unit, rounded down."""
    assert ago(1_000_000.0, 1_000_000.0 + seconds) == words


def test_ago_becomes_a_date() -> None:
    """After a week the date says more; noon is the same day nearly everywhere."""
    noon = 1_790_000_000.0 // 86_400 * 86_400 + 43_200
    assert ago(noon, noon + 604_800) == "2026-09-21"


def test_bar_grows_by_eighths() -> None:
    """The bar has its width at every level, and is empty and full at the ends."""
    assert bar(FLOOR - 20, 4) == "    "
    assert bar(FLOOR / 2, 4) == "██  "
    assert bar(FLOOR + 60 / 32, 4) == "▏   "
    assert bar(6.0, 4) == "████"


@pytest.mark.parametrize(
    ("level", "word"), [(-96.0, "quiet"), (-20.0, ""), (-3.0, "too loud"), (0.0, "too loud")]
)
def test_meter_says_what_is_wrong(level: float, word: str) -> None:
    """A level that will be hard to understand has a word, not a colour alone."""
    meter = LevelMeter()
    meter.set_reactive(LevelMeter.level, level)
    assert meter.verdict() == word


def test_banner_counts_whole_seconds() -> None:
    """The countdown is rounded up, so that it never says 0 s; a narrow one leaves the rest."""
    assert banner(2.1, narrow=True) == "Connection lost, trying again in 3 s."
    assert banner(0.0, narrow=True) == "Connection lost, trying again now."
    assert banner(0.0, narrow=False).endswith("What you write and say is kept.")


def test_printable() -> None:
    """Nothing that a terminal obeys gets through; line ends and tabs do."""
    assert printable("a\x1b[2Jb\x9b\x07c\u202ed") == "a\ufffd[2Jb\ufffd\ufffdc\ufffdd"
    assert printable("a\tb\nc\r\nd\re") == "a\tb\nc\nd\ne"
    assert one_line(" a\n\tb\u2028c ") == "a b\ufffdc"


def test_throttle() -> None:
    """The first event passes at once, then one in every period."""
    now = [10.0]
    passes = Throttle(2.0, lambda: now[0])
    seen = []
    for now[0] in (10.0, 11.9, 12.0, 13.0, 20.0):
        seen.append(passes())
    assert seen == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("environment", "theme"),
    [
        ({}, "prep-dark"),
        ({"COLORFGBG": "15;0"}, "prep-dark"),
        ({"COLORFGBG": "0;15"}, "prep-light"),
        ({"COLORFGBG": "0;default;15"}, "prep-light"),
        ({"COLORFGBG": "0;default"}, "prep-dark"),
        ({"COLORFGBG": "15;8"}, "prep-dark"),
        ({"COLORFGBG": "0;15", "TEXTUAL_THEME": "nord"}, "nord"),
    ],
)
def test_preferred_theme(environment: dict[str, str], theme: str) -> None:
    """The look follows what the terminal says of its background, or what the person names."""
    assert preferred(environment) == theme
