"""Tokens: lifetime, verification and the signing key."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest

from prepserver.accounts.tokens import AUDIENCE, ISSUER, LIFETIME, TYPE, Tokens, load_signing_key
from prepserver.errors import StorageError, Unauthorized
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

KEY = b"k" * 32


def claims(**changed: Any) -> dict[str, Any]:
    now = int(ManualClock().now())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "typ": TYPE,
        "jti": "1",
        "sub": "user-1",
        "iat": now,
        "exp": now + 300,
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def sign(key: bytes = KEY, algorithm: str = "HS256", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm=algorithm)


def test_a_token_identifies_its_user() -> None:
    """A token that the server issues and an equivalent token that the test signs both identify
    their user."""
    tokens = Tokens(KEY, ManualClock())
    assert tokens.verify(tokens.issue("user-1").token) == "user-1"
    assert tokens.verify(sign()) == "user-1"


def test_tokens_are_unique() -> None:
    """Two tokens that are issued to a user in the same second differ."""
    tokens = Tokens(KEY, ManualClock())
    assert tokens.issue("u").token != tokens.issue("u").token


@asynchronous
async def test_a_token_expires_after_five_minutes() -> None:
    """A token is valid 299 s after it is issued, and has expired after 300 s."""
    clock = ManualClock()
    tokens = Tokens(KEY, clock)
    token = tokens.issue("user-1")
    assert token.expires_at == clock.now() + LIFETIME == clock.now() + 300
    await clock.advance(299)
    assert tokens.verify(token.token) == "user-1"
    await clock.advance(1)
    with pytest.raises(Unauthorized) as caught:
        tokens.verify(token.token)
    assert caught.value.code == ErrorCode.TOKEN_EXPIRED


def _unsigned() -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims())}."


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(sign(b"x" * 32), id="signed with another key"),
        pytest.param(_unsigned(), id="alg none"),
        pytest.param(sign(b"k" * 64, "HS512"), id="another algorithm"),
        pytest.param(sign(iss="another"), id="another issuer"),
        pytest.param(sign(aud="another"), id="another audience"),
        pytest.param(sign(typ="refresh"), id="another type"),
        *(
            pytest.param(jwt.encode(claims(**{name: None}), KEY), id=f"without {name}")
            for name in ("iss", "aud", "typ", "jti", "sub", "iat", "exp")
        ),
        pytest.param(sign(exp="tomorrow"), id="expiry is not a number"),
        pytest.param(sign()[:-4] + "AAAA", id="signature changed"),
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="not a token"),
        pytest.param("ü.ü.ü", id="not ASCII"),
        pytest.param("x" * 100_000, id="long"),
    ],
)
def test_foreign_tokens_are_rejected(token: str) -> None:
    """A token that the server did not issue, or that was changed, is rejected as `bad_token`."""
    with pytest.raises(Unauthorized) as caught:
        Tokens(KEY, ManualClock()).verify(token)
    assert caught.value.code == ErrorCode.BAD_TOKEN


def test_the_signing_key_is_created_once_and_private(tmp_path: Path) -> None:
    """A missing signing key is created with mode 0600, and the next start uses the same key."""
    path = tmp_path / "data" / "signing.key"
    key = load_signing_key(path)
    assert len(key) == 32
    assert load_signing_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["signing.key"]
    assert load_signing_key(tmp_path / "other.key") != key


@pytest.mark.parametrize("obstacle", ["folder", "loop", "below a file"])
def test_a_signing_key_that_cannot_be_read(tmp_path: Path, obstacle: str) -> None:
    """If the signing key can be neither read nor created, the error names its file."""
    path = tmp_path / "signing.key"
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(b"x" * 32)
        path = path / "signing.key"
    with pytest.raises(StorageError, match=r"signing\.key"):
        load_signing_key(path)


def test_a_short_signing_key_is_rejected(tmp_path: Path) -> None:
    """A signing key that is too short is rejected, because a short key can be guessed."""
    path = tmp_path / "signing.key"
    path.write_bytes(b"short")
    with pytest.raises(Unauthorized, match=r"signing\.key") as error:
        load_signing_key(path)
    assert error.value.code == ErrorCode.BAD_SIGNING_KEY
