"""Settings: precedence, validation and the data directory."""

import pwd
import re
import stat
from pathlib import Path

import msgspec
import pytest

from prepserver.config import (
    MAX_DATA_DIR_BYTES,
    MAX_FILE_BYTES,
    Config,
    load,
    open_data_dir,
)
from prepserver.errors import BadRequest
from prepserver.objects.storage import Storage
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
    "value", ["tcp://10.0.0.7:8400", "udp://10.0.0.7:8400", "tcp://[fd00::7]:8400", "", "  "]
)
def test_service_links_and_empty_variables_are_ignored(value: str) -> None:
    """The address that Kubernetes puts into PREP_SERVER_PORT, and an empty variable, leave the port
    unchanged."""
    environment = {
        "PREP_SERVER_PORT": value,
        "PREP_SERVER_SERVICE_HOST": "10.0.0.7",
        "PREP_SERVER_SERVICE_PORT": "8400",
        "PREP_SERVER_PORT_8400_TCP": "tcp://10.0.0.7:8400",
        "PREP_SERVER_PORT_8400_TCP_PORT": "8400",
    }
    assert load({}, environment=environment).port == 8400


def test_empty_variables_leave_the_settings_of_the_file(file: Path) -> None:
    """An empty variable does not replace the value in the settings file."""
    environment = {
        "PREP_SERVER_HOST": "",
        "PREP_SERVER_HINT_AFTER": " ",
        "PREP_SERVER_FALLBACK": "",
    }
    config = load({}, file=file, environment=environment)
    assert (config.host, config.hint_after, config.fallback) == ("file", 30, ())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", " 8500\n", 8500),
        ("call_log_text", "yes", True),
        ("call_log_text", "ON", True),
        ("call_log_text", "True", True),
        ("call_log_text", "0", False),
        ("call_log_text", "Off", False),
        ("log_level", "WARNING", "warning"),
        ("metrics", "Open", "open"),
    ],
)
def test_other_spellings_in_the_environment(name: str, text: str, value: object) -> None:
    """Variables may have white space around the value, other words for booleans, and capitals."""
    config = load({}, environment={f"PREP_SERVER_{name.upper()}": text})
    assert getattr(config, name) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("port", "8_400", "integer from 0 to 65,535"),
        ("port", "8400/tcp", "integer from 0 to 65,535"),
        ("port", '"8400"', "integer from 0 to 65,535"),
        ("port", "http://0.0.0.0:8400", "integer from 0 to 65,535"),
        ("port", "9" * 30, "integer from 0 to 65,535"),
        ("port", "9" * 5_000, "integer from 0 to 65,535"),
        ("max_queue", "9" * 30, "number of at most"),
        ("hint_after", "180s", "number above 0"),
        ("hint_after", "inf", "number above 0"),
        ("hint_after", "nan", "number above 0"),
        ("hint_after", "1e999", "number above 0"),
        ("compute_budget", "inf", "number of at most"),
        ("call_log_text", "maybe", "true or false"),
        ("port", "\udcff", "integer from 0 to 65,535"),
        ("hint_after", "\udcff", "number above 0"),
        ("log_level", "\udcff", "debug, error, info, warning"),
        ("log_level", "loud", "debug, error, info, warning"),
        ("host", "local\x1bhost", "control characters"),
        ("model", "mod\udce9l.gguf", "UTF-8"),
        ("fallback", "scripted,mod\udce9l.gguf", "UTF-8"),
        ("data_dir", "$HOME/prep", "only a shell"),
        ("data_dir", '"/srv/prep"', "only a shell"),
        ("data_dir", "~no-such-user/prep", "home directory"),
        ("data_dir", "/srv/pr\udce9p", "UTF-8"),
        ("ready_file", "$RUNTIME/ready.json", "only a shell"),
    ],
)
def test_the_error_for_a_variable_states_the_expected_form(
    name: str, text: str, expected: str
) -> None:
    """The error for an invalid environment variable names the variable and what it may contain, and
    does not repeat a long value."""
    variable = f"PREP_SERVER_{name.upper()}"
    with pytest.raises(BadRequest, match=f"{variable}.*`{name}`.*{re.escape(expected)}") as caught:
        load({}, environment={variable: text})
    assert caught.value.code == ErrorCode.BAD_SETTING
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbfhost = "h"\nport = 1\n',
        b'host = "h"\r\nport = 1\r\n',
        b'\xef\xbb\xbf# settings\r\nhost = "h"\r\nport = 1',
    ],
)
def test_settings_files_of_other_editors(tmp_path: Path, content: bytes) -> None:
    """A settings file may begin with a byte-order mark and have line ends of Windows."""
    path = tmp_path / "server.toml"
    path.write_bytes(content)
    config = load({}, file=path, environment={})
    assert (config.host, config.port) == ("h", 1)


