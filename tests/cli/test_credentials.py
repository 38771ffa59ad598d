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
    """A keyring that keeps everything in memory."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


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


def test_a_key_is_kept_in_the_keyring_and_nowhere_else(ring: MemoryKeyring) -> None:
    """The settings know the server; only the keyring knows the key."""
    credentials.save_access_key(URL, "secret")
    assert credentials.load_access_key(URL) == "secret"
    assert ring.kept == {("prep", URL): "secret"}
    assert "secret" not in paths.settings_file().read_text()
    assert config.load(paths.settings_file()).servers == (config.KnownServer(URL),)


def test_a_key_is_forgotten_with_its_server(ring: MemoryKeyring) -> None:
    """After the logout nothing is left, and a second logout says so."""
    credentials.save_access_key(URL, "secret")
    assert credentials.delete_access_key(URL)
    assert ring.kept == {}
    assert not credentials.delete_access_key(URL)
    with pytest.raises(NotAuthorised, match=f"prep login {URL}"):
        credentials.load_access_key(URL)


@pytest.mark.usefixtures("no_ring")
def test_without_a_keyring_a_file_must_be_named() -> None:
    """Nothing is written in the clear unless somebody asks for it."""
    with pytest.raises(SettingsError, match="--insecure-file"):
        credentials.save_access_key(URL, "secret")
    assert not paths.settings_file().exists()


@pytest.mark.usefixtures("no_ring")
def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """It has mode 0600 from its first moment, and holds the keys of several servers."""
    file = tmp_path / "new" / "keys"
    credentials.save_access_key(URL, "secret", file)
    credentials.save_access_key("https://other.test", "other", file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert credentials.load_access_key(URL) == "secret"
    assert credentials.load_access_key("https://other.test") == "other"
    credentials.delete_access_key(URL)
    assert "secret" not in file.read_text()
    credentials.delete_access_key("https://other.test")
    assert not file.exists()


@pytest.mark.usefixtures("no_ring")
@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that others may have seen is not used, and the error says how to mend it."""
    file = tmp_path / "keys"
    credentials.save_access_key(URL, "secret", file)
    file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        credentials.load_access_key(URL)


@pytest.mark.usefixtures("no_ring")
def test_a_file_that_went_away_asks_for_the_login(tmp_path: Path) -> None:
    """The settings may outlive the file."""
    file = tmp_path / "keys"
    credentials.save_access_key(URL, "secret", file)
    file.unlink()
    with pytest.raises(NotAuthorised, match="prep login"):
        credentials.load_access_key(URL)


@pytest.mark.usefixtures("no_ring")
def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    """A wrong path must not cost anybody a file."""
    file = tmp_path / "novel.txt"
    file.write_text("It was a dark and stormy night")
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="does not hold access keys"):
        credentials.save_access_key(URL, "secret", file)
    assert file.read_text().startswith("It was")


@pytest.mark.usefixtures("no_ring")
def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts need neither a keyring nor a file."""
    monkeypatch.setenv("PREP_ACCESS_KEY", " from-the-environment\n")
    assert credentials.load_access_key(URL) == "from-the-environment"


def test_a_relative_file_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings hold the whole path."""
    monkeypatch.chdir(tmp_path)
    credentials.save_access_key(URL, "secret", Path("keys"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert credentials.load_access_key(URL) == "secret"
    assert list(Path().iterdir()) == []
