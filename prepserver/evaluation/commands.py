"""`prep-server evaluate`: hold interviews with scripted candidates, and measure them by rules."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import structlog

from prepserver.errors import BadRequest, PrepServerError
from prepserver.folders import default_models_dir
from prepserver.models.store import ModelStore
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import InterviewType

__all__ = ["evaluate_command"]

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("evaluate")
@click.argument("results", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "set_name", help="Set of models to evaluate.  [default: starter]")
@click.option("--model", help="Language model to evaluate: a .gguf file, or openai:URL#NAME.")
@click.option(
    "--models-dir", type=click.Path(path_type=Path), help="Directory of installed models."
)
@click.option("--threads", type=int, help="CPU threads of the engine; 0 means one per core.")
@click.option("--candidates", multiple=True, metavar="NAME", help="Candidate; repeatable.")
@click.option("--roles", multiple=True, metavar="NAME", help="Role; repeatable.")
@click.option(
    "--types", multiple=True, type=click.Choice([*InterviewType]), help="Type; repeatable."
)
@click.option(
    "--interviews",
    type=click.IntRange(1, 100),
    default=2,
    show_default=True,
    help="Number of interviews with each candidate.",
)
@click.option(
    "--questions",
    type=click.IntRange(1, 30),
    default=6,
    show_default=True,
    help="Number of questions in each interview.",
)
@click.option(
    "--injections/--no-injections",
    default=True,
    show_default=True,
    help="Hold the interviews in which documents and answers give the interviewer orders.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the selection.")
@click.option("--json", "json_file", type=FILE, help="Write results and transcripts as JSON.")
@click.option("--transcripts", type=FILE, help="Write the transcripts as Markdown.")
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    help="Draw follow-up questions of RESULTS for readers.",
)
@click.option("--blind", type=FILE, help="CSV file for --sample; its key is written beside it.")
def evaluate_command(results: tuple[Path, ...], **options: Any) -> None:
    """Interview scripted candidates, and print a table of measures with their thresholds.

    With RESULTS, files that --json has written, measure their interviews again instead of holding
    new ones.
    The exit code is 1 if a threshold is missed.
    """
    try:
        missed = _evaluate(results, **options)
    except PrepServerError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:
        raise click.ClickException(
            f"Cannot write {error.filename}: {error.strerror}. Choose another file."
        ) from error
    sys.exit(1 if missed else 0)


def _evaluate(
    results: Sequence[Path],
    *,
    set_name: str | None,
    model: str | None,
    models_dir: Path | None,
    threads: int | None,
    candidates: Sequence[str],
    roles: Sequence[str],
    types: Sequence[str],
    interviews: int,
    questions: int,
    injections: bool,
    seed: int,
    json_file: Path | None,
    transcripts: Path | None,
    sample: int | None,
    blind: Path | None,
) -> bool:
    """Run the command. Return True if a threshold is missed."""
    # These modules import the engines and SQLite.
    from prepserver.evaluation.evaluate import evaluate
    from prepserver.evaluation.plans import plan_injections, plan_interviews
    from prepserver.evaluation.records import load_evaluation
    from prepserver.evaluation.report import (
        format_failures,
        format_results,
        remeasure,
    )
    from prepserver.evaluation.samples import draw_samples, write_samples
    from prepserver.evaluation.scripts import load_scripts
    from prepserver.evaluation.transcripts import format_transcripts

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    if (sample is None) != (blind is None) or (sample is not None and not results):
        raise BadRequest(
            "--sample N --blind FILE draws from result files. Name all three.",
            code=ErrorCode.BAD_SETTING,
        )
    for path in (json_file, transcripts, blind):
        if path is not None and not path.parent.is_dir():
            raise BadRequest(
                f"The directory {path.parent} does not exist. Create it or name another file.",
                code=ErrorCode.BAD_SETTING,
            )
    evaluations = [remeasure(load_evaluation(path)) for path in results]
    if sample is not None and blind is not None:
        write_samples(draw_samples(evaluations, sample, seed), blind)
        return False
    if not evaluations:
        scripts = load_scripts()
        planned = plan_interviews(
            scripts,
            seed,
            candidates=candidates,
            roles=roles,
            types=types,
            each=interviews,
            questions=questions,
        )
        if injections:
            planned += plan_injections(scripts, seed)
        folder = models_dir or default_models_dir()
        settings: dict[str, Any] = {"models_dir": folder}
        if threads is not None:
            settings["threads"] = threads
        name = set_name or ("" if model else "starter")
        held = evaluate(
            planned,
            model=model or _language_model(folder, name),
            name=name or Path(str(model).rpartition("#")[2]).stem,
            seed=seed,
            on_progress=_show_progress,
            **settings,
        )
        evaluations = [asyncio.run(held)]
    if json_file is not None:
        json_file.write_bytes(msgspec.json.encode(evaluations[0]))
    if transcripts is not None:
        transcripts.write_text(format_transcripts(evaluations[0]), "utf-8")
    click.echo(format_results(evaluations))
    for each in evaluations:
        click.echo(f"\n{format_failures(each)}")
    return any(row.met is False for each in evaluations for row in each.results)


def _language_model(models_dir: Path, set_name: str) -> str:
    """Return the name of the language model of a set. Raises BadRequest."""
    catalogue = ModelStore(models_dir).catalogue
    chosen = catalogue.find_set(set_name)
    if chosen is None:
        known = ", ".join(each.name for each in catalogue.sets)
        raise BadRequest(
            f"There is no set of models {set_name!r}. Choose one of {known}.",
            code=ErrorCode.BAD_SETTING,
        )
    return chosen.language


def _show_progress(number: int, total: int, record: Any) -> None:
    text = f"{number}/{total} {record.candidate}, {record.role}, {record.type}"
    click.echo(f"{text}: {record.failed}" if record.failed else text, err=True)
