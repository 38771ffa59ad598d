"""What the edge works with, wired once by the application."""

import asyncio

from msgspec import Struct

from prepserver.ai.gateway import Gateway
from prepserver.clock import Clock
from prepserver.errors import Unauthorized
from prepserver.identity.tokens import Tokens
from prepserver.identity.users import PREFIX, Users
from prepserver.objects.registry import Registry
from prepserver.stores.ratelimit import RateLimiter

__all__ = ["Services"]


class Services(Struct, frozen=True, kw_only=True):
    clock: Clock
    registry: Registry
    gateway: Gateway
    users: Users
    tokens: Tokens
    limiter: RateLimiter
    version: str

    async def start(self) -> None:
        """Take the data directory and begin to load the models. Raises Conflict."""
        await self.registry.start()
        self.gateway.start()

    async def close(self) -> None:
        await self.registry.close()
        await self.gateway.close()
        self.limiter.close()
        self.users.close()

    async def user_of(self, credential: str) -> str:
        """The user's id behind an access key or a token. Raises Unauthorized."""
        if credential.startswith(f"{PREFIX}_"):
            return await self.users.authenticate(credential)
        return await self.user_of_token(credential)

    async def user_of_token(self, token: str) -> str:
        """The user's id behind a token; an access key is none. Raises Unauthorized."""
        user = self.tokens.verify(token)
        if not await asyncio.to_thread(self.users.exists, user):
            raise Unauthorized("The token's user was removed.", code="bad_token")
        return user
