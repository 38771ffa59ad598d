"""`prep-server models`: list, fetch, import, verify and remove models."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import click
import msgspec

from prepserver.errors import PrepServerError
from prepserver.folders import default_models_dir, parse_path
from prepserver.models.files import Progress
from prepserver.models.sets import list_sets
from prepserver.models.store import ModelStore

__all__ = ["models"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _models_dir_option(command: _Command) -> _Command:
    return click.option(
        "--models-dir",
        callback=_find_models_dir,
        metavar="DIRECTORY",
        show_default="PREP_MODELS_DIR, or `models` in the user's data directory",
        help="Directory of installed models.",
    )(command)


def _find_models_dir(context: click.Context, parameter: click.Parameter, value: str | None) -> Path:
    with _exit_on_error():
        if value is None:
            return default_models_dir()
        try:
            return parse_path(value)
        except ValueError as error:
            raise click.BadParameter(f"The directory must be {error}.") from error


@contextlib.contextmanager
def _exit_on_error() -> Iterator[None]:
    """Exit with code 1 and one line on stderr if the body raises PrepServerError."""
    try:
        yield
    except PrepServerError as error:
        raise click.ClickException(error.message) from error


@click.group()
def models() -> None:
    """List, fetch, import, verify and remove models."""


@models.command("list")
@_models_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_command(models_dir: Path, as_json: bool) -> None:
    """List the models of the catalogue and the imported models."""
    with _exit_on_error():
        stored = ModelStore(models_dir).list_models()
    if as_json:
        click.echo(msgspec.json.encode(stored))
        return
    width = max(len(model.name) for model in stored)
    for model in stored:
        mark = "*" if model.path else " "
        size = f"{model.size / 1e6:,.0f} MB"
        line = f"{mark} {model.name:{width}}  {model.kind}  {size:>8}  {model.licence:10}"
        click.echo(f"{line}  {model.about}".rstrip())
    click.echo(f"* installed in {models_dir}", err=True)


@models.command("sets")
@_models_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def sets_command(models_dir: Path, as_json: bool) -> None:
    """List the sets of models, with the bytes that are fetched."""
    with _exit_on_error():
        found = list_sets(ModelStore(models_dir))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for each in found:
        mark = "*" if each.installed else " "
        share = f"{each.fetched / 1e6:,.0f} of {each.size / 1e6:,.0f} MB"
        click.echo(f"{mark} {each.name:9} {share:>20}  {each.language}, {each.speech}")
        if each.problem:
            click.echo(f"  {each.problem}")
    click.echo(f"* installed in {models_dir}", err=True)


@models.command("pull")
@click.argument("name")
@_models_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print the progress as JSON lines.")
def pull_command(name: str, models_dir: Path, as_json: bool) -> None:
    """Download the model or the set NAME and print the path of each model.

    A set, such as `starter`, is a language model and a speech model.
    """
    # Imports numpy and httpx, which a starting server does not need.
    from prepserver.models.pull import pull

    if as_json:
        with _exit_on_error():
            pull(ModelStore(models_dir), name, _JsonReporter())
        return
    with _exit_on_error(), _ProgressReporter() as reporter:
        paths = pull(ModelStore(models_dir), name, reporter)
    for path in paths:
        click.echo(path)


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@_models_dir_option
def import_command(path: Path, models_dir: Path) -> None:
    """Copy a model into the store and print the model's name.

    PATH is a .gguf or ggml .bin file. If the model is in several .gguf files, PATH is any of them,
    and all are copied.
    """
    with _exit_on_error(), _ProgressReporter() as reporter:
        name = ModelStore(models_dir).import_file(path, reporter)
    click.echo(name)


@models.command("path")
@click.argument("name")
@_models_dir_option
def path_command(name: str, models_dir: Path) -> None:
    """Print the path of the installed model NAME."""
    with _exit_on_error():
        click.echo(ModelStore(models_dir).installed_path(name))


@models.command("verify")
@click.argument("name")
@_models_dir_option
def verify_command(name: str, models_dir: Path) -> None:
    """Verify the checksum of the installed model NAME."""
    with _exit_on_error(), _ProgressReporter() as reporter:
        ModelStore(models_dir).verify(name, reporter)
    click.echo(f"{name}: checksum OK")


@models.command("remove")
@click.argument("name")
@_models_dir_option
def remove_command(name: str, models_dir: Path) -> None:
    """Remove the files of the installed model or set NAME."""
    with _exit_on_error():
        ModelStore(models_dir).remove(name)
    click.echo(f"{name}: removed")


class _JsonReporter:
    """Progress as JSON lines on standard output, at most one for each hundredth of a stage."""

    def __init__(self) -> None:
        self._last: tuple[str, str, int] | None = None

    def __call__(self, progress: Progress) -> None:
        share = 100 * progress.done // progress.total if progress.total else 0
        step = (progress.model, progress.stage, share)
        if step != self._last:
            self._last = step
            click.echo(msgspec.json.encode(progress))


class _ProgressReporter:
    """Progress display on stderr: a bar if stderr is a terminal, otherwise one line per stage."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._current: tuple[str, str] | None = None
        self._bar: Any = None
        self._done = 0

    def __call__(self, progress: Progress) -> None:
        stage = (progress.model, progress.stage)
        if stage != self._current:
            self._end_stage()
            self._current = stage
            self._start_stage(progress)
        if self._bar is not None:
            self._bar.update(progress.done - self._done)
            self._done = progress.done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_stage()

    def _end_stage(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def _start_stage(self, progress: Progress) -> None:
        label = f"{progress.model}: {progress.stage}"
        if progress.stage == "waiting":
            click.echo(f"{label} for another process that is fetching it", err=True)
        elif self._is_terminal and progress.total:
            self._done = 0
            self._bar = click.progressbar(length=progress.total, label=label, file=sys.stderr)
            self._bar.__enter__()
        else:
            unit = " tensors" if progress.stage == "converting" else " bytes"
            click.echo(f"{label} ({progress.total:,}{unit})", err=True)
