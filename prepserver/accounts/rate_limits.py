"""Rate limits of each user: model requests per window, stored on disk."""

import asyncio
from pathlib import Path

import apsw

from prepserver.clock import Clock
from prepserver.errors import RateLimited
from prepserver.storage.sqlite import Database
from prepserver.wire.protocol import Quota

__all__ = ["RateLimiter"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS windows (user TEXT PRIMARY KEY, started REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    user TEXT NOT NULL, request TEXT NOT NULL, PRIMARY KEY (user, request)
) WITHOUT ROWID;
"""


class RateLimiter:
    """Per-user request limit for a fixed window of time, which begins with the first request.

    Requests are named, and each name is charged once per window, so that a turn that resumes after
    a crash is not charged again.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        limit: int = 100,
        window: float = 86_400.0,
        vfs: str | None = None,
    ) -> None:
        """Open the database at `path`, or create it.

        A user may make `limit` requests per window of `window` seconds; a `limit` of 0 means no
        limit. `vfs` is the name of an SQLite VFS, for tests. This and all other methods raise
        StorageError if the disk fails.
        """
        self.limit = limit
        self.window = window
        self._clock = clock
        self._database = Database(path, _SCHEMA, vfs=vfs)

    async def charge(self, user: str, request: str) -> Quota:
        """Charge a request, unless its name was charged earlier in the window, and return the new
        quota.

        Raises RateLimited, with the time of the reset in its details, if a request must be charged
        and none is left.
        """
        if not self.limit:
            return Quota(limit=0, remaining=0)
        return await asyncio.to_thread(self._charge, user, request)

    async def quota(self, user: str) -> Quota:
        """Return the user's quota without charging a request."""
        if not self.limit:
            return Quota(limit=0, remaining=0)
        return await asyncio.to_thread(self._quota, user)

    def _charge(self, user: str, request: str) -> Quota:
        with self._database.transaction() as connection:
            started = self._window_start(connection, user)
            if started is None:
                started = self._clock.now()
                connection.execute("DELETE FROM charges WHERE user = ?", (user,))
                connection.execute("INSERT OR REPLACE INTO windows VALUES (?, ?)", (user, started))
            used = _count_charges(connection, user)
            reset = started + self.window
            known = connection.execute(
                "SELECT 1 FROM charges WHERE user = ? AND request = ?", (user, request)
            ).fetchone()
            if known is None:
                if used >= self.limit:
                    raise RateLimited(
                        f"Your allowance of {self.limit} model "
                        f"request{'' if self.limit == 1 else 's'} for this period is used up. "
                        "Continue when the period ends; the interview is saved.",
                        details={"limit": self.limit, "remaining": 0, "reset": reset},
                    )
                connection.execute("INSERT INTO charges VALUES (?, ?)", (user, request))
                used += 1
        return Quota(limit=self.limit, remaining=self.limit - used, reset=reset)

    def _quota(self, user: str) -> Quota:
        with self._database.transaction() as connection:
            started = self._window_start(connection, user)
            if started is None:
                return Quota(limit=self.limit, remaining=self.limit)
            remaining = max(0, self.limit - _count_charges(connection, user))
            return Quota(limit=self.limit, remaining=remaining, reset=started + self.window)

    def _window_start(self, connection: apsw.Connection, user: str) -> float | None:
        """Return the start of the user's window in seconds since the Unix epoch, or None if no
        window is open."""
        row = connection.execute("SELECT started FROM windows WHERE user = ?", (user,)).fetchone()
        if row is None:
            return None
        started = float(str(row[0]))
        return started if self._clock.now() < started + self.window else None

    def close(self) -> None:
        self._database.close()


def _count_charges(connection: apsw.Connection, user: str) -> int:
    row = connection.execute("SELECT count(*) FROM charges WHERE user = ?", (user,)).fetchone()
    return 0 if row is None else int(str(row[0]))
