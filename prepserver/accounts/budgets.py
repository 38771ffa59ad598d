"""How much of the models' work each user may still have: tokens, and seconds of computing."""

import asyncio
from pathlib import Path

from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import RateLimited
from prepserver.storage.sqlite import Database
from prepserver.wire.error_codes import ErrorCode

__all__ = ["BudgetUsage", "Budgets"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spent (
    user TEXT PRIMARY KEY, started REAL NOT NULL, tokens INTEGER NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
"""


class BudgetUsage(Struct, frozen=True, kw_only=True):
    """What a user has had in the window that goes on."""

    tokens: int = 0
    seconds: float = 0.0
    reset: float | None = None
    """When the window ends, since the Unix epoch; None before the first call of one."""


class Budgets:
    """A fixed window for each user, opened by the first call that costs something.

    What a call costs is known at its end, so a user is refused once a budget is used up: the
    calls that were under way then go on, and what they cost is counted too.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        tokens: int = 0,
        seconds: float = 0.0,
        window: float,
        vfs: str | None = None,
    ) -> None:
        """Of each user in `window` seconds; a budget of 0 has no end. `vfs` names the file system
        that SQLite goes through; None is its own.

        Raises StorageError, as all methods do when the disk fails.
        """
        self.tokens = tokens
        self.seconds = seconds
        self.window = window
        self._clock = clock
        self._database = Database(path, _SCHEMA, vfs=vfs)

    async def check(self, user: str) -> None:
        """Raises RateLimited, code `budget_spent`, when a budget is used up."""
        if not self.tokens and not self.seconds:
            return
        spent = await self.spent(user)
        for name, unit, used, budget in (
            ("tokens", "tokens", spent.tokens, self.tokens),
            ("seconds", "seconds of computing", spent.seconds, self.seconds),
        ):
            if budget and used >= budget:
                raise RateLimited(
                    f"All {budget:g} {unit} of this period are used. Go on when the period ends; "
                    "the interview is kept.",
                    code=ErrorCode.BUDGET_SPENT,
                    details={"budget": name, "limit": budget, "used": used, "reset": spent.reset},
                )

    async def spent(self, user: str) -> BudgetUsage:
        """What was used, without using any."""
        return await asyncio.to_thread(self._spent, user)

    async def spend(self, user: str, *, tokens: int = 0, seconds: float = 0.0) -> None:
        """Count what a call has cost."""
        if (self.tokens or self.seconds) and (tokens or seconds):
            await asyncio.to_thread(self._spend, user, tokens, seconds)

    def _spent(self, user: str) -> BudgetUsage:
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT tokens, seconds, started + ? FROM spent WHERE user = ? AND started + ? > ?",
                (self.window, user, self.window, self._clock.now()),
            ).fetchone()
        if row is None:
            return BudgetUsage()
        tokens, seconds, reset = row
        return BudgetUsage(
            tokens=int(str(tokens)), seconds=float(str(seconds)), reset=float(str(reset))
        )

    def _spend(self, user: str, tokens: int, seconds: float) -> None:
        now = self._clock.now()
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM spent WHERE user = ? AND started + ? <= ?", (user, self.window, now)
            )
            connection.execute(
                "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT (user) DO UPDATE"
                " SET tokens = tokens + excluded.tokens, seconds = seconds + excluded.seconds",
                (user, now, tokens, seconds),
            )

    def close(self) -> None:
        self._database.close()