@pytest.mark.parametrize("origin", ["flag", "variable", "file"])
def test_paths_are_expanded_wherever_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    """`~` and relative paths become absolute paths in flags, variables and the settings file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "server.toml"
    path.write_text('data_dir = "~/d"\nmodels_dir = "m"\n' if origin == "file" else "")
    environment = {"PREP_SERVER_DATA_DIR": "~/d", "PREP_SERVER_MODELS_DIR": "m"}
    config = load(
        {"data_dir": Path("~/d"), "models_dir": Path("m")} if origin == "flag" else {},
        file=path,
        environment=environment if origin == "variable" else {},
    )
    assert (config.data_dir, config.models_dir) == (tmp_path / "d", tmp_path / "m")


def test_the_home_of_another_user_is_expanded() -> None:
    """`~USER` is that user's home directory."""
    user = pwd.getpwuid(0)
    config = load({}, environment={"PREP_SERVER_DATA_DIR": f"~{user.pw_name}/d"})
    assert config.data_dir == Path(user.pw_dir) / "d"


def test_a_user_without_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home directory, the default data directory cannot be used, and the error says which
    flag chooses another."""
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: Path("~/.local/share") / name)
    with pytest.raises(BadRequest, match=r"HOME.*--data-dir"):
        load({}, environment={})
    named = {"PREP_SERVER_DATA_DIR": "/d", "PREP_SERVER_MODELS_DIR": "/m"}
    assert load({}, environment=named).data_dir == Path("/d")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("prot", "port"),
        ("hint-after", "hint_after"),
        ("Port", "port"),
        ("rate_limits", "rate_limit"),
    ],
)
def test_unknown_keys_are_named_with_a_suggestion(
    tmp_path: Path, key: str, suggestion: str
) -> None:
    """The error for an unknown key of the settings file suggests the setting with a similar
    name."""
    path = tmp_path / "server.toml"
    path.write_text(f"{key} = 1\n")
    with pytest.raises(BadRequest, match=f"'{key}'.*`{suggestion}`"):
        load({}, file=path, environment={})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"port = ", "TOML"),
        (b"a = " + b"[" * 10_000, "deeply"),
        (b"port = " + b"9" * 5_000, "TOML"),
        ("port = 1".encode("utf-16"), "UTF-16"),
        ("port = 1".encode("utf-16-be"), "UTF-16"),
        ('host = "caf\xe9"'.encode("latin-1"), "UTF-8"),
        (b'data_dir = "a\\u0000b"', "data_dir"),
        (b"hint_after = inf", "hint_after"),
        (b"hint_after = nan", "hint_after"),
        (b"port = 1979-05-27", "port"),
        (b'call_log_text = "maybe"', "call_log_text"),
        (b"\xff\xfe", "UTF-8"),
        (b"prot = 80", "prot"),
        (b"port = 99999", "port"),
        (b"#" * (MAX_FILE_BYTES + 1), "larger"),
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
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, reason in (
        (tmp_path / "file", "file is a file"),
        (tmp_path / "file" / "below", "file is a file"),
        (tmp_path / "link", "link to a missing"),
        (tmp_path / "link" / "below", "link to a missing"),
        (tmp_path / "loop" / "below", "link"),
        (tmp_path / ("n" * 300), "too long"),
        (Path("/".join(["", *["n" * 200] * 40])), "too long"),
        (Path("/proc/no-such-folder"), "No such file"),
    ):
        with pytest.raises(BadRequest, match=f"{re.escape(str(path))}.*{reason}") as caught:
            open_data_dir(Config(data_dir=path))
        assert caught.value.code == ErrorCode.BAD_SETTING


def test_a_data_directory_too_deep_for_its_databases(tmp_path: Path) -> None:
    """A data directory whose path is too long for SQLite is refused, also behind a short link; one
    of the maximum length holds every database."""
    longest = tmp_path / "n" / ("n" * 200)
    longest /= "n" * (MAX_DATA_DIR_BYTES - len(str(longest)) - 1)
    assert open_data_dir(Config(data_dir=longest)) == longest
    database = longest / "objects" / "user-interviews" / "00" / f"{'0' * 64}.sqlite"
    storage = Storage(database, "ada", [])
    storage.put("key", 1)
    storage.commit()
    storage.close()
    (tmp_path / "link").symlink_to(longest.parent)
    for path in (
        longest / "n",
        longest.with_name(f"{longest.name}é"),
        tmp_path / "link" / ("ü" * 99),
    ):
        with pytest.raises(BadRequest, match="too long for the databases") as caught:
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


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(Config)])
def test_every_setting_describes_what_it_accepts(tmp_path: Path, name: str) -> None:
    """A value of the wrong type raises `bad_setting` for every setting."""
    path = tmp_path / "server.toml"
    path.write_text(f"[[{name}]]\nx = 1\n")
    with pytest.raises(BadRequest, match=f"`{name}` must be") as caught:
        load({}, file=path, environment={})
    assert caught.value.code == ErrorCode.BAD_SETTING
