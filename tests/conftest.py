"""Limits on every test: run time, network connections, folders and the configuration of logs."""

import faulthandler
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import structlog
from platformdirs import user_data_path

SPEECH = Path(__file__).parent / "speech"

TIME_LIMIT = 120.0
"""Default time limit in seconds for a test that starts no server and runs no model."""
REAL_TIME_LIMIT = 300.0
"""Default time limit in seconds for a test that starts servers or runs models."""
GRACE = 60.0
"""Seconds that a test may continue past its time limit before the whole run is ended."""


_STDERR = pytest.StashKey[int]()


class TimeLimitExceeded(BaseException):
    """A test exceeded its time limit. The code under test catches Exception, but not
    BaseException."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos", action="store_true", help="run only the tests with the mark `chaos`"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select only the tests with the mark `chaos` if `--chaos` is given, otherwise only the tests
    without the mark."""
    chaos = config.getoption("--chaos")
    deselected = [item for item in items if (item.get_closest_marker("chaos") is not None) != chaos]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "time_limit(seconds): the time limit of this test")
    # Duplicated before pytest captures standard error, so that a final traceback is visible.
    config.stash[_STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Interrupt a test at its time limit; if the test has not ended after `GRACE` more seconds,
    print a traceback and end the run."""
    limit = _limit(item)

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeLimitExceeded(f"{item.nodeid} exceeded its limit of {limit:g} s")

    previous = signal.signal(signal.SIGALRM, stop)
    # Repeated, because an exception raised inside an asyncio task ends only that task.
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
    """Make connections to other machines fail."""
    connect = socket.socket.connect
    connect_ex = socket.socket.connect_ex

    def check(family: int, address: Any) -> None:
        if family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if host not in ("localhost", "::1") and not host.startswith("127."):
                raise OSError(f"tests may connect to this machine only, not to {host}")

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
    """Keep each test away from the settings, data and keys of the user who runs it."""
    monkeypatch.setenv("PREP_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("PREP_DATA_DIR", str(tmp_path / "data"))
    # The models are shared by all tests.
    monkeypatch.setenv("PREP_MODELS_DIR", str(_models_dir()))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    # Local servers would fetch models in the background.
    monkeypatch.setenv("PREP_MODELS_FETCH", "no")
    for name in ("PREP_ACCESS_KEY", "PREP_SERVER", "PREP_LOCAL_SERVER_ARGS", "PREP_MODELS_SET"):
        monkeypatch.delenv(name, raising=False)


def _models_dir() -> Path:
    return Path(os.environ.get("PREP_MODELS_DIR") or user_data_path("prep") / "models")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Return the folder of the starter models, or fail the test if the models are missing."""
    folder = _models_dir()
    if not any(folder.glob("*.gguf")) or not any(folder.glob("*.bin")):
        pytest.fail(f"{folder} lacks the starter models: run make models", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def speech_dir() -> Path:
    """Return the folder of the recordings; `transcripts.tsv` contains the words of each
    recording."""
    return SPEECH


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Restore the configuration of logs, which commands replace, after each test."""
    configuration = structlog.get_config()
    yield
    structlog.configure(**configuration)
