import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from prepcli.cli import main
from prepcli.client.options import SessionOptions
from prepcli.errors import NotFound, PrepError
from prepserver.wire.limits import MAX_COMPANY, MAX_ID, MAX_MINUTES, MAX_QUESTIONS, MAX_ROLE
from prepserver.wire.protocol import Interview, InterviewSpec, InterviewType, Mode
from prepserver.wire.rest import MessageList
from tests.cli.client.builders import make_interview

HEAVY = (
    *("textual", "prompt_toolkit", "numpy", "av", "sounddevice", "keyring"),
    *("litestar", "apsw", "httpx", "websockets"),
)


def prep(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run `prep` in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["prep", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    code = raised.value.code
    assert code is None or isinstance(code, int)
    return code or 0


@pytest.fixture(autouse=True)
def _no_local_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a test fail if it starts a local server."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr("prepcli.local_server.sessions.LocalServer", refuse)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("interview", "--help"), ("--version",), ("list",)]
)
def test_short_commands_import_no_heavy_module(arguments: Sequence[str]) -> None:
    """`--help`, `--version` and a list of stored interviews import no library for screens, audio,
    the keyring, the network or the server."""
    code = (
        "import sys\n"
        "from prepcli.cli import main\n"
        f"sys.argv = ['prep', *{list(arguments)!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("loaded: []\n")


def test_version_option_prints_the_package_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`prep --version` prints the program's name and its version."""
    assert prep("--version", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith("prep 0.")


@pytest.mark.parametrize(
    ("arguments", "keyword"),
    [
        (("--type", "trick"), "trick"),
        (("--questions", "0"), f"1<=x<={MAX_QUESTIONS}"),
        (("--role", ""), "--role"),
        (("--role", "x" * (MAX_ROLE + 1)), str(MAX_ROLE)),
        (("--company", "x" * (MAX_COMPANY + 1)), str(MAX_COMPANY)),
        (("--minutes", "0"), f"1<=x<={MAX_MINUTES}"),
        (("--minutes", str(MAX_MINUTES + 1)), f"1<=x<={MAX_MINUTES}"),
        (("--minutes", "ten"), "ten"),
        (("--mode", "exam"), "exam"),
        (("--mode", "real", "--agenda"), "hidden"),
        (("--language", "german"), "de (German)"),
        (("--language", "de_AT"), "de (German)"),
        (("--language", "frensh"), "fr (French)"),
        (("--language", "xx"), "en (English)"),
        (("--language", ""), "is empty"),
        (("--set", "x" * (MAX_ID + 1)), str(MAX_ID)),
        (("--set", " "), "is empty"),
        (("--id", "a", "--agenda"), "combined"),
        (("--id", "a", "--mode", "practice"), "combined"),
        (("--id", "a", "--resume-last"), "together"),
        (("--id", "a", "--role", "Baker"), "combined"),
        (("--jd", "{tmp}/missing.txt"), "missing.txt"),
        (("--resume", "{tmp}/binary"), "binary"),
        (("--answers", "{tmp}/empty"), "no answers"),
        (("--audio", "{tmp}/missing.wav"), "missing.wav"),
        (("--audio", "{tmp}/text.wav"), "text.wav"),
        (("--audio", "{tmp}/empty"), "is empty"),
        (("stray.wav",), "unexpected extra argument"),
        (("--server", "ws://x"), "address"),
        (("--server", "\udcff"), "encoding"),
        (("--role", "caf\udce9"), "encoding"),
        (("--id", "\udcff"), "encoding"),
        (("--id", ""), "is empty"),
        (("--jd", ""), "name of the file is empty"),
    ],
)
def test_invalid_usage_is_reported_before_a_server_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    keyword: str,
) -> None:
    """Invalid arguments make `prep interview` exit with code 2 and a message on standard error
    before a server starts."""
    (tmp_path / "empty").touch()
    (tmp_path / "text.wav").write_text("I am a text.\n" * 99)
    (tmp_path / "binary").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9)
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert prep("interview", *filled, monkeypatch=monkeypatch) == 2
    captured = capsys.readouterr()
    assert keyword in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        ((), InterviewSpec()),
        (("--mode", "real"), InterviewSpec(mode=Mode.REAL)),
        (("--mode=practice", "--minutes", "240"), InterviewSpec(minutes=240)),
        (("--language", " DE "), InterviewSpec(language="de")),
        (
            ("--set", "standard", "--agenda"),
            InterviewSpec(model_set="standard", review_agenda=True),
        ),
        (
            ("--type", "technical", "--role", " Data  Engineer "),
            InterviewSpec(type=InterviewType.TECHNICAL, role="Data Engineer"),
        ),
    ],
)
def test_options_describe_the_interview(
    monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], spec: InterviewSpec
) -> None:
    """The options become the specification of the new interview."""
    opened: list[SessionOptions] = []

    async def refuse(options: SessionOptions, *_: object) -> None:
        opened.append(options)
        raise PrepError("not opened")

    monkeypatch.setattr("prepcli.local_server.sessions.open_session", refuse)
    assert prep("interview", "--plain", *arguments, monkeypatch=monkeypatch) == 1
    assert (opened[0].spec, opened[0].start_new) == (spec, bool(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--audio", "a", "b", "--audio", "c"),
        ("--audio", "a", "--audio=b", "c"),
        ("--plain", "--audio", "a", "b", "c", "--questions", "3"),
    ],
)
def test_audio_option_accepts_several_files_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> None:
    """`--audio` accepts several files, as when the shell expands `*.wav`, and keeps their order."""
    read: list[str] = []

    def record_name(file: Path) -> bytes:
        read.append(file.name)
        return b"\x00\x00"

    monkeypatch.setattr("prepcli.audio.files.read_audio", record_name)
    monkeypatch.setenv("PREP_SERVER", "http://127.0.0.1:9")
    assert prep("interview", *arguments, monkeypatch=monkeypatch) == 3
    assert read == ["a", "b", "c"]


