from pathlib import Path

import pytest

from prepcli import config
from prepcli.errors import SettingsError, UsageError


def test_settings_survive_being_written_and_read(tmp_path: Path) -> None:
    """What is saved is what is loaded, quotes and backslashes included."""
    file = tmp_path / "new" / "config.toml"
    servers = (
        config.KnownServer("https://a.test"),
        config.KnownServer("https://b.test", insecure_file='C:\\keys "mine" ü\x7f'),
    )
    config.save(config.Config(servers), file)
    assert config.load(file) == config.Config(servers)
    assert [each.name for each in file.parent.iterdir()] == ["config.toml"]


def test_there_are_no_settings_at_first(tmp_path: Path) -> None:
    """A file that is not there is an empty one."""
    assert config.load(tmp_path / "config.toml") == config.Config()


@pytest.mark.parametrize("text", ["[[servers", 'servers = "x"', "colour = 1", "\xff"])
def test_broken_settings_name_the_file(tmp_path: Path, text: str) -> None:
    """Somebody who edited the file learns which one and what is wrong."""
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"config\.toml"):
        config.load(file)


def test_a_server_is_there_once() -> None:
    """Logging in again replaces the entry."""
    known = config.Config(
        (config.KnownServer("https://a.test"), config.KnownServer("https://b.test"))
    )
    again = known.with_server(config.KnownServer("https://a.test", "keys"))
    assert again.servers == (
        config.KnownServer("https://b.test"),
        config.KnownServer("https://a.test", "keys"),
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("https://prep.test/", "https://prep.test"),
        ("HTTPS://Prep.Test", "https://prep.test"),
        ("prep.test:8400", "https://prep.test:8400"),
        ("localhost:8400", "http://localhost:8400"),
        ("127.0.0.1:8400", "http://127.0.0.1:8400"),
        ("http://[::1]:8400", "http://[::1]:8400"),
        ("https://prep.test/team/", "https://prep.test/team"),
    ],
)
def test_addresses_are_written_in_one_way(typed: str, meant: str) -> None:
    """The same server is found again however its address was typed."""
    assert config.normalise_url(typed) == meant


@pytest.mark.parametrize(
    "typed", ["", "ws://prep.test", "https://", "https://me:pw@prep.test", "https://x?y", "a:b:c"]
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    """A key in an address would end in the shell's history."""
    with pytest.raises(UsageError, match="address"):
        config.normalise_url(typed)
