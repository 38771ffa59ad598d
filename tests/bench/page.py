"""Insertion of measured figures into docs/explanation/performance.md.

    python -m tests.bench --json docs/explanation/performance.json
    python -m tests.bench.page

The page has a marker for the table of each benchmark. A test fails if the page and
performance.json disagree.
"""

import re
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.report import Row, format_table

__all__ = ["FIGURES", "PAGE", "TABLE_MARKER", "fill_in"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"
FIGURES = PAGE.with_suffix(".json")

TABLE_MARKER = re.compile(r"<!-- figures: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


def fill_in(page: str, figures: dict[str, Any]) -> str:
    """Return the page with the text between its markers replaced by the figures of a run."""
    rows = msgspec.convert(figures["rows"], list[Row])

    def format_section(marker: re.Match[str]) -> str:
        name = marker[1]
        own_rows = [row for row in rows if row.benchmark == name]
        if name == "machine":
            text = ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
        else:
            text = format_table(own_rows) if own_rows else "Not measured yet."
        return f"<!-- figures: {name} -->\n{text}\n<!-- end -->"

    return TABLE_MARKER.sub(format_section, page)


def main() -> None:
    figures = msgspec.json.decode(FIGURES.read_bytes())
    PAGE.write_text(fill_in(PAGE.read_text("utf-8"), figures), "utf-8")


if __name__ == "__main__":
    main()
