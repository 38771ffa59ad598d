"""Paths of the project's own files."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("prepserver", "prepcli", "tests", "docs", "packaging", ".ci")
GENERATED = ROOT / "docs" / "reference"


def files(*suffixes: str) -> Iterator[Path]:
    """Yield the paths of the project's files except caches.

    If suffixes are given, files with other suffixes are skipped.
    """
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted(found):
        if "__pycache__" not in path.parts and (not suffixes or path.suffix in suffixes):
            yield path


def name(path: Path) -> str:
    """Return a file's path relative to the project root."""
    return path.relative_to(ROOT).as_posix()
