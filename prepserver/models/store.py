"""Where models are kept: a folder in which a file with a model's name is whole, or is not there."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from prepserver.errors import Conflict
from prepserver.models import files
from prepserver.models.catalogue import Catalogue, CatalogueEntry, Kind, builtin_catalogue
from prepserver.models.errors import ModelError, ModelNotFound
from prepserver.models.formats import GGML_MAGIC, GGUF_MAGIC
from prepserver.models.progress import Progress, ProgressCallback, ignore_progress
from prepserver.storage.files import hold_lock, replace_file, write_atomically
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ModelStore", "StoredModel", "detect_kind"]


class StoredModel(Struct, frozen=True, kw_only=True):
    """A line of the list: a model of the catalogue, or a file that was brought."""

    name: str
    """As `path` and `resolve` take it; of a file that was brought, its file name."""
    kind: Kind
    size: int
    """Bytes."""
    licence: str = ""
    about: str = ""
    path: str | None = None
    """None: it is not here yet."""


class _Receipt(Struct, frozen=True, kw_only=True):
    """What a file was when its hash was last checked; beside it, as `.FILE.json`."""

    sha256: str
    size: int
    mtime_ns: int


class ModelStore:
    """The models under one folder, which is made when something is put there.

    Several processes may use it at once: files appear and change by renaming only, and whoever
    writes holds a lock per model.
    """

    def __init__(self, root: Path, catalogue: Catalogue | None = None) -> None:
        self.root = root
        self.catalogue = catalogue or builtin_catalogue()

    def list(self) -> tuple[StoredModel, ...]:
        """The catalogue in its order, then the files that were brought, by name."""
        known = [
            StoredModel(
                name=entry.name,
                kind=entry.kind,
                size=entry.size,
                licence=entry.licence,
                about=entry.about,
                path=str(self._file(entry)) if self.is_installed(entry) else None,
            )
            for entry in self.catalogue.models
        ]
        return (*known, *self._brought())

    def path(self, name: str) -> Path:
        """The file of a model that is here.

        Its size is looked at, its content is not (`verify` does). Raises ModelNotFound, ModelError.
        """
        entry = self.catalogue.find(name)
        if entry is None:
            return self._brought_path(name)
        path = self._file(entry)
        if not path.is_file():
            raise ModelNotFound(
                f"The model {name} is not here yet. Fetch it: `prep-server models pull {name}`.",
                details={"name": name},
            )
        if not self.is_installed(entry):
            raise ModelError(
                f"{path} has not the size of {name}: it was cut short or changed. Fetch it again: "
                f"`prep-server models pull {name}`.",
                code=ErrorCode.MODEL_DAMAGED,
                details={"name": name},
            )
        return path

    def resolve(self, name_or_path: str) -> Path:
        """The file of a model by its name, or by the path of a .gguf or ggml .bin file anywhere.

        A model of the catalogue is read if its file changed since that was last done. Raises
        ModelNotFound, and ModelError when the file is not a model, or not the one of that name.
        """
        path = Path(name_or_path).expanduser()
        is_here = self.catalogue.find(name_or_path) or (
            path.name == name_or_path and (self.root / path).is_file()
        )
        if is_here:
            found = self.path(name_or_path)
            entry = self.catalogue.find(name_or_path)
            if entry is not None and self._is_another(entry):
                raise ModelError(
                    f"{found} is not {name_or_path}: its hash is another one, so it was damaged or "
                    f"exchanged. Fetch it again: `prep-server models pull {name_or_path}`; to use "
                    "the file as it is, give its path instead of the name.",
                    code=ErrorCode.MODEL_HASH,
                    details={"name": name_or_path},
                )
            return found
        if path.is_file():
            detect_kind(path)
            return path.resolve()
        if path.name != name_or_path or path.suffix in {".gguf", ".bin"}:
            raise ModelNotFound(
                f"There is no file {path}. Check the path, or see `prep-server models list` for "
                "the models that can be fetched by name."
            )
        raise self.catalogue.unknown(name_or_path)

    def verify(self, name: str, report: ProgressCallback = ignore_progress) -> None:
        """Read a model of the catalogue and compare its hash.

        Raises ModelNotFound, and ModelError when it is damaged; it is not removed.
        """
        path = self.path(name)
        entry = self.catalogue.find(name)
        receipt = self._receipt(path)
        expected = (entry.sha256 if entry else "") or (receipt.sha256 if receipt else "")
        with files.disk_errors(self.root):
            size = path.stat().st_size
            found = files.digest(path, lambda done: report(Progress(name, "verifying", done, size)))
        if found == expected:
            return
        # Without it the next pull reads the file, and does not take it for whole.
        self._receipt_path(path).unlink(missing_ok=True)
        remedy = f"`prep-server models pull {name}`" if entry else "`prep-server models import`"
        raise ModelError(
            f"{path} is damaged: its hash is {found[:12]}…, not {expected[:12] or 'known'}…. Put "
            f"a good one in its place: {remedy}.",
            code=ErrorCode.MODEL_HASH,
            details={"name": name, "expected": expected, "found": found},
        )

    def import_(self, path: Path, report: ProgressCallback = ignore_progress) -> str:
        """Copy a .gguf or ggml .bin file into the store; the name that it has from now on.

        A file that is a model of the catalogue, by its hash, becomes that model. Raises
        ModelNotFound when there is no such file, ModelError when it is not a model, Conflict when
        another file of that name is here.
        """
        if not path.is_file():
            raise ModelNotFound(f"There is no file {path}. Check the path.")
        detect_kind(path)
        with files.disk_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            size = path.stat().st_size
            files.require_space(self.root, size)
            with self.lock(path.name):
                temporary = self.work_folder(path.name) / "import"
                with path.open("rb") as source:
                    sha256 = files.copy(
                        source,
                        temporary,
                        lambda done: report(Progress(path.name, "copying", done, size)),
                    )
                same = (entry for entry in self.catalogue.models if entry.sha256 == sha256)
                entry = next(same, None)
                name, file = (entry.name, entry.file) if entry else (path.name, path.name)
                if entry is None:
                    self._refuse_other(file, sha256)
                self.install(temporary, file, sha256)
                self.clear_work_folder(path.name)
        return name

    def is_installed(self, entry: CatalogueEntry) -> bool:
        """Whether the file is here and has its size."""
        path = self._file(entry)
        receipt = self._receipt(path)
        # The hub's word on the size counts for more than the catalogue's when that has no hash.
        size = entry.size if entry.sha256 or receipt is None else receipt.size
        return path.is_file() and path.stat().st_size == size

    def is_intact(self, entry: CatalogueEntry, report: ProgressCallback = ignore_progress) -> bool:
        """Whether the file is here with the right hash; read only if it changed since last time."""
        path = self._file(entry)
        if not self.is_installed(entry):
            return False
        receipt = self._receipt(path)
        status = path.stat()
        if receipt is None or (receipt.size, receipt.mtime_ns) != (
            status.st_size,
            status.st_mtime_ns,
        ):
            sha256 = files.digest(
                path, lambda done: report(Progress(entry.name, "verifying", done, entry.size))
            )
            if entry.sha256 and sha256 == entry.sha256:
                # It only saves time, and the folder may be for reading alone.
                with contextlib.suppress(OSError):
                    self._write_receipt(path, sha256)
            return bool(entry.sha256) and sha256 == entry.sha256
        return not entry.sha256 or receipt.sha256 == entry.sha256

    def _is_another(self, entry: CatalogueEntry) -> bool:
        """Whether the file has not the hash it should have, where one is known."""
        with files.disk_errors(self.root):
            if self.is_intact(entry):
                return False
            receipt = self._receipt(self._file(entry))
            if entry.sha256 or receipt is None:
                return bool(entry.sha256)
            return files.digest(self._file(entry)) != receipt.sha256

    def install(self, temporary: Path, file: str, sha256: str) -> Path:
        """Put a synced, verified file of the work folder in its place; call it with the lock."""
        path = self.root / file
        replace_file(temporary, path)
        self._write_receipt(path, sha256)
        return path

    @contextlib.contextmanager
    def lock(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be the only process that fetches or brings this model."""
        work = self.root / ".work"
        work.mkdir(parents=True, exist_ok=True)
        with hold_lock(work / f"{name}.lock", waiting):
            yield

    def work_folder(self, name: str) -> Path:
        """Where a model is while it is not whole; on the store's file system."""
        folder = self.root / ".work" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_work_folder(self, name: str) -> None:
        """Remove what is left of the work on a model."""
        shutil.rmtree(self.root / ".work" / name, ignore_errors=True)

    def _file(self, entry: CatalogueEntry) -> Path:
        return self.root / entry.file

    def _brought(self) -> Iterator[StoredModel]:
        if not self.root.is_dir():
            return
        catalogued = {entry.file for entry in self.catalogue.models}
        for path in sorted(self.root.iterdir()):
            if path.name in catalogued or path.name.startswith(".") or not path.is_file():
                continue
            with contextlib.suppress(ModelError):
                yield StoredModel(
                    name=path.name, kind=detect_kind(path), size=path.stat().st_size, path=str(path)
                )

    def _brought_path(self, name: str) -> Path:
        for stored in self._brought():
            if stored.name == name:
                return self.root / name
        raise self.catalogue.unknown(name)

    def _refuse_other(self, file: str, sha256: str) -> None:
        """Raise Conflict if a file of this name is here and is not the same, or is spoken for."""
        spoken_for = any(entry.file == file for entry in self.catalogue.models)
        path = self.root / file
        if spoken_for or (path.exists() and files.digest(path) != sha256):
            raise Conflict(
                f"Another model is called {file}, and it was left alone. Rename the file that you "
                "bring, and import it again.",
                code=ErrorCode.MODEL_EXISTS,
            )

    def _receipt(self, path: Path) -> _Receipt | None:
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
    """What a model file is for, by its first four bytes. Raises ModelError if it is not one."""
    with files.disk_errors(path.parent), path.open("rb") as file:
        magic = file.read(len(GGUF_MAGIC))
    if magic == GGUF_MAGIC:
        return "llm"
    if magic == GGML_MAGIC:
        return "stt"
    likely = {b"vers": "a Git LFS pointer, not the model itself", b"<!DO": "a web page"}
    raise ModelError(
        f"{path} is not a model: it begins with neither GGUF (llama.cpp) nor ggml's number "
        f"(whisper.cpp). It looks like {likely.get(magic, 'another format')}; download it again.",
        code=ErrorCode.MODEL_FORMAT,
    )
