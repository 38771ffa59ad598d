"""Short-lived tokens for a socket's address, where no header can be set."""

import secrets
from pathlib import Path

import jwt

from prepserver.clock import Clock
from prepserver.errors import Unauthorized
from prepserver.storage.files import write_atomically
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.rest import RoomToken

__all__ = ["Tokens", "load_signing_key"]

LIFETIME = 300.0
"""Seconds."""

ISSUER = "prep-server"
AUDIENCE = "prep"
TYPE = "room"

KEY_BYTES = 32


def load_signing_key(path: Path) -> bytes:
    """The server's secret of 32 random bytes, made on first use, for the owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Without overwriting: two servers that start at once agree on one key.
        write_atomically(path, secrets.token_bytes(KEY_BYTES), mode=0o600, overwrite=False)
    key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise Unauthorized(
            f"The signing key {path} is damaged. Remove the file; clients fetch new tokens.",
            code=ErrorCode.BAD_SIGNING_KEY,
        )
    return key


class Tokens:
    """Issues and checks JWTs (HS256)."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def issue(self, user_id: str) -> RoomToken:
        now = self._clock.now()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "typ": TYPE,
            "jti": secrets.token_hex(8),
            "sub": user_id,
            "iat": int(now),
            "exp": int(now + LIFETIME),
        }
        token = jwt.encode(claims, self._key, algorithm="HS256")
        return RoomToken(token=token, expires_at=float(int(now + LIFETIME)))

    def verify(self, token: str) -> str:
        """The user's id. Raises Unauthorized for a token that is expired, forged or foreign."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                issuer=ISSUER,
                audience=AUDIENCE,
                # Expiry is checked below against the injected clock.
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidTokenError as error:
            raise _bad_token() from error
        if claims.get("typ") != TYPE or not isinstance(claims["exp"], int):
            raise _bad_token()
        if claims["exp"] <= self._clock.now():
            raise Unauthorized(
                "The token has expired; fetch a new one.", code=ErrorCode.TOKEN_EXPIRED
            )
        return str(claims["sub"])


def _bad_token() -> Unauthorized:
    return Unauthorized("The token was not issued by this server.", code=ErrorCode.BAD_TOKEN)
