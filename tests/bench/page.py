"""Puts the figures of docs/explanation/performance.json into the page beside it.

    python -m tests.bench --json docs/explanation/performance.json
    python -m tests.bench.page

The page marks where the table of each benchmark goes; a test fails when the two disagree.
"""

import re
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.report import Row, table

__all__ = ["FIGURES", "MARK", "PAGE", "written"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"
FIGURES = PAGE.with_suffix(".json")

MARK = re.compile(r"<!-- figures: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


def written(page: str, found: dict[str, Any]) -> str:
    """The page with the figures of a run in their places."""
    rows = msgspec.convert(found["rows"], list[Row])

    def part(mark: re.Match[str]) -> str:
        name = mark[1]
        of_it = [row for row in rows if row.benchmark == name]
        if name == "machine":
            text = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
        else:
            text = table(of_it) if of_it else "Not measured yet."
        return f"<!-- figures: {name} -->\n{text}\n<!-- end -->"

    return MARK.sub(part, page)


def main() -> None:
    found = msgspec.json.decode(FIGURES.read_bytes())
    PAGE.write_text(written(PAGE.read_text("utf-8"), found), "utf-8")


if __name__ == "__main__":
    main()
