"""Fetching of missing models, with a stand-in for `prep-server`."""

import asyncio
import sys
from pathlib import Path

import pytest

from prepcli.client.options import SessionOptions
from prepcli.errors import LocalServerFailed
from prepcli.local_server import commands, sessions
from prepcli.local_server.commands import MissingModel, fetch_models, question_bank_arguments
from prepcli.local_server.failures import command_failure
from prepcli.local_server.server import ModelsMissing

MODELS = [MissingModel("tiny", 2_000_000), MissingModel("small", 4_000_000)]


def stand_in(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Replace `prep-server` by a Python script, whose arguments are those of the command."""
    monkeypatch.setattr(
        commands, "command", lambda *arguments: [sys.executable, "-c", script, *arguments]
    )


def test_fetching_reports_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model is fetched, and each step gives a line; lines of other kinds are skipped."""
    stand_in(
        monkeypatch,
        "import json, sys\n"
        "name = sys.argv[3]\n"
        "def step(stage, done, total):\n"
        "    print(json.dumps(dict(model=name, stage=stage, done=done, total=total)), flush=True)\n"
        "print('warning: something')\n"
        "step('waiting', 0, 0)\n"
        "step('downloading', 1_000_000, 2_000_000)\n"
        "step('converting', 1, 4)\n",
    )
    lines: list[str] = []
    asyncio.run(fetch_models(MODELS, lines.append))
    assert lines == [
        "Waiting for another process that is fetching tiny",
        "Downloading tiny: 1 of 2 MB",
        "Converting tiny, 25 %",
        "Waiting for another process that is fetching small",
        "Downloading small: 1 of 2 MB",
        "Converting small, 25 %",
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('Error: No space is left on the disk. Free 100 MB.')", "Free 100 MB."),
        ("import sys; sys.exit(1)", "Try again."),
        ("import os; os.kill(os.getpid(), 9)", "Try again."),
    ],
)
def test_failed_fetch_names_model_and_reason(
    monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    """A failed fetch raises an error with the model's name and the last line of the output."""
    stand_in(monkeypatch, script)
    with pytest.raises(LocalServerFailed, match="tiny") as error:
        asyncio.run(fetch_models(MODELS, lambda line: None))
    assert str(error.value).endswith(reason)


def test_cancelled_fetch_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the user quits during the download, the process that downloads is ended."""
    stand_in(
        monkeypatch,
        "import sys, time\n"
        'print(\'{"model":"tiny","stage":"downloading","done":1,"total":2}\', flush=True)\n'
        "time.sleep(600)\n",
    )

    async def run() -> None:
        started = asyncio.Event()
        task = asyncio.create_task(fetch_models(MODELS, lambda line: started.set()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(run(), 60))


class FakeServer:
    """Local server that lacks its models until they are fetched."""

    installed = False

    async def start(self, on_progress: object) -> None:
        if not type(self).installed:
            raise ModelsMissing("The model tiny is not installed.")
        raise LocalServerFailed("reached")

    async def stop(self) -> None: ...


@pytest.mark.parametrize(
    ("variable", "agreed", "fetched"),
    [
        ("", True, True),
        ("", False, False),
        ("yes", False, True),
        (" YES ", False, True),
        ("no", True, False),
        ("maybe", True, True),
    ],
)
def test_models_are_fetched_only_with_consent(
    monkeypatch: pytest.MonkeyPatch, variable: str, agreed: bool, fetched: bool
) -> None:
    """PREP_MODELS_FETCH answers the question; without it, the user does. After the fetch, the
    server is started again."""
    FakeServer.installed = False
    monkeypatch.setenv("PREP_MODELS_FETCH", variable)
    monkeypatch.setattr(sessions, "LocalServer", FakeServer)

    async def find() -> list[MissingModel]:
        return MODELS

    async def fetch(models: object, on_progress: object) -> None:
        FakeServer.installed = True

    async def answer(models: object) -> bool:
        return agreed

    monkeypatch.setattr(sessions, "find_missing_models", find)
    monkeypatch.setattr(sessions, "fetch_models", fetch)
    with pytest.raises(LocalServerFailed) as error:
        asyncio.run(sessions.open_session(SessionOptions(), lambda line: None, answer))
    assert isinstance(error.value, ModelsMissing) is not fetched


@pytest.mark.parametrize(
    "output",
    [
        "prep-server: Packages are not installed (No module named 'structlog').",
        "ModuleNotFoundError: No module named 'llama_cpp'",
        "/usr/bin/python: No module named prepserver",
    ],
)
def test_a_client_without_the_server_says_what_to_install(output: str) -> None:
    """Where only the client is installed, the message says how to add the server, for each
    installer of the client."""
    message = str(command_failure("It failed", output, 1))
    for installer in ("pip install", "pipx install --force", "uv tool install"):
        assert f"{installer} '.[server]'" in message
    assert "--server" in message


def test_a_broken_server_shows_its_output() -> None:
    """A missing module of the server itself is reported with the last lines of the output."""
    assert "'prepserver.app'" in str(
        command_failure("It failed", "No module named 'prepserver.app'", 1)
    )


def test_own_questions_are_passed_to_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder `questions` beside the settings is given to the server if it exists."""
    monkeypatch.setenv("PREP_CONFIG_DIR", str(tmp_path))
    assert question_bank_arguments() == []
    (tmp_path / "questions").write_text("a file is no folder")
    assert question_bank_arguments() == []
    (tmp_path / "questions").unlink()
    (tmp_path / "questions").mkdir()
    assert question_bank_arguments() == ["--question-banks", str(tmp_path / "questions")]
