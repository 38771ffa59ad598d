"""Lengths of time, and how long ago something was, as people write them."""

from collections.abc import Callable
from datetime import datetime

Seconds = Callable[[], float]
"""A clock: `time.time`, `time.monotonic`, or one that a test moves."""


def length(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`; nothing before zero."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def ago(then: float, now: float) -> str:
    """When something was, both times in seconds since the Unix epoch: `3 minutes ago`.

    After a week the date in the machine's own time zone.
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
    """`14:05` in the machine's own time zone, of seconds since the Unix epoch."""
    return f"{datetime.fromtimestamp(moment).astimezone():%H:%M}"
