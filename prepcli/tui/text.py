"""Formatting of durations and times as text."""

from collections.abc import Callable
from datetime import datetime

Seconds = Callable[[], float]
"""Clock in seconds: `time.time`, `time.monotonic`, or the clock of a test."""


def duration(seconds: float) -> str:
    """Format a number of seconds as `0:07`, `12:34` or `1:02:03`; a negative number counts as
    zero."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def relative_time(then: float, now: float) -> str:
    """Format a past time relative to `now` as `3 minutes ago`, or after a week as a local date.

    Both times are in seconds since the Unix epoch.
    """
    seconds = now - then
    if seconds < 60:
        return "just now"
    for size, unit, limit in (
        (60, "minute", 3600),
        (3600, "hour", 86_400),
        (86_400, "day", 604_800),
    ):
        if seconds < limit:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return f"{datetime.fromtimestamp(then).astimezone():%Y-%m-%d}"


def clock_time(moment: float) -> str:
    """Format a time, in seconds since the Unix epoch, as a local time such as `14:05`."""
    return f"{datetime.fromtimestamp(moment).astimezone():%H:%M}"
