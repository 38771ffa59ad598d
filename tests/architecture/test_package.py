"""The contents of the built wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture import sources

DATA = {".toml", ".tcss", ".json", ".typed", ".sql"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel and return it, open for reading."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=sources.ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_every_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """Apart from its metadata, the wheel contains exactly the files of both packages."""
    packaged = {
        sources.name(path)
        for path in sources.files(".py", *DATA)
        if sources.name(path).startswith(("prepserver/", "prepcli/"))
    }
    inside = {name for name in wheel.namelist() if ".dist-info" not in name}
    assert inside == packaged


@pytest.mark.parametrize(
    "wanted",
    [
        "prepserver/py.typed",
        "prepcli/py.typed",
        "prepserver/models/catalogue.toml",
        "prepserver/interview/questions/data/technical/nursing.toml",
        "prepcli/tui/screens/interview.tcss",
    ],
)
def test_the_wheel_holds_its_data(wheel: zipfile.ZipFile, wanted: str) -> None:
    """The wheel contains the type markers, the model catalogue, question files and stylesheets."""
    assert wanted in wheel.namelist()


def test_the_wheel_carries_the_licence(wheel: zipfile.ZipFile) -> None:
    """The wheel contains exactly one licence file: the Apache License."""
    licence = [name for name in wheel.namelist() if Path(name).name == "LICENSE"]
    assert len(licence) == 1
    assert b"Apache License" in wheel.read(licence[0])


def test_the_wheel_installs_both_commands(wheel: zipfile.ZipFile) -> None:
    """The wheel defines the commands `prep` and `prep-server`."""
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "prep = prepcli.cli:main" in text
    assert "prep-server = prepserver.cli:main" in text
