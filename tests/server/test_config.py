"""Settings: where each comes from, and what is wrong with one that is wrong."""

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


def test_without_anything_the_defaults_hold() -> None:
    """A server of one's own on loopback, with the starter models."""
    config = load({}, environment={})
    assert config == Config()
    assert (config.host, config.port, config.hint_after) == ("127.0.0.1", 8400, 180)
    assert (config.rate_limit, config.rate_window) == (100, 86_400)


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(file: Path) -> None:
    """Each setting is looked up in that order."""
    environment = {"PREP_SERVER_PORT": "2", "PREP_SERVER_HOST": "environment"}
    config = load({"port": 3}, file=file, environment=environment)
    assert (config.port, config.host, config.hint_after) == (3, "environment", 30)
    assert config.rate_limit == 100


def test_the_environment_holds_every_setting_as_text(tmp_path: Path) -> None:
    """Numbers and paths are read from their text."""
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
def test_a_wrong_setting_is_named_with_its_origin(name: str, value: object) -> None:
    """Whoever typed it knows where to correct it."""
    with pytest.raises(BadRequest, match=f"from --{name.replace('_', '-')}.*{name}") as caught:
        load({name: value}, environment={})
    assert caught.value.code == ErrorCode.BAD_SETTING


def test_a_wrong_variable_is_named() -> None:
    """The name in the error is the one in the environment."""
    with pytest.raises(BadRequest, match="from PREP_SERVER_PORT"):
        load({}, environment={"PREP_SERVER_PORT": "many"})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"port = ", "is not TOML"),
        (b"\xff\xfe", "cannot be read"),
        (b"prot = 80", "prot"),
        (b"port = 99999", "port"),
        (b"[port]\nnumber = 1", "port"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    """Not TOML, a name nobody knows, a value out of bounds: each is told with the file."""
    path = tmp_path / "server.toml"
    path.write_bytes(content)
    with pytest.raises(BadRequest, match=says) as caught:
        load({}, file=path, environment={})
    assert str(path) in caught.value.message
    assert caught.value.code == ErrorCode.BAD_SETTING


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The same error as for one that cannot be read."""
    with pytest.raises(BadRequest, match="cannot be read") as caught:
        load({}, file=tmp_path / "none.toml", environment={})
    assert caught.value.code == ErrorCode.BAD_SETTING


def test_the_data_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Transcripts are nobody else's business; one that is there is taken as it is."""
    config = Config(data_dir=tmp_path / "a" / "b")
    assert open_data_dir(config) == config.data_dir
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700
    config.data_dir.chmod(0o750)
    open_data_dir(config)
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o750


def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in its way gives a sentence, not a traceback."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadRequest, match=str(path)) as caught:
            open_data_dir(Config(data_dir=path))
        assert caught.value.code == ErrorCode.BAD_SETTING


def test_a_list_is_parted_by_commas_in_the_environment(tmp_path: Path) -> None:
    """In the file it is a list; blanks and nothing between commas do not count."""
    environment = {"PREP_SERVER_FALLBACK": "llama-3.2-3b-instruct, scripted,,"}
    assert load({}, environment=environment).fallback == ("llama-3.2-3b-instruct", "scripted")
    file = tmp_path / "prep.toml"
    file.write_text('fallback = ["a", "b"]\n')
    assert load({}, file=file, environment={}).fallback == ("a", "b")
    assert load({"fallback": ("c",)}, file=file, environment={}).fallback == ("c",)


@pytest.mark.parametrize("name", ["openai_api_key", "stt_openai_api_key"])
def test_a_key_is_not_shown(name: str, tmp_path: Path) -> None:
    """Not when the settings are printed, and not in an error about it."""
    config = load({}, environment={f"PREP_SERVER_{name.upper()}": " sk-secret\n"})
    assert getattr(config, name) == "sk-secret"
    assert "sk-secret" not in repr(config)
    file = tmp_path / "server.toml"
    file.write_text(f"{name} = [123454321]\n")
    with pytest.raises(BadRequest) as caught:
        load({}, file=file, environment={})
    assert name in caught.value.message
    assert "123454321" not in caught.value.message
