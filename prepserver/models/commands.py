"""`prep-server models`: see, fetch, bring and find models."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import click
import msgspec

from prepserver.config import default_models_dir
from prepserver.errors import PrepServerError
from prepserver.models.progress import Progress
from prepserver.models.store import ModelStore

__all__ = ["models"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _models_dir(command: _Command) -> _Command:
    return click.option(
        "--models-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_models_dir,
        show_default="PREP_MODELS_DIR, or the user's data folder",
        help="Where models are kept.",
    )(command)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Ends the command with exit code 1 and one line on stderr when a model cannot be had."""
    try:
        yield
    except PrepServerError as error:
        raise click.ClickException(error.message) from error


@click.group()
def models() -> None:
    """See, fetch, bring and find models."""


@models.command("list")
@_models_dir
@click.option("--json", "as_json", is_flag=True, help="One JSON array on stdout.")
def list_(models_dir: Path, as_json: bool) -> None:
    """Every model that can be fetched by name, and every one that is here."""
    with _failures():
        stored = ModelStore(models_dir).list()
    if as_json:
        click.echo(msgspec.json.encode(stored))
        return
    width = max(len(model.name) for model in stored)
    for model in stored:
        mark = "*" if model.path else " "
        size = f"{model.size / 1e6:,.0f} MB"
        line = f"{mark} {model.name:{width}}  {model.kind}  {size:>8}  {model.licence:10}"
        click.echo(f"{line}  {model.about}".rstrip())
    click.echo(f"* is in {models_dir}", err=True)


@models.command()
@click.argument("name")
@_models_dir
def pull(name: str, models_dir: Path) -> None:
    """Fetch the model NAME; `starter` is the two that prep begins with."""
    # numpy and httpx, which a server that starts has no use for.
    from prepserver.models.pull import pull as pull_models

    with _failures(), _Reporter() as reporter:
        paths = pull_models(ModelStore(models_dir), name, reporter)
    for path in paths:
        click.echo(path)


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@_models_dir
def import_(path: Path, models_dir: Path) -> None:
    """Copy the model file PATH (.gguf, or ggml .bin) into the store and print its name."""
    with _failures(), _Reporter() as reporter:
        name = ModelStore(models_dir).import_(path, reporter)
    click.echo(name)


@models.command("path")
@click.argument("name")
@_models_dir
def path_(name: str, models_dir: Path) -> None:
    """Print where the file of the model NAME is."""
    with _failures():
        click.echo(ModelStore(models_dir).path(name))


@models.command()
@click.argument("name")
@_models_dir
def verify(name: str, models_dir: Path) -> None:
    """Read the model NAME that is here and compare its hash."""
    with _failures(), _Reporter() as reporter:
        ModelStore(models_dir).verify(name, reporter)
    click.echo(f"{name} is whole.")


class _Reporter:
    """Shows progress on stderr: a bar to a person, a line per stage to a log."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown: tuple[str, str] | None = None
        self._bar: Any = None
        self._done = 0

    def __call__(self, progress: Progress) -> None:
        stage = (progress.model, progress.stage)
        if stage != self._shown:
            self._close()
            self._shown = stage
            self._open(progress)
        if self._bar is not None:
            self._bar.update(progress.done - self._done)
            self._done = progress.done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def _open(self, progress: Progress) -> None:
        label = f"{progress.model}: {progress.stage}"
        if progress.stage == "waiting":
            click.echo(f"{label} for another process that fetches it", err=True)
        elif self._is_terminal and progress.total:
            self._done = 0
            self._bar = click.progressbar(length=progress.total, label=label, file=sys.stderr)
            self._bar.__enter__()
        else:
            unit = " tensors" if progress.stage == "converting" else " bytes"
            click.echo(f"{label} ({progress.total:,}{unit})", err=True)
