import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from prepcli.cli import main

HEAVY = ("textual", "numpy", "sounddevice", "soundfile", "soxr", "keyring", "litestar", "apsw")


def prep(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["prep", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    code = raised.value.code
    assert code is None or isinstance(code, int)
    return code or 0


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast tests never get as far as a server."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr("prepcli.local_server.sessions.LocalServer", refuse)


@pytest.mark.parametrize("arguments", [("--help",), ("interview", "--help"), ("--version",)])
def test_starting_imports_nothing_heavy(arguments: Sequence[str]) -> None:
    """Help comes at once: no screen, microphone, keyring or server is loaded for it."""
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


def test_the_version_is_the_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reports a bug can say which prep it was."""
    assert prep("--version", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith("prep 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--type", "trick"), "trick"),
        (("--questions", "0"), "1<=x<=30"),
        (("--role", ""), "role"),
        (("--role", "x" * 201), "role"),
        (("--id", "a", "--resume-last"), "give one"),
        (("--id", "a", "--role", "Baker"), "keeps its role"),
        (("--jd", "{tmp}/missing.txt"), "missing.txt"),
        (("--resume", "{tmp}/binary"), "not text"),
        (("--answers", "{tmp}/empty"), "no answers"),
        (("--audio", "{tmp}/missing.wav"), "missing.wav"),
        (("--audio", "{tmp}/text.wav"), "not a recording"),
        (("--audio", "{tmp}/empty"), "is empty"),
        (("stray.wav",), "unexpected extra argument"),
        (("--server", "ws://x"), "address"),
    ],
)
def test_wrong_use_is_told_before_anything_is_started(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    said: str,
) -> None:
    """Exit code 2, a sentence on standard error, and no server."""
    (tmp_path / "empty").touch()
    (tmp_path / "text.wav").write_text("I am a text.\n" * 99)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert prep("interview", *filled, monkeypatch=monkeypatch) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--audio", "a", "b", "--audio", "c"),
        ("--audio", "a", "--audio=b", "c"),
        ("--plain", "--audio", "a", "b", "c", "--questions", "3"),
    ],
)
def test_one_audio_option_takes_several_files_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> None:
    """`--audio *.wav`, as a shell spreads it, is what one expects."""
    read: list[str] = []

    def note(file: Path) -> bytes:
        read.append(file.name)
        return b"\x00\x00"

    monkeypatch.setattr("prepcli.audio.files.read_audio", note)
    monkeypatch.setenv("PREP_SERVER", "http://127.0.0.1:9")
    assert prep("interview", *arguments, monkeypatch=monkeypatch) == 3
    assert read == ["a", "b", "c"]


def test_a_server_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, and the address to check."""
    monkeypatch.setenv("PREP_ACCESS_KEY", "a-key")
    assert prep("list", "--server", "http://127.0.0.1:9", monkeypatch=monkeypatch) == 3
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9" in error
    assert "a-key" not in error


def test_a_login_that_fails_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is tried before it is kept."""
    monkeypatch.setenv("PREP_ACCESS_KEY", "a-key")
    file = tmp_path / "keys"
    arguments = ("login", "http://127.0.0.1:9", "--insecure-file", str(file))
    assert prep(*arguments, monkeypatch=monkeypatch) == 3
    assert not file.exists()


def test_a_logout_from_nowhere_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a URL there is nothing to do; with an unknown one it is a mistake."""
    assert prep("logout", monkeypatch=monkeypatch) == 0
    assert prep("logout", "https://prep.test", monkeypatch=monkeypatch) == 2
