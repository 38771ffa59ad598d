"""Whole evaluations on scripted models, through the server's own objects."""

import asyncio
import csv
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prepserver.cli import cli
from prepserver.engines.scripted import ScriptedLanguageModel
from prepserver.engines.types import Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.evaluation.evaluate import evaluate
from prepserver.evaluation.plans import PlannedInterview, plan_injections, plan_interviews
from prepserver.evaluation.records import Evaluation, load_evaluation
from prepserver.evaluation.scripts import load_scripts
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Intent, MessageKind, Source

SCRIPTS = load_scripts()


def hold_interviews(
    planned: Sequence[PlannedInterview], *, model: str = "scripted", **settings: Any
) -> Evaluation:
    return asyncio.run(evaluate(planned, model=model, name=model, seed=1, **settings))


def test_a_whole_interview_is_recorded() -> None:
    """The record holds every message, what the candidate meant, and a delay for each message of the
    interviewer."""
    planned = plan_interviews(SCRIPTS, 1, candidates=["asks-for-help"], each=1, questions=3)
    result = hold_interviews(planned)
    (record,) = result.interviews
    assert record.failed == ""
    assert len(record.of_kind(MessageKind.QUESTION)) == 3
    assert record.messages[-1].kind is MessageKind.SUMMARY
    assert len(record.delays) == len(record.interviewer_messages())
    assert all(delay >= 0 for delay in record.delays)
    said = record.of_kind(MessageKind.ANSWER, MessageKind.REQUEST)
    assert len(record.expected) == len(said) >= 4
    assert record.agenda is not None
    assert result.system.profile == "standard"


def test_injections_stand_where_they_belong() -> None:
    """Injections are put into the documents, typed, and spoken, and the record names the
    canaries."""
    planned = plan_injections(SCRIPTS, 1, limit=1)
    result = hold_interviews(planned)
    documents, typed, spoken = result.interviews
    placed = [one.text for one in planned[0].injections]
    assert placed[0] in documents.resume
    assert placed[1] in documents.job_description
    for record, each, source in (
        (typed, planned[1], Source.TEXT),
        (spoken, planned[2], Source.SPEECH),
    ):
        first = record.of_kind(MessageKind.ANSWER, MessageKind.REQUEST)[0]
        assert (first.text, first.source) == (each.injections[0].text, source)
        assert record.expected[0] is Intent.HOSTILE
        assert record.canaries == list(each.injections[0].canaries)


def test_a_broken_model_ends_the_interview_and_not_the_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interview whose model fails is recorded with its error, and the next one is held."""

    async def fail(self: object, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        raise InferenceError("The model broke.", code=ErrorCode.DECODE_FAILED, retryable=False)
        yield

    monkeypatch.setattr(ScriptedLanguageModel, "generate", fail)
    planned = plan_interviews(SCRIPTS, 1, candidates=["strong", "vague"], each=1, questions=2)
    result = hold_interviews(planned)
    assert [record.failed for record in result.interviews] == ["The model broke."] * 2
    row = next(row for row in result.results if row.name == "interview that did not end as planned")
    assert (row.value, row.met) == (2.0, False)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `prep-server evaluate` with the scripted model."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["evaluate", *arguments])

    return run_command


SMALL = ("--model", "scripted", "--candidates", "strong", "--no-injections", "--questions", "2")


def hold(run: Callable[..., Result], name: str, *more: str) -> Path:
    path = Path(f"{name}.json")
    result = run(*SMALL, "--interviews", "1", "--json", str(path), *more)
    assert result.exit_code in (0, 1), result.output
    return path


def test_the_command_writes_results_and_transcripts(run: Callable[..., Result]) -> None:
    """The command writes JSON and Markdown, and prints the table of the same results again."""
    path = hold(run, "one", "--transcripts", "one.md")
    data: dict[str, Any] = json.loads(path.read_bytes())
    assert data["format"] == 1
    assert len(data["interviews"]) == 1
    assert Path("one.md").read_text("utf-8").count("**Candidate**") == 2
    again = run(str(path))
    assert "| one well-formed question a turn | 100.0 %" in again.output
    missed = any(row.met is False for row in load_evaluation(path).results)
    assert again.exit_code == (1 if missed else 0)


def test_equal_seeds_give_equal_interviews(run: Callable[..., Result]) -> None:
    """Two runs with the same seed have the same words, and another seed has other words."""

    def words(path: Path) -> list[str]:
        return [m.text for one in load_evaluation(path).interviews for m in one.messages]

    first = words(hold(run, "one"))
    assert words(hold(run, "two")) == first
    assert words(hold(run, "three", "--seed", "2")) != first


def test_samples_are_drawn_from_result_files(run: Callable[..., Result]) -> None:
    """`--sample` and `--blind` write a CSV file and its key from several result files."""
    files = [
        str(hold(run, name, "--questions", "6", "--seed", seed))
        for name, seed in (("one", "1"), ("two", "2"))
    ]
    result = run(*files, "--sample", "2", "--blind", "labels.csv", "--seed", "7")
    assert result.exit_code == 0, result.output
    for name in ("labels.csv", "labels.key.csv"):
        with Path(name).open(encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "unknown"), "Choose one of"),
        (("--candidates", "unknown"), "Choose from"),
        (("--roles", "Astronaut"), "Choose from"),
        (("--sample", "3"), "Name all three"),
        (("--blind", "x.csv", "--sample", "3"), "Name all three"),
        (("broken.json",), "Cannot read the results"),
        (("--model", "missing.gguf"), "missing.gguf"),
        (("--model", "openai:http://127.0.0.1:9#none"), "cannot be reached"),
        (("--json", "no/such/folder.json"), "does not exist"),
        (("--transcripts", "no/such/file.md"), "does not exist"),
        ((*SMALL, "--interviews", "1", "--json", "closed.json"), "Cannot write"),
    ],
)
def test_a_wrong_option_ends_in_a_sentence(
    run: Callable[..., Result], arguments: tuple[str, ...], words: str
) -> None:
    """Wrong names, files and combinations are refused with what to do."""
    Path("broken.json").write_text("{}")
    Path("closed.json").symlink_to("closed.json")
    result = run(*arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output
