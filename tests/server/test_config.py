"""Settings: precedence, validation and the data directory."""

import stat
from pathlib import Path

import pytest

from prepserver.config import Config, load, open_data_dir
from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text('host = "file"\nport = 1\nhint_after = 30\n')
    return path


def test_defaults() -> None:
    """Without settings, the server listens on port 8400 of 127.0.0.1 and allows 100 requests a
    day."""
    config = load({}, environment={})
    assert config == Config()
    assert (config.host, config.port, config.hint_after) == ("127.0.0.1", 8400, 180)
    assert (config.rate_limit, config.rate_window) == (100, 86_400)


def test_precedence_of_flag_environment_file_and_default(file: Path) -> None:
    """A flag overrides the environment, which overrides the settings file, which overrides the
    default."""
    environment = {"PREP_SERVER_PORT": "2", "PREP_SERVER_HOST": "environment"}
    config = load({"port": 3}, file=file, environment=environment)
    assert (config.port, config.host, config.hint_after) == (3, "environment", 30)
    assert config.rate_limit == 100


def test_environment_variables_are_parsed(tmp_path: Path) -> None:
    """Numbers and paths are parsed from the text of environment variables."""
    environment = {
        "PREP_SERVER_PORT": "0",
        "PREP_SERVER_HINT_AFTER": "1.5",
        "PREP_SERVER_DATA_DIR": str(tmp_path),
        "PREP_SERVER_READY_FILE": "~/ready.json",
        "PREP_SERVER_LOG_LEVEL": "debug",
        "PREP_SERVER_SOMETHING_ELSE": "ignored",
        "UNRELATED": "ignored",
    }
    config = load({}, environment=environment)
    assert (config.port, config.hint_after, config.data_dir) == (0, 1.5, tmp_path)
    assert config.ready_file == Path("~/ready.json").expanduser()
    assert config.log_level == "debug"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 70_000),
        ("port", "many"),
        ("port", -1),
        ("hint_after", 0),
        ("rate_limit", -1),
        ("max_recording", 7_200),
        ("log_level", "loud"),
        ("stt_engine", "ear trumpet"),
        ("threads", 1_000),
        ("data_dir", 5),
    ],
)
def test_an_invalid_flag_is_named_in_the_error(name: str, value: object) -> None:
    """The error for an invalid flag names the setting and the flag."""
    with pytest.raises(BadRequest, match=f"from --{name.replace('_', '-')}.*{name}") as caught:
        load({name: value}, environment={})
    assert caught.value.code == ErrorCode.BAD_SETTING


def test_an_invalid_variable_is_named_in_the_error() -> None:
    """The error for an invalid environment variable names the variable."""
    with pytest.raises(BadRequest, match="from PREP_SERVER_PORT"):
        load({}, environment={"PREP_SERVER_PORT": "many"})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"port = ", "TOML"),
        (b"\xff\xfe", "UTF-8"),
        (b"prot = 80", "prot"),
        (b"port = 99999", "port"),
        (b"[port]\nnumber = 1", "port"),
    ],
)
def test_an_invalid_settings_file_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    """Loading a settings file that is not TOML, or that has unknown keys or invalid values, raises
    an error that names the file."""
    path = tmp_path / "server.toml"
    path.write_bytes(content)
    with pytest.raises(BadRequest, match=named) as caught:
        load({}, file=path, environment={})
    assert str(path) in caught.value.message
    assert caught.value.code == ErrorCode.BAD_SETTING


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    """Loading a missing settings file raises `bad_setting` with the file's name in the message."""
    with pytest.raises(BadRequest, match=r"none\.toml") as caught:
        load({}, file=tmp_path / "none.toml", environment={})
    assert caught.value.code == ErrorCode.BAD_SETTING


def test_a_new_data_directory_is_private(tmp_path: Path) -> None:
    """A new data directory has mode 0700; the mode of an existing data directory is unchanged."""
    config = Config(data_dir=tmp_path / "a" / "b")
    assert open_data_dir(config) == config.data_dir
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700
    config.data_dir.chmod(0o750)
    open_data_dir(config)
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o750


def test_a_data_directory_that_cannot_be_created(tmp_path: Path) -> None:
    """If a data directory cannot be created, opening the directory raises `bad_setting` with the
    path in the message."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadRequest, match=str(path)) as caught:
            open_data_dir(Config(data_dir=path))
        assert caught.value.code == ErrorCode.BAD_SETTING


def test_list_settings(tmp_path: Path) -> None:
    """The items of a list setting in the environment are separated by commas, and empty items are
    dropped."""
    environment = {"PREP_SERVER_FALLBACK": "llama-3.2-3b-instruct, scripted,,"}
    assert load({}, environment=environment).fallback == ("llama-3.2-3b-instruct", "scripted")
    file = tmp_path / "prep.toml"
    file.write_text('fallback = ["a", "b"]\n')
    assert load({}, file=file, environment={}).fallback == ("a", "b")
    assert load({"fallback": ("c",)}, file=file, environment={}).fallback == ("c",)


@pytest.mark.parametrize("name", ["openai_api_key", "stt_openai_api_key"])
def test_secrets_are_masked(name: str, tmp_path: Path) -> None:
    """An API key appears neither in the settings' `repr` nor in an error about the setting."""
    config = load({}, environment={f"PREP_SERVER_{name.upper()}": " sk-secret\n"})
    assert getattr(config, name) == "sk-secret"
    assert "sk-secret" not in repr(config)
    file = tmp_path / "server.toml"
    file.write_text(f"{name} = [123454321]\n")
    with pytest.raises(BadRequest) as caught:
        load({}, file=file, environment={})
    assert name in caught.value.message
    assert "123454321" not in caught.value.message
