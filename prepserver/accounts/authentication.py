"""Authentication of callers by access key or token."""

import asyncio

from prepserver.accounts.tokens import Tokens
from prepserver.accounts.users import KEY_PREFIX, Users
from prepserver.errors import Forbidden, Unauthorized
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.rest import RoomToken

__all__ = ["Authenticator"]


class Authenticator:
    """Verifier that maps credentials to user ids. Its methods raise Unauthorized for an invalid
    credential."""

    def __init__(self, users: Users, tokens: Tokens) -> None:
        self.users = users
        self.tokens = tokens

    async def authenticate(self, credential: str) -> str:
        """Return the id of the user with this access key or token."""
        if credential.startswith(f"{KEY_PREFIX}_"):
            return await self.users.authenticate(credential)
        return await self.authenticate_token(credential)

    async def authenticate_administrator(self, credential: str) -> str:
        """Return the id of the administrator with this access key or token.

        Raises Forbidden if the user is not an administrator.
        """
        user = await self.authenticate(credential)
        if not await asyncio.to_thread(self.users.is_admin, user):
            raise Forbidden(
                "This address is for administrators. To make a user an administrator, run "
                "`prep-server users promote NAME`.",
                code=ErrorCode.NOT_AN_ADMINISTRATOR,
            )
        return user

    async def authenticate_token(self, token: str) -> str:
        """Return the id of the user with this token; an access key is rejected."""
        user = self.tokens.verify(token)
        if not await asyncio.to_thread(self.users.exists, user):
            raise Unauthorized(
                "The user of this token was removed. Ask your administrator for a new access key.",
                code=ErrorCode.BAD_TOKEN,
            )
        return user

    async def issue_token(self, key: str) -> RoomToken:
        """Issue a token to the user with this access key. A token is rejected: it cannot be
        exchanged for another token."""
        if not key.startswith(f"{KEY_PREFIX}_"):
            raise Unauthorized(
                "This request needs an access key, not a token.", code=ErrorCode.BAD_ACCESS_KEY
            )
        return self.tokens.issue(await self.users.authenticate(key))

    async def replace_key(self, name: str) -> str:
        """Issue a new access key to the user with this name, revoke the old key, and return the new
        one. A missing user is added."""
        new = await asyncio.to_thread(self.users.add, name, replace=True)
        return new.key

    def close(self) -> None:
        self.users.close()
