"""SQLite's own integrity check of all databases in a folder."""

import shutil
import tempfile
from pathlib import Path

import apsw

__all__ = ["find_corruption"]


def find_corruption(root: Path) -> list[str]:
    """Return a line for each failed check of a database under `root`; none if all are intact.

    Copies are checked, since opening a database repairs it, and the repair is the job of the code
    under test.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(root.rglob("*.sqlite")):
            for suffix in ("", "-wal", "-journal"):
                part = path.with_name(path.name + suffix)
                if part.exists():
                    shutil.copyfile(part, Path(folder) / part.name)
            connection = apsw.Connection(str(Path(folder) / path.name))
            try:
                answer = connection.execute("PRAGMA integrity_check").fetchall()
                if answer != [("ok",)]:
                    found.append(f"{path.name[:12]}: integrity_check says {answer[0][0]}")
                for (table,) in connection.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'table'"
                ).fetchall():
                    connection.execute(f'SELECT * FROM "{table}"').fetchall()
            except apsw.Error as error:
                found.append(f"{path.name[:12]} cannot be read: {error}")
            finally:
                connection.close()
    return found
