"""What the edge works with, wired once by the application."""

import asyncio

from msgspec import Struct

from prepserver.accounts.budgets import Budgets
from prepserver.accounts.rate_limits import RateLimiter
from prepserver.accounts.tokens import Tokens
from prepserver.accounts.users import KEY_PREFIX, Users
from prepserver.clock import Clock
from prepserver.errors import Forbidden, Unauthorized
from prepserver.gateway.gateway import Gateway
from prepserver.objects.registry import Registry
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.metrics import Metrics
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Services"]


class Services(Struct, frozen=True, kw_only=True):
    clock: Clock
    registry: Registry
    gateway: Gateway
    users: Users
    tokens: Tokens
    limiter: RateLimiter
    budgets: Budgets
    calls: CallLog
    metrics: Metrics
    metrics_access: str
    version: str

    async def start(self) -> None:
        """Take the data directory and begin to load the models. Raises Conflict."""
        await self.registry.start()
        self.calls.start()
        self.gateway.start()

    async def close(self) -> None:
        await self.registry.close()
        await self.gateway.close()
        await self.calls.close()
        self.budgets.close()
        self.limiter.close()
        self.users.close()

    async def user_of(self, credential: str) -> str:
        """The user's id behind an access key or a token. Raises Unauthorized."""
        if credential.startswith(f"{KEY_PREFIX}_"):
            return await self.users.authenticate(credential)
        return await self.user_of_token(credential)

    async def admin_of(self, credential: str) -> str:
        """The administrator's id behind an access key or a token.

        Raises Unauthorized, and Forbidden when it is somebody else's.
        """
        user = await self.user_of(credential)
        if not await asyncio.to_thread(self.users.is_admin, user):
            raise Forbidden(
                "Only administrators may see this: `prep-server users promote NAME` makes one.",
                code=ErrorCode.NOT_AN_ADMINISTRATOR,
            )
        return user

    async def user_of_token(self, token: str) -> str:
        """The user's id behind a token; an access key is none. Raises Unauthorized."""
        user = self.tokens.verify(token)
        if not await asyncio.to_thread(self.users.exists, user):
            raise Unauthorized("The token's user was removed.", code=ErrorCode.BAD_TOKEN)
        return user
