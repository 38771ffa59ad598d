"""Where the project's own files are."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("prepserver", "prepcli", "tests", "docs", "packaging", ".ci")
GENERATED = ROOT / "docs" / "reference"


def files(*suffixes: str) -> Iterator[Path]:
    """Every file with one of these suffixes, all when there are none; caches left out."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted(found):
        if "__pycache__" not in path.parts and (not suffixes or path.suffix in suffixes):
            yield path


def name(path: Path) -> str:
    """How a report names a file."""
    return path.relative_to(ROOT).as_posix()
