"""Model store: a folder into which model files are moved atomically once they are complete."""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.errors import Conflict, ModelError, ModelNotFound
from prepserver.models import files
from prepserver.models.catalogue import (
    GGML_MAGIC,
    GGUF_MAGIC,
    Catalogue,
    CatalogueEntry,
    Kind,
    builtin_catalogue,
)
from prepserver.models.files import Progress, ProgressCallback, ignore_progress
from prepserver.models.parts import find_parts, part_names
from prepserver.storage.files import hold_lock, replace_file, write_atomically
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ModelStore", "StoredModel", "detect_kind"]


class StoredModel(Struct, frozen=True, kw_only=True):
    """Entry in the model list: a model of the catalogue or an imported file."""

    name: str
    """Name of the model in the catalogue, or file name of an imported model. A model in several
    files has the name of its first file."""
    kind: Kind
    size: int
    """Size of the model's files in bytes; for a model of the catalogue, the size listed there."""
    licence: str = ""
    about: str = ""
    path: str | None = None
    """Path of the model's first file; None if the model is not installed."""


class _Receipt(Struct, frozen=True, kw_only=True):
    """State of a model file when its hash was last verified.

    The state is stored beside the model file as `.FILE.json`.
    """

    sha256: str
    size: int
    mtime_ns: int


