"""Short-lived tokens in room addresses.

Browsers cannot set headers on a WebSocket handshake, so the address carries the token.
"""

import secrets
from pathlib import Path

import jwt

from prepserver.clock import Clock
from prepserver.errors import StorageError, Unauthorized
from prepserver.storage.files import write_atomically
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.rest import RoomToken

__all__ = ["Tokens", "load_signing_key"]

LIFETIME = 300.0
"""Number of seconds for which a token is valid."""

ISSUER = "prep-server"
AUDIENCE = "prep"
TYPE = "room"

KEY_BYTES = 32


def load_signing_key(path: Path) -> bytes:
    """Return the signing key in `path`. A missing file is created with 32 random bytes and mode
    0600.

    Raises Unauthorized (code `bad_signing_key`) if the file is too short, and StorageError if it
    cannot be read or created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Do not overwrite: two servers that start at once must use the same key.
            write_atomically(path, secrets.token_bytes(KEY_BYTES), mode=0o600, overwrite=False)
        key = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"Cannot read or create the signing key {path}: {error.strerror}. Check the disk and "
            "the file's permissions."
        ) from error
    if len(key) < KEY_BYTES:
        raise Unauthorized(
            f"The signing key in {path} is damaged. Delete the file and restart the server; "
            "clients will request new tokens.",
            code=ErrorCode.BAD_SIGNING_KEY,
        )
    return key


class Tokens:
    """Issuer and verifier of JSON Web Tokens (HS256)."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def issue(self, user_id: str) -> RoomToken:
        """Issue a token that is valid for `LIFETIME` seconds."""
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
        """Return the user id in the token.

        Raises Unauthorized if the token has expired or was not issued by this server.
        """
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                issuer=ISSUER,
                audience=AUDIENCE,
                # The expiry is checked below, with the injected clock.
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
                "The token has expired. Request a new one.", code=ErrorCode.TOKEN_EXPIRED
            )
        return str(claims["sub"])


def _bad_token() -> Unauthorized:
    return Unauthorized(
        "The token was not issued by this server. Request a new one.", code=ErrorCode.BAD_TOKEN
    )
