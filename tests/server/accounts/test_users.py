"""Who may call: names, access keys, and what is kept of them."""

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
    # The product's own cost is for attackers; here it would only be waited for.
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("prepserver.accounts.users.PasswordHasher", lambda: cheap)
    return Users(tmp_path / "users.sqlite", ManualClock())


@asynchronous
async def test_a_new_users_key_opens(users: Users) -> None:
    """Adding gives a key that leads to the user's id, again and again."""
    new = users.add("ada")
    assert new.key.startswith(f"{KEY_PREFIX}_")
    for _ in range(2):
        assert await users.authenticate(new.key) == new.id
    assert users.exists(new.id)
    users.close()


@asynchronous
async def test_two_users_have_different_ids_and_keys(users: Users) -> None:
    """A key leads to its own user alone."""
    one, two = users.add("one"), users.add("two")
    assert (await users.authenticate(one.key), await users.authenticate(two.key)) == (
        one.id,
        two.id,
    )
    assert one.id != two.id
    users.close()


def test_keys_are_kept_hashed(users: Users, tmp_path: Path) -> None:
    """Neither a key nor its secret half occurs in any file."""
    new = users.add("ada")
    replaced = users.rotate("ada")
    contents = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    users.close()
    contents += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"$argon2id$" in contents
    for key in (new.key, replaced.key):
        assert key.encode() not in contents
        assert key.rpartition("_")[2].encode() not in contents


def test_the_table_is_for_its_owner_alone(users: Users, tmp_path: Path) -> None:
    """Nobody else at this machine can read the hashes, not even in the journal."""
    users.add("ada")
    files = [path for path in tmp_path.iterdir() if path.name.startswith("users.sqlite")]
    assert len(files) > 1
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    users.close()


@asynchronous
async def test_after_a_rotation_the_old_key_is_refused_at_once(users: Users) -> None:
    """Even when it was used a moment before; the user stays the same."""
    old = users.add("ada")
    await users.authenticate(old.key)
    new = users.rotate("ada")
    with pytest.raises(Unauthorized):
        await users.authenticate(old.key)
    assert await users.authenticate(new.key) == old.id
    users.close()


@asynchronous
async def test_a_removed_user_is_refused_at_once(users: Users) -> None:
    """By key and by id, even when the key was used a moment before."""
    new = users.add("ada")
    await users.authenticate(new.key)
    users.remove("ada")
    with pytest.raises(Unauthorized):
        await users.authenticate(new.key)
    assert not users.exists(new.id)
    assert users.list() == []
    users.close()


@asynchronous
async def test_what_is_no_key_is_refused(users: Users) -> None:
    """A wrong secret, an unknown number, and things that are not keys look all the same."""
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


def test_a_name_is_taken_once(users: Users) -> None:
    """Adding again is refused, unless a new key was asked for."""
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
def test_what_is_no_name_is_refused(users: Users, name: str) -> None:
    """A name is short and can be printed on one line."""
    with pytest.raises(BadRequest):
        users.add(name)
    users.close()


def test_whoever_is_not_there_cannot_be_changed(users: Users) -> None:
    """Rotating and removing name the command that helps."""
    for change in (users.rotate, users.remove):
        with pytest.raises(NotFound, match="users list"):
            change("nobody")
    users.close()


def test_users_are_listed_by_name_without_keys(users: Users) -> None:
    """The list has names, ids and times of creation."""
    for name in ("zoe", "ada"):
        users.add(name)
    listed = users.list()
    assert [user.name for user in listed] == ["ada", "zoe"]
    assert {user.created_at for user in listed} == {ManualClock().now()}
    users.close()


@asynchronous
async def test_another_process_sees_changes_at_once(users: Users, tmp_path: Path) -> None:
    """The command line changes users while a server runs."""
    running = Users(tmp_path / "users.sqlite", ManualClock())
    new = users.add("ada")
    assert await running.authenticate(new.key) == new.id
    users.remove("ada")
    with pytest.raises(Unauthorized):
        await running.authenticate(new.key)
    running.close()
    users.close()


def test_an_administrator_is_made_and_unmade(users: Users) -> None:
    """By name; nobody is one unless somebody said so, and who was removed is none."""
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
        users.set_admin("nobody", True)
    users.close()


@asynchronous
async def test_a_new_key_changes_nobodys_standing(users: Users) -> None:
    """Neither rotating nor replacing takes an administrator's right, or gives it unasked."""
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
async def test_a_table_from_before_there_were_administrators_is_taken_on(
    users: Users, tmp_path: Path
) -> None:
    """Everybody keeps their key, and nobody becomes an administrator by it."""
    new = users.add("ada")
    with users._database.transaction() as table:
        table.execute("ALTER TABLE users DROP COLUMN admin")
    users.close()
    for _ in range(2):
        later = Users(tmp_path / "users.sqlite", ManualClock())
        assert await later.authenticate(new.key) == new.id
        assert [user.admin for user in later.list()] == [False]
        later.close()
