"""Services used by route handlers and rooms, wired once by the application."""

import asyncio

from msgspec import Struct

from prepserver.accounts.authentication import Authenticator
from prepserver.accounts.budgets import Budgets
from prepserver.accounts.rate_limits import RateLimiter
from prepserver.clock import Clock
from prepserver.gateway.gateway import Gateway
from prepserver.interview.dialogue.patterns import load_patterns
from prepserver.models.background import BackgroundFetch
from prepserver.objects.registry import Registry
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.metrics import Metrics

__all__ = ["Services"]


class Services(Struct, frozen=True, kw_only=True):
    """Parts of a running server."""

    clock: Clock
    registry: Registry
    gateway: Gateway
    authenticator: Authenticator
    rate_limiter: RateLimiter
    budgets: Budgets
    call_log: CallLog
    metrics: Metrics
    metrics_access: str
    """Value of the setting `metrics`."""
    version: str
    """Version of the server."""
    fetch: BackgroundFetch | None = None
    """Fetch of a set of models in the background; None if the settings ask for none."""

    async def start(self) -> None:
        """Lock the data directory, start the call log and start loading the models.

        Raises Conflict if another process is using the data directory.
        """
        await self.registry.start()
        self.call_log.start()
        self.gateway.start()
        # Compiling takes a second of processor time, which the first answer would wait for.
        asyncio.get_running_loop().run_in_executor(None, load_patterns)

    async def close(self) -> None:
        """Stop the objects, close the models, then close the databases."""
        await self.registry.close()
        await self.gateway.close()
        await self.call_log.close()
        self.budgets.close()
        self.rate_limiter.close()
        self.authenticator.close()