class ModelStore:
    """Store of models in one folder, which the first installation creates.

    Several processes may use the folder at once: files are installed and replaced by renaming, and
    each writer locks the model that it is fetching or importing.
    """

    def __init__(self, root: Path, catalogue: Catalogue | None = None) -> None:
        self.root = root
        self.catalogue = catalogue or builtin_catalogue()
        self.work_root = root / ".work"
        """Folder of locks and incomplete files, which may not exist yet."""

    def list_models(self) -> tuple[StoredModel, ...]:
        """Return all models of the catalogue in its order, then the imported files by name."""
        known = [
            StoredModel(
                name=entry.name,
                kind=entry.kind,
                size=entry.size,
                licence=entry.licence,
                about=entry.about,
                path=str(self._path_of(entry)) if self.is_installed(entry) else None,
            )
            for entry in self.catalogue.models
        ]
        return (*known, *self._imported_models())

    def missing_models(self, names: Iterable[str]) -> tuple[StoredModel, ...]:
        """Return the models of the catalogue among `names` that are not installed.

        Names of imported models and paths, which cannot be fetched, are left out.
        """
        wanted = set(names)
        return tuple(
            model for model in self.list_models() if model.name in wanted and model.path is None
        )

    def installed_path(self, name: str) -> Path:
        """Return the path of an installed model, or of its first file if it has several.

        For a model of the catalogue, only the size of the file is checked; `verify` checks the
        content. Raises ModelNotFound if the model is not installed, and ModelError if the size is
        wrong or a file is missing.
        """
        entry = self.catalogue.find(name)
        if entry is None:
            return self._imported_paths(name)[0]
        path = self._path_of(entry)
        if not path.is_file():
            raise ModelNotFound(
                f"The model {name} is not installed. Fetch it with `prep-server models pull "
                f"{name}`.",
                details={"name": name},
            )
        if not self.is_installed(entry):
            raise ModelError(
                f"Size mismatch: {path} is truncated or was replaced. Fetch it again with "
                f"`prep-server models pull {name}`.",
                code=ErrorCode.MODEL_DAMAGED,
                details={"name": name},
            )
        return path

    def resolve(self, name_or_path: str) -> Path:
        """Return the path of a model file, given the name of a model or the path of a file.

        A path may lead to any GGUF or ggml file. For a part of a model in several files, the path
        of the first part is returned. The hash of a model of the catalogue is checked if the file
        has changed since the last verification. Raises ModelNotFound if there is no such model or
        file, and ModelError if the file is not a model, fails verification or lacks other parts.
        """
        path = Path(name_or_path)
        with contextlib.suppress(RuntimeError):  # the user has no home directory
            path = path.expanduser()
        in_store = self.catalogue.find(name_or_path) or (
            path.name == name_or_path
            and any((self.root / name).is_file() for name in part_names(path.name))
        )
        if in_store:
            installed = self.installed_path(name_or_path)
            entry = self.catalogue.find(name_or_path)
            if entry is not None and self._has_wrong_hash(entry):
                raise ModelError(
                    f"Checksum mismatch: {installed} is corrupt or was replaced. Fetch it again "
                    f"with `prep-server models pull {name_or_path}`. To use the file as it is, "
                    "give its path instead of the name.",
                    code=ErrorCode.MODEL_HASH,
                    details={"name": name_or_path},
                )
            return installed
        if path.is_file():
            return _resolve_file(path)
        if path.name != name_or_path or path.suffix in {".gguf", ".bin"}:
            raise ModelNotFound(
                f"There is no file {path}. Check the path, or run `prep-server models list` to see "
                "the models that can be fetched by name."
            )
        raise self.catalogue.unknown_name(name_or_path)

    def verify(self, name: str, report: ProgressCallback = ignore_progress) -> None:
        """Compare the hash of each file of an installed model with the hash in the catalogue or the
        receipt.

        The receipt is used if the catalogue has no hash. Raises ModelNotFound if the model is not
        installed, and ModelError if a file is missing, its hash differs or no hash is known. A file
        that fails verification is not removed.
        """
        entry = self.catalogue.find(name)
        paths = (self.installed_path(name),) if entry else self._imported_paths(name)
        for path in paths:
            self._verify_file(path, name, entry, report)

    def _verify_file(
        self, path: Path, name: str, entry: CatalogueEntry | None, report: ProgressCallback
    ) -> None:
        receipt = self._read_receipt(path)
        expected = (entry.sha256 if entry else "") or (receipt.sha256 if receipt else "")
        with files.disk_errors(self.root):
            size = path.stat().st_size
            found = files.hash_file(
                path, lambda done: report(Progress(name, "verifying", done, size))
            )
        if found == expected:
            return
        # Without a receipt the next pull reads the file instead of trusting its old state.
        self._receipt_path(path).unlink(missing_ok=True)
        if expected:
            problem = (
                f"Checksum mismatch: {path} is corrupt or was replaced (hash {found[:12]}…, "
                f"expected {expected[:12]}…)."
            )
        else:
            problem = f"{path} cannot be verified: no checksum is known for it."
        action = f"Fetch it again with `prep-server models pull {name}`."
        if entry is None:
            action = "Import it again with `prep-server models import PATH`."
        raise ModelError(
            f"{problem} {action}",
            code=ErrorCode.MODEL_HASH,
            details={"name": name, "expected": expected, "found": found},
        )

    def import_file(self, path: Path, report: ProgressCallback = ignore_progress) -> str:
        """Copy a model into the store and return the name of the installed model.

        `path` is a ggml file, a GGUF file, or any part of a model in several GGUF files, which are
        all copied. A file whose hash is listed in the catalogue is installed as that model. Raises
        ModelNotFound if the file does not exist, ModelError if the file is not a model, is
        truncated or lacks other parts, or if the disk fails, and Conflict if the file's name
        belongs to the catalogue or to a different installed file.
        """
        if not path.is_file():
            problem = f"{path} is a folder" if path.is_dir() else f"There is no file {path}"
            raise ModelNotFound(f"{problem}. Give the path of a .gguf or ggml .bin file.")
        sources, names = _find_files(path)
        with files.disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            files.require_space(self.root, sum(source.stat().st_size for source in sources))
            with self.lock_model(names[0]):
                copies = [
                    self._copy_file(source, name, names[0], report)
                    for source, name in zip(sources, names, strict=True)
                ]
                same = (each for each in self.catalogue.models if each.sha256 == copies[0][1])
                entry = next(same, None)
                if entry is not None:
                    self.install_file(copies[0][0], entry.file, entry.sha256)
                else:
                    for name, (_, sha256) in zip(names, copies, strict=True):
                        self._require_free_name(name, sha256)
                    # The first file comes last: the list shows the model once it is there.
                    for name, (copy, sha256) in reversed([*zip(names, copies, strict=True)]):
                        self.install_file(copy, name, sha256)
                self.clear_work_folder(names[0])
        return entry.name if entry else names[0]

    def _copy_file(
        self, source: Path, name: str, model: str, report: ProgressCallback
    ) -> tuple[Path, str]:
        """Copy a file into the work folder of `model`. Return the copy's path and SHA-256."""
        size = source.stat().st_size
        copy = self.work_folder(model) / name
        with source.open("rb") as stream:
            sha256 = files.copy_and_hash(
                stream, copy, lambda done: report(Progress(name, "copying", done, size))
            )
        return copy, sha256

    def remove(self, name: str) -> None:
        """Remove all files of an installed model, even of a damaged one, or of the models of a set.

        A process that has loaded the model can continue to use it. Raises ModelNotFound if the
        model, or each model of the set, is not installed, and ModelError if a file cannot be
        removed.
        """
        entry, chosen = self.catalogue.find(name), self.catalogue.find_set(name)
        if chosen is not None:
            models = [each.file for each in self.catalogue.models_of(chosen)]
        else:
            models = [entry.file if entry else name]
        paths = [self.root / each for model in models for each in part_names(model)]
        if any(Path(model).name != model for model in models) or not any(
            path.is_file() for path in paths
        ):
            raise ModelNotFound(
                f"The model {name} is not installed. Run `prep-server models list`.",
                details={"name": name},
            )
        with files.disk_errors(self.root), contextlib.ExitStack() as locks:
            for model in models:
                known = next((each for each in self.catalogue.models if each.file == model), None)
                locks.enter_context(self.lock_model(known.name if known else part_names(model)[0]))
            for path in paths:
                path.unlink(missing_ok=True)
                self._receipt_path(path).unlink(missing_ok=True)

    def is_installed(self, entry: CatalogueEntry) -> bool:
        """Return True if the model's file exists and has the expected size."""
        path = self._path_of(entry)
        receipt = self._read_receipt(path)
        # Without a hash in the catalogue, its size is a guess, and the hub's size is authoritative.
        size = entry.size if entry.sha256 or receipt is None else receipt.size
        return path.is_file() and path.stat().st_size == size

    def is_intact(self, entry: CatalogueEntry, report: ProgressCallback = ignore_progress) -> bool:
        """Return True if the model's file exists and is known to be intact.

        A file that has not changed since the last verification is not read again. If the catalogue
        has no hash, a file that has changed counts as not intact.
        """
        path = self._path_of(entry)
        if not self.is_installed(entry):
            return False
        receipt = self._read_receipt(path)
        status = path.stat()
        if receipt is None or (receipt.size, receipt.mtime_ns) != (
            status.st_size,
            status.st_mtime_ns,
        ):
            sha256 = files.hash_file(
                path, lambda done: report(Progress(entry.name, "verifying", done, entry.size))
            )
            if entry.sha256 and sha256 == entry.sha256:
                # A receipt only saves time, and the folder may be read-only.
                with contextlib.suppress(OSError):
                    self._write_receipt(path, sha256)
            return bool(entry.sha256) and sha256 == entry.sha256
        return not entry.sha256 or receipt.sha256 == entry.sha256

    def _has_wrong_hash(self, entry: CatalogueEntry) -> bool:
        """Return True if the hash of the installed file is known to be wrong."""
        with files.disk_errors(self.root):
            if self.is_intact(entry):
                return False
            receipt = self._read_receipt(self._path_of(entry))
            if entry.sha256 or receipt is None:
                return bool(entry.sha256)
            return files.hash_file(self._path_of(entry)) != receipt.sha256

    def install_file(self, temporary: Path, file: str, sha256: str) -> Path:
        """Move a synced and verified file from the work folder into the store. Return its new path.

        The caller must hold the model's lock.
        """
        path = self.root / file
        replace_file(temporary, path)
        self._write_receipt(path, sha256)
        return path

    @contextlib.contextmanager
    def lock_model(self, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Lock the model `name` during the `with` block: only one process may fetch or import it.

        `on_wait` is called once if another process is holding the lock.
        """
        self.work_root.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.work_root / f"{name}.lock", on_wait):
            yield

    def work_folder(self, name: str, purpose: str = "") -> Path:
        """Return the folder for a model's incomplete files, or for those of one `purpose`.

        The folder is created if it is missing.
        """
        folder = self.work_root / name / purpose
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_work_folder(self, name: str) -> None:
        """Remove the folder for a model's incomplete files. Errors are ignored."""
        shutil.rmtree(self.work_root / name, ignore_errors=True)

    def _path_of(self, entry: CatalogueEntry) -> Path:
        return self.root / entry.file

    def _imported_models(self) -> Iterator[StoredModel]:
        if not self.root.is_dir():
            return
        catalogued = {entry.file for entry in self.catalogue.models}
        for path in sorted(self.root.iterdir()):
            if path.name in catalogued or path.name.startswith(".") or not path.is_file():
                continue
            parts = [self.root / name for name in part_names(path.name)]
            found = [part for part in parts if part.is_file()]
            if path != found[0]:
                continue
            whole = len(found) == len(parts)
            with contextlib.suppress(ModelError):
                yield StoredModel(
                    name=parts[0].name,
                    kind=detect_kind(path),
                    size=sum(part.stat().st_size for part in found),
                    about="" if whole else f"incomplete: {len(found)} of {len(parts)} files",
                    path=str(path) if whole else None,
                )

    def _imported_paths(self, name: str) -> tuple[Path, ...]:
        """Return the paths of the files of an imported model, given the name of any of them."""
        paths = tuple(self.root / each for each in part_names(name))
        if all(model.name != paths[0].name for model in self._imported_models()):
            raise self.catalogue.unknown_name(name)
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise ModelError(
                f"The model {paths[0].name} is incomplete: {missing[0]} is missing in {self.root}"
                + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
                + ". Import it again with `prep-server models import PATH`.",
                code=ErrorCode.MODEL_PARTS,
                details={"name": name},
            )
        return paths

    def _require_free_name(self, file: str, sha256: str) -> None:
        """Raise Conflict if the name `file` belongs to the catalogue or to different content."""
        reserved = any(entry.file == file for entry in self.catalogue.models)
        path = self.root / file
        if reserved or (path.exists() and files.hash_file(path) != sha256):
            raise Conflict(
                f"The name {file} belongs to another model, so nothing was imported. Rename your "
                "file and import it again.",
                code=ErrorCode.MODEL_EXISTS,
            )

    def _read_receipt(self, path: Path) -> _Receipt | None:
        try:
            return msgspec.json.decode(self._receipt_path(path).read_bytes(), type=_Receipt)
        except (OSError, msgspec.MsgspecError):
            return None

    def _write_receipt(self, path: Path, sha256: str) -> None:
        status = path.stat()
        receipt = _Receipt(sha256=sha256, size=status.st_size, mtime_ns=status.st_mtime_ns)
        write_atomically(self._receipt_path(path), msgspec.json.encode(receipt))

    @staticmethod
    def _receipt_path(path: Path) -> Path:
        return path.with_name(f".{path.name}.json")


def detect_kind(path: Path) -> Kind:
    """Return the kind of a model file, detected from the first four bytes.

    Raises ModelError if the file cannot be read or is neither GGUF nor ggml.
    """
    with files.disk_errors(path.parent), path.open("rb") as file:
        magic = file.read(len(GGUF_MAGIC))
    if magic == GGUF_MAGIC:
        return "llm"
    if magic == GGML_MAGIC:
        return "stt"
    likely = {b"vers": "a Git LFS pointer", b"<!DO": "a web page"}
    looks_like = f"; it looks like {likely[magic]}" if magic in likely else ""
    raise ModelError(
        f"{path} is not a model in GGUF (llama.cpp) or ggml (whisper.cpp) format{looks_like}. "
        "Download it again.",
        code=ErrorCode.MODEL_FORMAT,
    )


def _find_files(path: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the files of a model in order, and the names under which they are installed.

    Raises ModelError if the file is not a model, is truncated or lacks other parts.
    """
    return find_parts(path) if detect_kind(path) == "llm" else ((path,), (path.name,))


def _resolve_file(path: Path) -> Path:
    """Return the absolute path of a model file, or of the first part of a model in several files.

    Raises ModelError if the file cannot be loaded by its path.
    """
    paths, names = _find_files(path)
    if len(paths) == 1:
        return path.resolve()
    # Not resolved: a link in a cache may have the name that llama.cpp needs, and its target not.
    if tuple(each.name for each in paths) != names:
        raise ModelError(
            f"The files of the model {path} were renamed, so that llama.cpp cannot find them. Give "
            f"them their names back, {names[0]} and so on, or run `prep-server models import "
            f"{path}`.",
            code=ErrorCode.MODEL_PARTS,
        )
    return paths[0].absolute()
