"""Durations and times as text, the level meter, the banner and the themes."""

import pytest

from prepcli.tui.text import duration, relative_time
from prepcli.tui.themes import default_theme
from prepcli.tui.widgets.answer import Throttle
from prepcli.tui.widgets.connection import banner
from prepcli.tui.widgets.level import FLOOR, LevelMeter, bar


def test_duration() -> None:
    """A duration is shown in minutes and seconds, with hours if it is an hour or longer."""
    assert duration(-3) == "0:00"
    assert duration(7.9) == "0:07"
    assert duration(754) == "12:34"
    assert duration(3723) == "1:02:03"


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
def test_relative_time(seconds: float, words: str) -> None:
    """A time in the future or less than a minute ago is "just now"; an earlier time within a week
    is given in its largest unit, rounded down."""
    assert relative_time(1_000_000.0, 1_000_000.0 + seconds) == words


def test_relative_time_becomes_a_date() -> None:
    """A time that is a week or more ago is shown as a date."""
    # Noon is on the same day in nearly every time zone.
    noon = 1_790_000_000.0 // 86_400 * 86_400 + 43_200
    assert relative_time(noon, noon + 604_800) == "2026-09-21"


def test_bar_grows_by_eighths() -> None:
    """The level bar has a constant width; it is empty at the lowest level and full at the highest
    level."""
    assert bar(FLOOR - 20, 4) == "    "
    assert bar(FLOOR / 2, 4) == "██  "
    assert bar(FLOOR + 60 / 32, 4) == "▏   "
    assert bar(6.0, 4) == "████"


@pytest.mark.parametrize(
    ("level", "word"), [(-96.0, "quiet"), (-20.0, ""), (-3.0, "too loud"), (0.0, "too loud")]
)
def test_meter_warns_of_unsuitable_levels(level: float, word: str) -> None:
    """A level that is too low or too high to transcribe is shown by a word, not only by a
    colour."""
    meter = LevelMeter()
    meter.set_reactive(LevelMeter.level, level)
    assert meter.warning() == word


def test_banner_counts_whole_seconds() -> None:
    """The countdown in the connection banner is rounded up and never shows 0 s; a narrow banner has
    a shorter text."""
    assert banner(2.1, narrow=True) == "Connection lost; reconnecting in 3 s."
    assert banner(0.0, narrow=True) == "Connection lost; reconnecting now."
    assert len(banner(0.0, narrow=False)) > len(banner(0.0, narrow=True))


def test_throttle() -> None:
    """A throttle passes the first event, then at most one event per period."""
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
        ({"COLORFGBG": "0;15", "TEXTUAL_THEME": "nord"}, "prep-light"),
        ({"TEXTUAL_THEME": "galaxy"}, "prep-dark"),
    ],
)
def test_default_theme(environment: dict[str, str], theme: str) -> None:
    """The default theme matches the background of the terminal, and is dark if that is unknown;
    themes of other programs are ignored."""
    assert default_theme(environment) == theme
