import io

import pytest

from prepcli.headless.streams import find_screen_obstacle


@pytest.mark.parametrize(
    ("encoding", "term", "keyword"),
    [
        ("utf-8", "xterm-256color", ""),
        ("utf-8", "linux", ""),
        ("utf-16", "screen", ""),
        ("latin-1", "xterm", "UTF-8"),
        ("ascii", "xterm", "UTF-8"),
        ("koi8-r", "xterm", "UTF-8"),
        ("utf-8", "dumb", "TERM"),
        ("utf-8", "Unknown", "TERM"),
        ("utf-8", "", "TERM"),
        ("utf-8", None, "TERM"),
    ],
)
def test_screen_obstacle(encoding: str, term: str | None, keyword: str) -> None:
    """A terminal that cannot show the screen's characters or move its cursor is named, with what
    to change."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding)
    obstacle = find_screen_obstacle(screen, {} if term is None else {"TERM": term})
    assert bool(obstacle) == bool(keyword)
    assert keyword in obstacle