def test_a_hyphen_stands_for_a_standard_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`--answers -` reads standard input, and `--output -` writes to standard output."""

    async def fetch(*_: object) -> tuple[Interview, MessageList]:
        return make_interview(), MessageList([])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prepcli.interview_commands._fetch_transcript", fetch)
    assert prep("export", "a", "--output", "-", monkeypatch=monkeypatch) == 0
    assert capfdbinary.readouterr().out.startswith(b"# ")
    assert not list(tmp_path.iterdir())
    read: list[Path] = []

    def record_name(file: Path) -> tuple[str, ...]:
        read.append(file)
        return ("An answer.",)

    monkeypatch.setattr("prepcli.cli.read_answers", record_name)
    monkeypatch.setenv("PREP_SERVER", "http://127.0.0.1:9")
    assert prep("interview", "--answers", "-", monkeypatch=monkeypatch) == 3
    assert read == [Path("/dev/stdin")]


def test_text_in_utf8_under_another_locale() -> None:
    """An argument in UTF-8 is read even if the locale has only ASCII."""
    code = "import sys; from prepserver.arguments import TEXT; print(ascii(TEXT(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code, "Ing\u00e9nieur"],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "'Ing\\xe9nieur'\n"


def test_unreachable_server_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the server is unreachable, prep exits with code 3 and a message that contains the server's
    address but not the access key."""
    monkeypatch.setenv("PREP_ACCESS_KEY", "a-key")
    assert prep("list", "--server", "http://127.0.0.1:9", monkeypatch=monkeypatch) == 3
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9" in error
    assert "a-key" not in error


def test_failed_login_stores_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A login that cannot reach the server stores no access key."""
    monkeypatch.setenv("PREP_ACCESS_KEY", "a-key")
    file = tmp_path / "keys"
    arguments = ("login", "http://127.0.0.1:9", "--insecure-file", str(file))
    assert prep(*arguments, monkeypatch=monkeypatch) == 3
    assert not file.exists()


@pytest.mark.parametrize("key", ["prep_1\u2026", "cl\xe9", "two words", "line\nbreak"])
def test_login_with_a_key_that_cannot_be_sent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    key: str,
) -> None:
    """A login with a key that no header can contain exits with code 2 before any request."""
    monkeypatch.setenv("PREP_ACCESS_KEY", key)
    file = tmp_path / "keys"
    arguments = ("login", "http://127.0.0.1:9", "--insecure-file", str(file))
    assert prep(*arguments, monkeypatch=monkeypatch) == 2
    assert "access key" in capsys.readouterr().err
    assert not file.exists()


def test_logout_without_a_login(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any login, `prep logout` succeeds, but `prep logout URL` exits with code 2."""
    assert prep("logout", monkeypatch=monkeypatch) == 0
    assert prep("logout", "https://prep.test", monkeypatch=monkeypatch) == 2


def test_error_messages_contain_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unsafe characters in an error message from the server are printed as U+FFFD."""

    @asynccontextmanager
    async def refuse(_: object) -> AsyncIterator[object]:
        raise NotFound("No \x1b[2Jinterview \u202egnp.exe.")
        yield

    monkeypatch.setattr("prepcli.interview_commands.open_reader", refuse)
    assert prep("show", "i1", monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == "Error: No \ufffd[2Jinterview \ufffdgnp.exe.\n"


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json")])
def test_list_contains_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> None:
    """In a list, a title can neither add a line nor control the terminal; in JSON, the value of the
    title is unchanged."""
    title = "Baker \u202e\x9b2J\nsecond line"

    class OneInterview:
        async def list_interviews(self) -> list[Interview]:
            return [make_interview(title=title)]

    @asynccontextmanager
    async def open_fake_reader(_: object) -> AsyncIterator[OneInterview]:
        yield OneInterview()

    monkeypatch.setattr("prepcli.interview_commands.open_reader", open_fake_reader)
    assert prep(*arguments, monkeypatch=monkeypatch) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert not {"\u202e", "\x9b"} & set(output)
    if "--json" in arguments:
        assert json.loads(output)["interviews"][0]["title"] == title
    else:
        assert output.endswith("Baker \ufffd\ufffd2J second line\n")
