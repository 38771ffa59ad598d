"""Figures on the performance page."""

import msgspec

from tests.bench.__main__ import BENCHMARKS
from tests.bench.page import FIGURES, PAGE, TABLE_MARKER, fill_in
from tests.bench.report import format_table, make_row


def test_the_page_shows_the_committed_figures() -> None:
    """The performance page shows the figures in performance.json."""
    page = PAGE.read_text("utf-8")
    assert fill_in(page, msgspec.json.decode(FIGURES.read_bytes())) == page


def test_every_benchmark_has_a_marker_on_the_page() -> None:
    """The performance page has a marker for each benchmark and for the machine."""
    assert {marker[1] for marker in TABLE_MARKER.finditer(PAGE.read_text("utf-8"))} == {
        "machine",
        *BENCHMARKS,
    }


def test_a_table_replaces_the_previous_one() -> None:
    """New figures replace only the text between the markers, and a missed target is reported."""
    wait = make_row("wait", "s", [3.0, 1.0, 2.0], [1.0, 1.0, 1.0], peer_name="other", target=0.5)
    figures = {
        "machine": {"cores": 2},
        "rows": [{**msgspec.to_builtins(wait), "benchmark": "language"}],
    }
    page = (
        "# Speed\n<!-- figures: machine -->\nold\n<!-- end -->\ntext\n"
        "<!-- figures: language -->\n<!-- end -->\n<!-- figures: rooms -->\nold\n<!-- end -->\n"
    )
    once = fill_in(page, figures)
    assert "old" not in once
    assert "\ncores 2\n" in once
    assert "| wait | 2 s | 1 s (other) | 2.00x | <= 0.5 | no |" in once
    assert "Not measured yet." in once
    assert fill_in(once, figures) == once


def test_a_row_can_compare_by_difference() -> None:
    """A comparison by difference is shown with a sign and checked against the target."""
    row = make_row("word errors", "%", [4.0], [2.5], peer_name="other", target=1.0, difference=True)
    assert row.difference == 1.5
    assert row.ratio is None
    assert row.met is False
    assert "| word errors | 4 % | 2.5 % (other) | +1.50 | <= +1 | no |" in format_table([row])
