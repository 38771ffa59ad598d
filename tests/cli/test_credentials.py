import asyncio
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import pytest

from prepcli import config, credentials, paths
from prepcli.errors import NotAuthorised, SettingsError

URL = "https://prep.test"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """Keyring that keeps passwords in memory."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stored: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.stored.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.stored[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.stored[service, username]


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    ring = MemoryKeyring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.fixture
def no_ring() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


def test_key_is_stored_only_in_the_keyring(ring: MemoryKeyring) -> None:
    """The settings file lists the server, but only the keyring contains the server's access key."""
    asyncio.run(credentials.save_access_key(URL, "secret"))
    assert asyncio.run(credentials.load_access_key(URL)) == "secret"
    assert ring.stored == {("prep", URL): "secret"}
    assert "secret" not in paths.settings_file().read_text()
    assert config.load(paths.settings_file()).servers == (config.KnownServer(URL),)


def test_deleting_a_key_removes_its_server(ring: MemoryKeyring) -> None:
    """Deleting a key also removes the server from the settings; a second deletion returns False."""
    asyncio.run(credentials.save_access_key(URL, "secret"))
    assert asyncio.run(credentials.delete_access_key(URL))
    assert ring.stored == {}
    assert not asyncio.run(credentials.delete_access_key(URL))
    with pytest.raises(NotAuthorised, match=f"prep login {URL}"):
        asyncio.run(credentials.load_access_key(URL))


@pytest.mark.usefixtures("no_ring")
def test_missing_keyring_requires_a_key_file() -> None:
    """Without a keyring, saving a key fails and stores nothing unless a key file is given."""
    with pytest.raises(SettingsError, match="--insecure-file"):
        asyncio.run(credentials.save_access_key(URL, "secret"))
    assert not paths.settings_file().exists()


@pytest.mark.usefixtures("no_ring")
def test_key_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """A key file has mode 0600, holds the keys of several servers, and is deleted with its last
    key."""
    file = tmp_path / "new" / "keys"
    asyncio.run(credentials.save_access_key(URL, "secret", file))
    asyncio.run(credentials.save_access_key("https://other.test", "other", file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert asyncio.run(credentials.load_access_key(URL)) == "secret"
    assert asyncio.run(credentials.load_access_key("https://other.test")) == "other"
    asyncio.run(credentials.delete_access_key(URL))
    assert "secret" not in file.read_text()
    asyncio.run(credentials.delete_access_key("https://other.test"))
    assert not file.exists()


@pytest.mark.usefixtures("no_ring")
@pytest.mark.skipif(sys.platform == "win32", reason="file modes need POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_key_file_that_others_can_read_is_rejected(tmp_path: Path, mode: int) -> None:
    """Loading a key from a file that other users can read raises SettingsError with the `chmod`
    command."""
    file = tmp_path / "keys"
    asyncio.run(credentials.save_access_key(URL, "secret", file))
    file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        asyncio.run(credentials.load_access_key(URL))


@pytest.mark.usefixtures("no_ring")
def test_missing_key_file_requires_a_login(tmp_path: Path) -> None:
    """If the key file has been deleted, loading the key raises NotAuthorised with the login
    command."""
    file = tmp_path / "keys"
    asyncio.run(credentials.save_access_key(URL, "secret", file))
    file.unlink()
    with pytest.raises(NotAuthorised, match="prep login"):
        asyncio.run(credentials.load_access_key(URL))


@pytest.mark.usefixtures("no_ring")
def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    """Saving a key never overwrites a file that does not contain access keys."""
    file = tmp_path / "novel.txt"
    file.write_text("It was a dark and stormy night")
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=r"novel\.txt"):
        asyncio.run(credentials.save_access_key(URL, "secret", file))
    assert file.read_text().startswith("It was")


@pytest.mark.usefixtures("no_ring")
@pytest.mark.parametrize("content", [b'{"u": "\xff"}', b"\xff\xfe{\0}\0", b"[" * 10_000, b""])
def test_key_files_that_are_not_json_are_refused(tmp_path: Path, content: bytes) -> None:
    """A key file that is not UTF-8 or not JSON raises SettingsError with the file's name."""
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match=r"keys\.json"):
        asyncio.run(credentials.save_access_key(URL, "secret", file))


@pytest.mark.usefixtures("no_ring")
@pytest.mark.parametrize("name", ["r\udce9ponse.json", "~no-such-user/keys.json", "folder"])
def test_names_that_cannot_be_stored_are_refused(tmp_path: Path, name: str) -> None:
    """A key file whose name is not UTF-8, whose home directory is unknown, or that is a folder
    raises SettingsError."""
    (tmp_path / "folder").mkdir(0o700)
    file = Path(name) if name.startswith("~") else tmp_path / name
    with pytest.raises(SettingsError):
        asyncio.run(credentials.save_access_key(URL, "secret", file))


@pytest.mark.usefixtures("no_ring")
def test_a_key_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    """A key file that an editor has saved with a byte-order mark still holds its keys."""
    file = tmp_path / "keys.json"
    asyncio.run(credentials.save_access_key(URL, "secret", file))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert asyncio.run(credentials.load_access_key(URL)) == "secret"


@pytest.mark.usefixtures("no_ring")
def test_a_key_file_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in the settings, which a person may write there, is expanded when a key is read and when
    it is deleted."""
    monkeypatch.setenv("HOME", str(tmp_path))
    asyncio.run(credentials.save_access_key(URL, "secret", tmp_path / "keys"))
    config.save(
        config.Config((config.KnownServer(URL, insecure_file="~/keys"),)), paths.settings_file()
    )
    assert asyncio.run(credentials.load_access_key(URL)) == "secret"
    assert asyncio.run(credentials.delete_access_key(URL))
    assert not (tmp_path / "keys").exists()


def test_environment_variable_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PREP_ACCESS_KEY` supplies the access key, without surrounding white space, even without a
    keyring."""
    monkeypatch.setenv("PREP_ACCESS_KEY", " from-the-environment\n")
    assert asyncio.run(credentials.load_access_key(URL)) == "from-the-environment"


def test_relative_key_file_is_stored_as_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key file given by a relative path is found from any working directory."""
    monkeypatch.chdir(tmp_path)
    asyncio.run(credentials.save_access_key(URL, "secret", Path("keys")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert asyncio.run(credentials.load_access_key(URL)) == "secret"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("key", ["clé", "two words", "line\nbreak", "\u200bkey"])
def test_key_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """An access key that no header can contain raises SettingsError with the key's source and
    without the key."""
    monkeypatch.setenv("PREP_ACCESS_KEY", key)
    with pytest.raises(SettingsError, match="PREP_ACCESS_KEY") as raised:
        asyncio.run(credentials.load_access_key(URL))
    assert key not in str(raised.value)
