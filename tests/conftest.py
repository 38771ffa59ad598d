"""What every test gets: a time limit, a network that ends at this machine, folders of its own."""

import faulthandler
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from platformdirs import user_data_path

SPEECH = Path(__file__).parent / "speech"

TIME_LIMIT = 120.0
"""Seconds for a test; `@pytest.mark.time_limit(seconds)` says otherwise."""
REAL_TIME_LIMIT = 300.0
"""Seconds for a test that starts servers or runs models."""
GRACE = 60.0
"""Seconds after which a test that swallowed the alarm ends the whole run."""


_STDERR = pytest.StashKey[int]()


class TimeLimitExceeded(BaseException):
    """Not an Exception, so that no handler in the code under test takes it for its own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos", action="store_true", help="run the long forms (mark `chaos`) and nothing else"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms take minutes each, so they run only when they are asked for."""
    asked = config.getoption("--chaos")
    left_out = [item for item in items if (item.get_closest_marker("chaos") is not None) != asked]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "time_limit(seconds): this test may take that long")
    # Taken while pytest captures nothing yet, so that the last traceback is seen.
    config.stash[_STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """An alarm ends a test that hangs; one that swallows it ends the run, with a traceback."""
    limit = _limit(item)

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeLimitExceeded(f"{item.nodeid} took more than {limit:g} s")

    previous = signal.signal(signal.SIGALRM, stop)
    # Again and again: an alarm that lands inside a task of asyncio fails that task only.
    signal.setitimer(signal.ITIMER_REAL, limit, 10.0)
    faulthandler.dump_traceback_later(limit + GRACE, exit=True, file=item.config.stash[_STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _limit(item: pytest.Item) -> float:
    if marker := item.get_closest_marker("time_limit"):
        return float(marker.args[0])
    real = item.get_closest_marker("e2e") or item.get_closest_marker("models")
    return REAL_TIME_LIMIT if real else TIME_LIMIT


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the internet fails instead of depending on it."""
    connect = socket.socket.connect
    connect_ex = socket.socket.connect_ex

    def check(family: int, address: Any) -> None:
        if family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if host not in ("localhost", "::1") and not host.startswith("127."):
                raise OSError(f"tests talk to this machine only, not to {host}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(self.family, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(self.family, address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or changes what the person at this machine keeps: not even their keys."""
    monkeypatch.setenv("PREP_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PREP_DATA_DIR", str(tmp_path / "data"))
    # Where the models are does not depend on the two folders above.
    monkeypatch.setenv("PREP_MODELS_DIR", str(_models_dir()))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    for name in ("PREP_ACCESS_KEY", "PREP_SERVER", "PREP_LOCAL_SERVER_ARGS"):
        monkeypatch.delenv(name, raising=False)


def _models_dir() -> Path:
    return Path(os.environ.get("PREP_MODELS_DIR") or user_data_path("prep") / "models")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of the starter models; they are never skipped, because they are what is tested."""
    folder = _models_dir()
    if not any(folder.glob("*.gguf")) or not any(folder.glob("*.bin")):
        pytest.fail(f"the starter models are not in {folder}: run make models", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def speech_dir() -> Path:
    """The folder of recordings; `transcripts.tsv` says what each one says."""
    return SPEECH
