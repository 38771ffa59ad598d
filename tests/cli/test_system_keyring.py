"""Keyrings that fail, hang, print or return odd values."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from prepcli import config, credentials, paths, system_keyring
from prepcli.client.options import SessionOptions
from prepcli.client.session import Session
from prepcli.errors import NotAuthorised, SettingsError
from prepcli.local_server.sessions import ConfirmFetch, open_session
from prepcli.tui.app import PrepApp
from tests.cli.tui.screens.support import Clock, FakeMicrophone, settle

URL = "https://prep.test"
OTHER_WAYS = r"PREP_ACCESS_KEY.*--insecure-file"


class ScriptedKeyring(keyring.backend.KeyringBackend):
    """Keyring whose every method calls one function."""

    priority = 1

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer

    def get_password(self, service: str, username: str) -> str | None:
        return self._answer()  # type: ignore[return-value]

    def set_password(self, service: str, username: str, password: str) -> None:
        self._answer()

    def delete_password(self, service: str, username: str) -> None:
        self._answer()


Install = Callable[[Callable[[], object]], None]


@pytest.fixture
def install() -> Iterator[Install]:
    """Return a function that installs a keyring with the given answer."""
    before = keyring.get_keyring()
    yield lambda answer: keyring.set_keyring(ScriptedKeyring(answer))
    keyring.set_keyring(before)


@pytest.fixture
def silent(install: Install, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Install a keyring that answers only when the event is set, and shorten the time limit."""
    answer = threading.Event()
    install(lambda: answer.wait() and "the-key")
    monkeypatch.setattr(system_keyring, "TIMEOUT", 0.05)
    yield answer
    answer.set()


def load() -> str:
    return asyncio.run(credentials.load_access_key(URL))


def fail(error: BaseException) -> Callable[[], object]:
    def answer() -> object:
        raise error

    return answer


def test_limit_is_five_seconds() -> None:
    """A keyring has five seconds to answer."""
    assert system_keyring.TIMEOUT == 5.0


@pytest.mark.usefixtures("silent")
def test_silent_keyring_is_reported_on_reading() -> None:
    """A keyring that never answers raises SettingsError, which names the other ways to give the
    key."""
    with pytest.raises(SettingsError, match=OTHER_WAYS):
        load()


@pytest.mark.usefixtures("silent")
def test_silent_keyring_is_reported_on_logging_in() -> None:
    """If the keyring does not take the key, logging in fails and the server is not added to the
    settings."""
    with pytest.raises(SettingsError, match=r"--insecure-file.*PREP_ACCESS_KEY"):
        asyncio.run(credentials.save_access_key(URL, "the-key"))
    assert config.load(paths.settings_file()).servers == ()


@pytest.mark.usefixtures("silent")
def test_silent_keyring_is_reported_on_logging_out() -> None:
    """If the keyring does not delete the key, logging out fails and the server stays in the
    settings."""
    known = config.Config((config.KnownServer(URL),))
    config.save(known, paths.settings_file())
    with pytest.raises(SettingsError, match=f"{URL} may still be stored"):
        asyncio.run(credentials.delete_access_key(URL))
    assert config.load(paths.settings_file()) == known


def test_slow_keyring_is_waited_for(install: Install) -> None:
    """While a slow keyring works, the event loop runs; its answer within the limit is used."""
    asked, answer = threading.Event(), threading.Event()

    def wait() -> str:
        asked.set()
        answer.wait()
        return "the-key"

    install(wait)

    async def run() -> str:
        loading = asyncio.create_task(credentials.load_access_key(URL))
        await asyncio.to_thread(asked.wait)
        answer.set()
        return await loading

    assert asyncio.run(run()) == "the-key"


@pytest.mark.parametrize(
    "error",
    [
        keyring.errors.KeyringLocked("Failed to unlock the collection!"),
        keyring.errors.InitError("Failed to open the session bus"),
        OSError(2, "No such file or directory"),
        ImportError("No module named 'dbus'"),
        SystemExit(3),
        KeyboardInterrupt(),
        RuntimeError(""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failing_keyring_is_reported(install: Install, error: BaseException) -> None:
    """Whatever a keyring raises becomes SettingsError, which names the other ways to give the
    key."""
    install(fail(error))
    with pytest.raises(SettingsError, match=OTHER_WAYS):
        load()


def test_missing_keyring_counts_as_empty(install: Install) -> None:
    """Without any keyring, the user is asked to log in."""
    install(fail(keyring.errors.NoKeyringError("Install one")))
    with pytest.raises(NotAuthorised):
        load()


@pytest.mark.parametrize("value", [None, "", " \n", b""], ids=repr)
def test_keyring_without_a_key_requires_a_login(install: Install, value: object) -> None:
    """A keyring that returns nothing or white space raises NotAuthorised."""
    install(lambda: value)
    with pytest.raises(NotAuthorised, match="prep login"):
        load()


@pytest.mark.parametrize("value", ["the-key", b"the-key", " the-key\n"], ids=repr)
def test_key_is_taken_as_text_or_bytes(install: Install, value: object) -> None:
    """A key is read from text or bytes, without surrounding white space."""
    install(lambda: value)
    assert load() == "the-key"


@pytest.mark.parametrize("value", [b"\xff\xfe", "clé", "two words", 5, object], ids=repr)
def test_unusable_key_is_reported(install: Install, value: object) -> None:
    """A value that is no access key raises SettingsError."""
    install(lambda: value)
    with pytest.raises(SettingsError):
        load()


def test_keyring_prints_nothing_on_standard_output(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a keyring prints goes to standard error, since standard output is for results."""

    def answer() -> str:
        print("Please enter your password")
        return "the-key"

    install(answer)
    assert load() == "the-key"
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("silent")
def test_screen_answers_to_keys_while_the_keyring_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the app waits for the keyring, the keys for help and for quitting work."""
    monkeypatch.setattr(system_keyring, "TIMEOUT", 3600.0)

    async def connect(on_progress: Callable[[str], None], confirm_fetch: ConfirmFetch) -> Session:
        return await open_session(SessionOptions(server=URL), on_progress, confirm_fetch)

    async def run() -> PrepApp:
        app = PrepApp(connect, microphone=FakeMicrophone(), monotonic=Clock())
        async with app.run_test() as pilot:
            await settle(pilot)
            await pilot.press("f1")
            await settle(pilot)
            assert type(app.screen).__name__ == "HelpScreen"
            await pilot.press("escape", "ctrl+q")
            await settle(pilot)
        return app

    assert asyncio.run(run()).return_value == 0


SILENT_BACKEND = """
import threading
from keyring.backend import KeyringBackend
class Ring(KeyringBackend):
    priority = 10
    def get_password(self, service, username):
        threading.Event().wait()
    set_password = delete_password = get_password
"""

COMMAND = """
import sys
from prepcli import cli, system_keyring
system_keyring.TIMEOUT = 0.05
sys.argv = ["prep", "list", "--server", "http://127.0.0.1:9"]
cli.main()
"""


def test_process_exits_while_the_keyring_is_silent(tmp_path: Path) -> None:
    """A command exits with code 2 although the keyring still has not answered."""
    (tmp_path / "silent_backend.py").write_text(SILENT_BACKEND)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PYTHON_KEYRING_BACKEND": "silent_backend.Ring",
    }
    done = subprocess.run(
        [sys.executable, "-c", COMMAND],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "PREP_ACCESS_KEY" in done.stderr
    assert "Traceback" not in done.stderr
