"""How many model requests each user may still make: exact, and remembered across restarts."""

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
    """A fixed window for each user, opened by the first request in it.

    Each request has a name, and the same name is charged once: a turn that is taken up again
    after a crash costs nothing more.
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
        """`limit` requests in `window` seconds; a limit of 0 counts nothing. `vfs` names the file
        system that SQLite goes through; None is its own.

        Raises StorageError, as all methods do when the disk fails.
        """
        self.limit = limit
        self.window = window
        self._clock = clock
        self._database = Database(path, _SCHEMA, vfs=vfs)

    async def charge(self, user: str, request: str) -> Quota:
        """Count one request. Raises RateLimited when none is left, with the time of the reset."""
        if not self.limit:
            return Quota(limit=0, remaining=0)
        return await asyncio.to_thread(self._charge, user, request)

    async def quota(self, user: str) -> Quota:
        """What is left, without using any of it."""
        if not self.limit:
            return Quota(limit=0, remaining=0)
        return await asyncio.to_thread(self._quota, user)

    def _charge(self, user: str, request: str) -> Quota:
        with self._database.transaction() as connection:
            started = self._window(connection, user)
            if started is None:
                started = self._clock.now()
                connection.execute("DELETE FROM charges WHERE user = ?", (user,))
                connection.execute("INSERT OR REPLACE INTO windows VALUES (?, ?)", (user, started))
            used = _used(connection, user)
            reset = started + self.window
            known = connection.execute(
                "SELECT 1 FROM charges WHERE user = ? AND request = ?", (user, request)
            ).fetchone()
            if known is None:
                if used >= self.limit:
                    raise RateLimited(
                        f"All {self.limit} model requests of this period are used. "
                        "Go on when the period ends; the interview is kept.",
                        details={"limit": self.limit, "remaining": 0, "reset": reset},
                    )
                connection.execute("INSERT INTO charges VALUES (?, ?)", (user, request))
                used += 1
        return Quota(limit=self.limit, remaining=self.limit - used, reset=reset)

    def _quota(self, user: str) -> Quota:
        with self._database.transaction() as connection:
            started = self._window(connection, user)
            if started is None:
                return Quota(limit=self.limit, remaining=self.limit)
            remaining = max(0, self.limit - _used(connection, user))
            return Quota(limit=self.limit, remaining=remaining, reset=started + self.window)

    def _window(self, connection: apsw.Connection, user: str) -> float | None:
        """When the user's window began; None when there is none or it is over."""
        row = connection.execute("SELECT started FROM windows WHERE user = ?", (user,)).fetchone()
        if row is None:
            return None
        started = float(str(row[0]))
        return started if self._clock.now() < started + self.window else None

    def close(self) -> None:
        self._database.close()


def _used(connection: apsw.Connection, user: str) -> int:
    row = connection.execute("SELECT count(*) FROM charges WHERE user = ?", (user,)).fetchone()
    return 0 if row is None else int(str(row[0]))
