"""Who may call: users and their access keys, kept hashed."""

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
"""Opens every access key, so that secret scanners and people recognise one."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, key_id TEXT NOT NULL UNIQUE,
    key_hash TEXT NOT NULL, created_at REAL NOT NULL, admin INTEGER NOT NULL DEFAULT 0
);
"""


class User(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: float
    admin: bool = False
    """May see how the server does; other people's interviews are closed to them too."""


class NewKey(Struct, frozen=True, kw_only=True):
    """Shown once: the server keeps the hash alone."""

    id: str
    """Of the user."""
    name: str
    key: str


class Users:
    """The table of users. Its methods wait for the disk and for argon2: call them from a thread,
    or use `authenticate`, which does."""

    def __init__(self, path: Path, clock: Clock, *, vfs: str | None = None) -> None:
        """`vfs` names the file system that SQLite goes through; None is its own.

        Raises StorageError, as all methods do when the disk fails.
        """
        self._clock = clock
        self._hasher = PasswordHasher()
        # Proven keys by digest, so that a client pays for argon2 once and not at every request.
        # Bound to the stored hash: a removed or rotated key is unknown at once.
        self._proven: dict[bytes, str] = {}
        self._database = Database(path, _SCHEMA, private=True, vfs=vfs)
        with self._database.transaction() as table:
            columns = {str(row[1]) for row in table.execute("PRAGMA table_info(users)")}
            if "admin" not in columns:
                table.execute("ALTER TABLE users ADD COLUMN admin INTEGER NOT NULL DEFAULT 0")

    def add(self, name: str, *, replace: bool = False, admin: bool = False) -> NewKey:
        """Create a user, or with `replace` give an existing one a new key.

        With `admin` they are an administrator from now on; without it an existing one stays what
        they are. Raises Conflict when the name is taken, BadRequest when it is no name.
        """
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise BadRequest("A user's name is 1 to 100 printable characters.")
        with self._database.transaction() as table:
            known = _find(table, name)
        if known is not None:
            if replace:
                if admin:
                    self.set_admin(name, True)
                return self.rotate(name)
            raise Conflict(
                f"There is a user named {name}. `prep-server users rotate {name}` makes a new key.",
                code=ErrorCode.USER_EXISTS,
            )
        user_id = uuid.uuid4().hex
        key, key_id, key_hash = self._make_key()
        with self._database.transaction() as table:
            try:
                table.execute(
                    "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)",
                    (user_id, name, key_id, key_hash, self._clock.now(), admin),
                )
            except apsw.ConstraintError as error:
                raise Conflict(
                    f"There is a user named {name}.", code=ErrorCode.USER_EXISTS
                ) from error
        return NewKey(id=user_id, name=name, key=key)

    def rotate(self, name: str) -> NewKey:
        """A new key for a user; the old one is refused from now on. Raises NotFound."""
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
        """Make a user an administrator, or one no longer. Raises NotFound."""
        with self._database.transaction() as table:
            if _find(table, name) is None:
                raise _no_user(name)
            table.execute("UPDATE users SET admin = ? WHERE name = ?", (admin, name))

    def remove(self, name: str) -> None:
        """Raises NotFound."""
        with self._database.transaction() as table:
            if _find(table, name) is None:
                raise _no_user(name)
            table.execute("DELETE FROM users WHERE name = ?", (name,))

    def list(self) -> list[User]:
        with self._database.transaction() as table:
            rows = table.execute(
                "SELECT id, name, created_at, admin FROM users ORDER BY name"
            ).fetchall()
        return [_user(row) for row in rows]

    def exists(self, user_id: str) -> bool:
        """Whether a token's user is still here."""
        with self._database.transaction() as table:
            row = table.execute("SELECT 1 FROM users WHERE id = ?", (user_id,))
            return row.fetchone() is not None

    def is_admin(self, user_id: str) -> bool:
        """Whether a user is an administrator; somebody who was removed is none."""
        with self._database.transaction() as table:
            row = table.execute("SELECT 1 FROM users WHERE id = ? AND admin", (user_id,)).fetchone()
        return row is not None

    async def authenticate(self, key: str) -> str:
        """The id of the user with this access key. Raises Unauthorized."""
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
        if digest not in self._proven:
            try:
                self._hasher.verify(key_hash, key)
            except (VerificationError, InvalidHashError) as error:
                raise _bad_key() from error
            self._proven[digest] = user_id
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
    return NotFound(f"There is no user named {name}. `prep-server users list` shows who there is.")


def _bad_key() -> Unauthorized:
    return Unauthorized(
        "The access key is not known here. Ask for a new one: `prep-server users rotate NAME`.",
        code=ErrorCode.BAD_ACCESS_KEY,
    )
