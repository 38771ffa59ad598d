"""Users: names, access keys, roles and their storage."""

import stat
from pathlib import Path

import argon2
import pytest

from prepserver.accounts.users import KEY_PREFIX, Users
from prepserver.errors import BadRequest, Conflict, NotFound, Unauthorized
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Users:
    # The real Argon2 cost would only slow the tests down.
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("prepserver.accounts.users.PasswordHasher", lambda: cheap)
    return Users(tmp_path / "users.sqlite", ManualClock())


@asynchronous
async def test_a_new_key_authenticates(users: Users) -> None:
    """The key of a new user authenticates that user repeatedly."""
    new = users.add("ada")
    assert new.key.startswith(f"{KEY_PREFIX}_")
    for _ in range(2):
        assert await users.authenticate(new.key) == new.id
    assert users.exists(new.id)
    users.close()


@asynchronous
async def test_two_users_have_different_ids_and_keys(users: Users) -> None:
    """Each access key authenticates only its own user."""
    one, two = users.add("one"), users.add("two")
    assert (await users.authenticate(one.key), await users.authenticate(two.key)) == (
        one.id,
        two.id,
    )
    assert one.id != two.id
    users.close()


def test_keys_are_stored_hashed(users: Users, tmp_path: Path) -> None:
    """No file in the data directory contains an access key or the secret part of an access key."""
    new = users.add("ada")
    replaced = users.rotate("ada")
    contents = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    users.close()
    contents += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"$argon2id$" in contents
    for key in (new.key, replaced.key):
        assert key.encode() not in contents
        assert key.rpartition("_")[2].encode() not in contents


def test_the_database_is_private(users: Users, tmp_path: Path) -> None:
    """The user database and its journal have mode 0600."""
    users.add("ada")
    files = [path for path in tmp_path.iterdir() if path.name.startswith("users.sqlite")]
    assert len(files) > 1
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    users.close()


@asynchronous
async def test_rotation_revokes_the_old_key(users: Users) -> None:
    """Rotation revokes the old key immediately, even if the old key has just been verified."""
    old = users.add("ada")
    await users.authenticate(old.key)
    new = users.rotate("ada")
    with pytest.raises(Unauthorized):
        await users.authenticate(old.key)
    assert await users.authenticate(new.key) == old.id
    users.close()


@asynchronous
async def test_a_removed_user_is_rejected(users: Users) -> None:
    """The key and the id of a removed user are rejected immediately."""
    new = users.add("ada")
    await users.authenticate(new.key)
    users.remove("ada")
    with pytest.raises(Unauthorized):
        await users.authenticate(new.key)
    assert not users.exists(new.id)
    assert users.list() == []
    users.close()


@asynchronous
async def test_invalid_keys_are_rejected(users: Users) -> None:
    """All invalid keys are rejected with the same message, which does not contain the secret part
    of a key."""
    new = users.add("ada")
    prefix, number, secret = new.key.split("_")
    tampered = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    wrong = [
        f"{prefix}_{number}_{tampered}",
        f"{prefix}_{number}_",
        f"{prefix}_{'0' * 16}_{secret}",
        f"other_{number}_{secret}",
        new.key.upper(),
        f"{new.key} ",
        "prep",
        "",
        "prep_%_%",
        "ü" * 1_000,
    ]
    messages = set()
    for key in wrong:
        with pytest.raises(Unauthorized) as caught:
            await users.authenticate(key)
        messages.add((caught.value.code, caught.value.message))
        assert secret not in caught.value.message
    assert len(messages) == 1
    users.close()


def test_names_are_unique(users: Users) -> None:
    """Adding a user with an existing name is rejected; with `replace`, the existing user gets a new
    key."""
    first = users.add("ada")
    with pytest.raises(Conflict) as caught:
        users.add("ada")
    assert caught.value.code == ErrorCode.USER_EXISTS
    again = users.add("ada", replace=True)
    assert again.id == first.id
    assert again.key != first.key
    assert [user.name for user in users.list()] == ["ada"]
    users.close()


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "\x1b[31m", "x" * 101])
def test_invalid_names_are_rejected(users: Users, name: str) -> None:
    """A user name that is empty, too long or not printable is rejected."""
    with pytest.raises(BadRequest):
        users.add(name)
    users.close()


def test_changing_an_unknown_user_fails(users: Users) -> None:
    """Changing an unknown user raises NotFound, and the message names the command that lists
    users."""
    for change in (users.rotate, users.remove):
        with pytest.raises(NotFound, match="users list"):
            change("unknown")
    users.close()


def test_users_are_listed_by_name_without_keys(users: Users) -> None:
    """Users are listed in the order of their names, with the time of creation and without keys."""
    for name in ("zoe", "ada"):
        users.add(name)
    listed = users.list()
    assert [user.name for user in listed] == ["ada", "zoe"]
    assert {user.created_at for user in listed} == {ManualClock().now()}
    users.close()


@asynchronous
async def test_another_process_sees_changes_immediately(users: Users, tmp_path: Path) -> None:
    """A running server immediately sees changes to users that are made on the command line."""
    running = Users(tmp_path / "users.sqlite", ManualClock())
    new = users.add("ada")
    assert await running.authenticate(new.key) == new.id
    users.remove("ada")
    with pytest.raises(Unauthorized):
        await running.authenticate(new.key)
    running.close()
    users.close()


def test_the_administrator_role_is_granted_and_revoked(users: Users) -> None:
    """The administrator role can be granted to or revoked from a user by name, and ends when the
    user is removed."""
    ada, bob = users.add("ada", admin=True), users.add("bob")
    assert (users.is_admin(ada.id), users.is_admin(bob.id)) == (True, False)
    users.set_admin("ada", False)
    users.set_admin("bob", True)
    assert [(user.name, user.admin) for user in users.list()] == [("ada", False), ("bob", True)]
    users.remove("bob")
    assert not users.is_admin(bob.id)
    users.add("bob")
    assert [user.admin for user in users.list()] == [False, False]
    with pytest.raises(NotFound):
        users.set_admin("unknown", True)
    users.close()


@asynchronous
async def test_a_new_key_keeps_the_role(users: Users) -> None:
    """Rotating or replacing a user's key keeps the user's role; replacing the key with `admin=True`
    grants the administrator role."""
    ada = users.add("ada", admin=True)
    users.rotate("ada")
    users.add("ada", replace=True)
    assert users.is_admin(ada.id)
    bob = users.add("bob")
    users.add("bob", replace=True)
    assert not users.is_admin(bob.id)
    users.add("bob", replace=True, admin=True)
    assert users.is_admin(bob.id)
    users.close()


@asynchronous
async def test_a_database_without_administrators_is_migrated(users: Users, tmp_path: Path) -> None:
    """A database without a column for administrators is migrated: keys stay valid, and no user
    becomes an administrator."""
    new = users.add("ada")
    with users._database.transaction() as table:
        table.execute("ALTER TABLE users DROP COLUMN admin")
    users.close()
    for _ in range(2):
        later = Users(tmp_path / "users.sqlite", ManualClock())
        assert await later.authenticate(new.key) == new.id
        assert [user.admin for user in later.list()] == [False]
        later.close()
