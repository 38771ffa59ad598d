"""Users and their access keys, stored as Argon2 hashes."""

import asyncio
import hashlib
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path

import apsw
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Struct

from prepserver.clock import Clock
from prepserver.errors import BadRequest, Conflict, NotFound, Unauthorized
from prepserver.storage.sqlite import Database
from prepserver.wire.error_codes import ErrorCode

__all__ = ["NewKey", "User", "Users"]

KEY_PREFIX = "prep"
"""Prefix by which people and secret scanners recognise an access key."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, key_id TEXT NOT NULL UNIQUE,
    key_hash TEXT NOT NULL, created_at REAL NOT NULL, admin INTEGER NOT NULL DEFAULT 0
);
"""


class User(Struct, frozen=True, kw_only=True):
    """A user, without the access key."""

    id: str
    name: str
    created_at: float
    """Time of creation in seconds since the Unix epoch."""
    admin: bool = False
    """True for an administrator, who may read statistics and metrics, but not the interviews of
    other users."""


class NewKey(Struct, frozen=True, kw_only=True):
    """A new access key, which can be shown only once because the server stores only its hash."""

    id: str
    """Id of the user."""
    name: str
    key: str


class Users:
    """Database of users.

    Its methods block on the disk and on Argon2, except for `authenticate`, which uses a thread.
    """

    def __init__(self, path: Path, clock: Clock, *, vfs: str | None = None) -> None:
        """Open the database at `path`, or create it with mode 0600.

        `vfs` is the name of an SQLite VFS, for tests. This and all other methods raise StorageError
        if the disk fails.
        """
        self._clock = clock
        self._hasher = PasswordHasher()
        # Digests of verified keys, so that only the first request of a client pays for Argon2.
        # They include the stored hash: a removed or replaced key is rejected immediately.
        self._verified: dict[bytes, str] = {}
        self._database = Database(path, _SCHEMA, private=True, vfs=vfs)
        with self._database.transaction() as table:
            columns = {str(row[1]) for row in table.execute("PRAGMA table_info(users)")}
            if "admin" not in columns:
                table.execute("ALTER TABLE users ADD COLUMN admin INTEGER NOT NULL DEFAULT 0")

    def add(self, name: str, *, replace: bool = False, admin: bool = False) -> NewKey:
        """Create a user, or with `replace` issue a new key to an existing user.

        `admin` makes the user an administrator; without `admin` an existing user keeps their role.
        Raises Conflict if the name is taken and `replace` is False, and BadRequest if the name is
        invalid.
        """
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise BadRequest("A user name must have 1 to 100 printable characters.")
        with self._database.transaction() as table:
            known = _find(table, name)
        if known is not None:
            if replace:
                if admin:
                    self.set_admin(name, True)
                return self.rotate(name)
            raise _user_exists(name)
        user_id = uuid.uuid4().hex
        key, key_id, key_hash = self._make_key()
        with self._database.transaction() as table:
            try:
                table.execute(
                    "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)",
                    (user_id, name, key_id, key_hash, self._clock.now(), admin),
                )
            except apsw.ConstraintError as error:
                raise _user_exists(name) from error
        return NewKey(id=user_id, name=name, key=key)

    def rotate(self, name: str) -> NewKey:
        """Issue a new key to a user and revoke the old one. Raises NotFound if there is no such
        user."""
        key, key_id, key_hash = self._make_key()
        with self._database.transaction() as table:
            user = _find(table, name)
            if user is None:
                raise _no_user(name)
            table.execute(
                "UPDATE users SET key_id = ?, key_hash = ? WHERE id = ?",
                (key_id, key_hash, user.id),
            )
        return NewKey(id=user.id, name=name, key=key)

    def set_admin(self, name: str, admin: bool) -> None:
        """Grant a user the administrator role, or revoke the role if `admin` is False. Raises
        NotFound if there is no such user."""
        with self._database.transaction() as table:
            if _find(table, name) is None:
                raise _no_user(name)
            table.execute("UPDATE users SET admin = ? WHERE name = ?", (admin, name))

    def remove(self, name: str) -> None:
        """Delete a user and revoke their key. Raises NotFound if there is no such user."""
        with self._database.transaction() as table:
            if _find(table, name) is None:
                raise _no_user(name)
            table.execute("DELETE FROM users WHERE name = ?", (name,))

    def list(self) -> list[User]:
        """Return all users, ordered by name."""
        with self._database.transaction() as table:
            rows = table.execute(
                "SELECT id, name, created_at, admin FROM users ORDER BY name"
            ).fetchall()
        return [_user(row) for row in rows]

    def exists(self, user_id: str) -> bool:
        """Return True if a user has this id."""
        with self._database.transaction() as table:
            row = table.execute("SELECT 1 FROM users WHERE id = ?", (user_id,))
            return row.fetchone() is not None

    def is_admin(self, user_id: str) -> bool:
        """Return True if a user has this id and is an administrator."""
        with self._database.transaction() as table:
            row = table.execute("SELECT 1 FROM users WHERE id = ? AND admin", (user_id,)).fetchone()
        return row is not None

    async def authenticate(self, key: str) -> str:
        """Return the id of the user with this access key. Raises Unauthorized if no user has the
        key."""
        return await asyncio.to_thread(self._authenticate, key)

    def _authenticate(self, key: str) -> str:
        parts = key.split("_")
        if len(parts) != 3 or parts[0] != KEY_PREFIX:
            raise _bad_key()
        with self._database.transaction() as table:
            row = table.execute(
                "SELECT id, key_hash FROM users WHERE key_id = ?", (parts[1],)
            ).fetchone()
        if row is None:
            raise _bad_key()
        user_id, key_hash = str(row[0]), str(row[1])
        digest = hashlib.sha256(f"{key_hash}:{key}".encode()).digest()
        if digest not in self._verified:
            try:
                self._hasher.verify(key_hash, key)
            except (VerificationError, InvalidHashError) as error:
                raise _bad_key() from error
            self._verified[digest] = user_id
        return user_id

    def _make_key(self) -> tuple[str, str, str]:
        key_id = secrets.token_hex(8)
        key = f"{KEY_PREFIX}_{key_id}_{secrets.token_hex(24)}"
        return key, key_id, self._hasher.hash(key)

    def close(self) -> None:
        self._database.close()


def _user(row: Sequence[object]) -> User:
    id, name, created_at, admin = row
    return User(id=str(id), name=str(name), created_at=float(str(created_at)), admin=bool(admin))


def _find(table: apsw.Connection, name: str) -> User | None:
    row = table.execute(
        "SELECT id, name, created_at, admin FROM users WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else _user(row)


def _no_user(name: str) -> NotFound:
    return NotFound(
        f"There is no user named {name}. Run `prep-server users list` to see all users."
    )


def _user_exists(name: str) -> Conflict:
    return Conflict(
        f"User {name} already exists. To issue a new access key, run "
        f"`prep-server users rotate {name}`.",
        code=ErrorCode.USER_EXISTS,
    )


def _bad_key() -> Unauthorized:
    return Unauthorized(
        "The access key is invalid or was replaced. Ask your administrator to issue a new one with "
        "`prep-server users rotate NAME`.",
        code=ErrorCode.BAD_ACCESS_KEY,
    )
