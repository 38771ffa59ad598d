import os
from pathlib import Path

import pytest

from prepcli import config
from prepcli.errors import SettingsError, UsageError


def test_saved_settings_load_unchanged(tmp_path: Path) -> None:
    """Saved settings load unchanged, including quotes, backslashes and control characters."""
    file = tmp_path / "new" / "config.toml"
    servers = (
        config.KnownServer("https://a.test"),
        config.KnownServer("https://b.test", insecure_file='C:\\keys "mine" ü 🔑\x7f'),
    )
    config.save(config.Config(servers), file)
    assert config.load(file) == config.Config(servers)
    assert [each.name for each in file.parent.iterdir()] == ["config.toml"]


def test_the_chosen_models_survive_logins(tmp_path: Path) -> None:
    """The chosen set of models is saved, and is kept when servers are added and removed."""
    file = tmp_path / "config.toml"
    chosen = config.Config(model_set="standard")
    config.save(chosen.with_server(config.KnownServer("https://a.test")), file)
    loaded = config.load(file)
    assert loaded.model_set == "standard"
    assert loaded.without_server("https://a.test") == chosen


def test_missing_settings_are_empty(tmp_path: Path) -> None:
    """A missing settings file is treated as an empty file."""
    assert config.load(tmp_path / "config.toml") == config.Config()


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf[[servers]]\nurl = "https://a.test"\n',
        b'[[servers]]\r\nurl = "https://a.test"\r\n',
        b'\xef\xbb\xbf# mine\r\n[[servers]]\r\nurl = "https://a.test"',
    ],
)
def test_settings_of_other_editors_load(tmp_path: Path, content: bytes) -> None:
    """The settings file may begin with a byte-order mark and have line ends of Windows."""
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    assert config.load(file) == config.Config((config.KnownServer("https://a.test"),))


@pytest.mark.parametrize(
    "content",
    [
        b"[[servers",
        b'servers = "x"',
        b"colour = 1",
        b"\xff",
        'url = "caf\xe9"'.encode("latin-1"),
        "[[servers]]".encode("utf-16"),
        "[[servers]]".encode("utf-16-be"),
        b"a = " + b"[" * 10_000,
        b"a = " + b"9" * 5_000,
    ],
)
def test_invalid_settings_name_the_file(tmp_path: Path, content: bytes) -> None:
    """The error for an invalid settings file names the file."""
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"config\.toml"):
        config.load(file)


@pytest.mark.time_limit(10)
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_settings_file_is_reported(tmp_path: Path, kind: str) -> None:
    """If the settings file is a folder, a pipe or a device, an error names it at once."""
    file = tmp_path / "config.toml"
    match kind:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case _:
            file.symlink_to("/dev/zero")
    with pytest.raises(SettingsError, match=r"config\.toml is not a file"):
        config.load(file)


def test_server_has_one_entry() -> None:
    """A repeated login replaces the server's entry in the settings."""
    known = config.Config(
        (config.KnownServer("https://a.test"), config.KnownServer("https://b.test"))
    )
    again = known.with_server(config.KnownServer("https://a.test", "keys"))
    assert again.servers == (
        config.KnownServer("https://b.test"),
        config.KnownServer("https://a.test", "keys"),
    )


@pytest.mark.parametrize(
    ("typed", "canonical"),
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
def test_normalise_url_returns_the_canonical_form(typed: str, canonical: str) -> None:
    """Different spellings of a server's address are converted to one canonical form."""
    assert config.normalise_url(typed) == canonical


@pytest.mark.parametrize(
    "typed",
    [
        *("", "ws://prep.test", "https://", "https://me:pw@prep.test", "https://x?y", "a:b:c"),
        *("[abc", "http://a\x01b", "http://\u0663", "\u00e4_b", "http://xn--a", "\udcff"),
    ],
)
def test_invalid_address_is_rejected(typed: str) -> None:
    """A server address that is invalid or contains a password raises UsageError."""
    with pytest.raises(UsageError, match="address"):
        config.normalise_url(typed)
