"""Commands of `prep-server` that a local server needs, run as processes of their own."""

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from prepcli import config, paths
from prepcli.errors import LocalServerFailed, NotFound, SettingsError
from prepcli.local_server.failures import command_failure

__all__ = [
    "FETCH_VARIABLE",
    "MissingModel",
    "additional_arguments",
    "chosen_set",
    "command",
    "fetch_models",
    "find_missing_models",
    "question_bank_arguments",
    "run_command",
    "serve_arguments",
]

ARGUMENTS_VARIABLE = "PREP_LOCAL_SERVER_ARGS"
"""Name of the environment variable with additional arguments for the server, such as `--model
PATH`."""

FETCH_VARIABLE = "PREP_MODELS_FETCH"
"""Name of the environment variable that answers the question whether missing models are fetched:
`yes` or `no`. With `no`, nothing is fetched in the background either."""

SET_VARIABLE = "PREP_MODELS_SET"
"""Name of the environment variable that chooses the set of models, in place of the settings."""

DEFAULT_SET = "standard"
"""Set of models that the local server fetches in the background."""

EXIT_NO_SUCH_INTERVIEW = 4
"""Exit code of `prep-server interviews ID` if the user has no interview with this id."""

_T = TypeVar("_T")


class MissingModel(Struct, frozen=True):
    """A model of the catalogue that the local server needs and that is not installed."""

    name: str
    size: int
    """Size of the model in bytes."""
    kind: str = ""
    """`llm` for a language model, `stt` for a speech model."""


class _Progress(Struct, frozen=True):
    """Line of `prep-server models pull --json`."""

    model: str
    stage: str
    done: int
    total: int


def additional_arguments() -> list[str]:
    """Return the user's additional arguments for `prep-server serve`. Raises SettingsError if a
    quotation mark is not closed."""
    text = os.environ.get(ARGUMENTS_VARIABLE, "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingsError(
            f"{ARGUMENTS_VARIABLE} is {text}, which is not a list of arguments: {error}. Quote it "
            "as in a shell."
        ) from None


def question_bank_arguments() -> list[str]:
    """Return the arguments that add the question banks in the user's folder `questions`, if the
    folder exists."""
    folder = paths.config_dir() / "questions"
    return ["--question-banks", str(folder)] if folder.is_dir() else []


def chosen_set() -> str:
    """Return the set of models that the user has chosen; empty if prep chooses. Raises
    SettingsError if the settings cannot be read."""
    named = os.environ.get(SET_VARIABLE, "").strip()
    return named or config.load(paths.settings_file()).model_set


def serve_arguments() -> list[str]:
    """Return the arguments of `prep-server serve` that the user's settings and environment ask for.

    Raises SettingsError if they cannot be read.
    """
    chosen = chosen_set()
    arguments = ["--model-set", chosen] if chosen else []
    if os.environ.get(FETCH_VARIABLE, "").strip().lower() != "no":
        arguments += ["--fetch-set", chosen or DEFAULT_SET]
    return [*arguments, *additional_arguments()]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prepserver", *arguments]


async def run_command(*arguments: str, type: type[_T]) -> _T:
    """Run a `prep-server` command and decode its JSON output.

    Raises NotFound if the command finds no such interview, and LocalServerFailed if it fails.
    """
    async with _running(*arguments) as process:
        output, errors = await process.communicate()
    if process.returncode == 0:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(output, type=type)
    text = errors.decode("utf-8", "replace")
    if process.returncode == EXIT_NO_SUCH_INTERVIEW:
        raise NotFound(text.strip().removeprefix("prep-server: "))
    raise command_failure("The local server failed", text, process.returncode)


async def find_missing_models() -> list[MissingModel]:
    """Return the models that the local server needs and that can be fetched.

    Raises LocalServerFailed if the server's settings cannot be read.
    """
    arguments = ("serve", "--missing-models", *serve_arguments())
    return await run_command(*arguments, type=list[MissingModel])


async def fetch_models(models: Sequence[MissingModel], on_progress: Callable[[str], None]) -> None:
    """Fetch models one after another. `on_progress` receives a line for each hundredth.

    If the caller is cancelled, the downloaded part is kept for the next attempt. Raises
    LocalServerFailed if a model cannot be fetched.
    """
    for model in models:
        async with _running("models", "pull", model.name, "--json") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            errors = asyncio.create_task(process.stderr.read())
            async for line in process.stdout:
                with contextlib.suppress(msgspec.DecodeError):
                    on_progress(_progress_line(msgspec.json.decode(line, type=_Progress)))
            text = (await errors).decode("utf-8", "replace").strip()
            if await process.wait() != 0:
                reason = text.removeprefix("Error: ").splitlines()
                raise LocalServerFailed(
                    f"Could not fetch the model {model.name}. "
                    f"{reason[-1] if reason else 'Try again.'}"
                )


def _progress_line(progress: _Progress) -> str:
    if progress.stage == "waiting":
        return f"Waiting for another process that is fetching {progress.model}"
    stage = progress.stage.capitalize()
    if progress.stage == "converting" or not progress.total:
        share = f", {100 * progress.done // progress.total} %" if progress.total else ""
        return f"{stage} {progress.model}{share}"
    done, total = progress.done / 1e6, progress.total / 1e6
    return f"{stage} {progress.model}: {done:,.0f} of {total:,.0f} MB"


@contextlib.asynccontextmanager
async def _running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a `prep-server` command, which is killed at the end of the `async with` block if it is
    still running."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        process_group=0,  # Ctrl-C in the terminal must reach only prep
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
