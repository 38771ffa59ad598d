"""Budgets of each user: tokens and seconds of model time per window."""

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
    """Tokens and seconds of model time that a user has used in the current window."""

    tokens: int = 0
    seconds: float = 0.0
    reset: float | None = None
    """End of the window in seconds since the Unix epoch; None if no window is open."""


class Budgets:
    """Per-user budgets for a fixed window of time, which begins at the end of the first call that
    has a cost.

    The cost of a call is known only at its end. Calls that are running when a budget is used up
    therefore continue and are counted; new calls are rejected.
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
        """Open the database at `path`, or create it.

        A user may use `tokens` tokens and `seconds` seconds of model time per window of `window`
        seconds; a budget of 0 means no limit. `vfs` is the name of an SQLite VFS, for tests. This
        and all other methods raise StorageError if the disk fails.
        """
        self.tokens = tokens
        self.seconds = seconds
        self.window = window
        self._clock = clock
        self._database = Database(path, _SCHEMA, vfs=vfs)

    async def check(self, user: str) -> None:
        """Raise RateLimited (code `budget_spent`) if a budget of the user is used up."""
        if not self.tokens and not self.seconds:
            return
        usage = await self.usage(user)
        for name, unit, used, budget in (
            ("tokens", "tokens", usage.tokens, self.tokens),
            ("seconds", "seconds of model time", usage.seconds, self.seconds),
        ):
            if budget and used >= budget:
                raise RateLimited(
                    f"Your budget of {budget:,.10g} {unit} for this period is used up. Continue "
                    "when the period ends; the interview is saved.",
                    code=ErrorCode.BUDGET_SPENT,
                    details={"budget": name, "limit": budget, "used": used, "reset": usage.reset},
                )

    async def usage(self, user: str) -> BudgetUsage:
        """Return the tokens and model time that the user has used in the current window."""
        return await asyncio.to_thread(self._usage, user)

    async def spend(self, user: str, *, tokens: int = 0, seconds: float = 0.0) -> None:
        """Add the cost of a call to the user's usage if a budget is set."""
        if (self.tokens or self.seconds) and (tokens or seconds):
            await asyncio.to_thread(self._spend, user, tokens, seconds)

    def _usage(self, user: str) -> BudgetUsage:
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
