"""The page of figures shows what was measured, and nothing else."""

import msgspec

from tests.bench.__main__ import NAMES
from tests.bench.page import FIGURES, MARK, PAGE, written
from tests.bench.report import row, table


def test_the_page_shows_the_committed_figures() -> None:
    """`python -m tests.bench.page` would change nothing."""
    page = PAGE.read_text("utf-8")
    assert written(page, msgspec.json.decode(FIGURES.read_bytes())) == page


def test_every_benchmark_has_its_place_on_the_page() -> None:
    """A figure that is measured is also shown."""
    assert {mark[1] for mark in MARK.finditer(PAGE.read_text("utf-8"))} == {"machine", *NAMES}


def test_a_table_replaces_the_one_before() -> None:
    """Only between the marks; a missed target says so."""
    wait = row("wait", "s", [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], peer_name="other", target=0.5)
    found = {
        "machine": {"cores": 2},
        "rows": [{**msgspec.to_builtins(wait), "benchmark": "language"}],
    }
    page = (
        "# Speed\n<!-- figures: machine -->\nold\n<!-- end -->\ntext\n"
        "<!-- figures: language -->\n<!-- end -->\n<!-- figures: rooms -->\nold\n<!-- end -->\n"
    )
    once = written(page, found)
    assert "old" not in once
    assert "\ncores 2\n" in once
    assert "| wait | 2 s | 1 s (other) | 2.00x | <= 0.5 | no |" in once
    assert "Not measured yet." in once
    assert written(once, found) == once


def test_a_difference_is_held_to_its_target_where_a_ratio_would_say_little() -> None:
    """Percentage points, or seconds more: with a sign, in the same column."""
    wrong = row("words wrong", "%", [4.0], [2.5], peer_name="other", target=1.0, difference=True)
    assert wrong.difference == 1.5
    assert wrong.ratio is None
    assert wrong.met is False
    assert "| words wrong | 4 % | 2.5 % (other) | +1.50 | <= +1 | no |" in table([wrong])
