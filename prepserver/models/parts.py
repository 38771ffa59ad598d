"""Models that are split into several GGUF files, as llama.cpp's `llama-gguf-split` writes them.

llama.cpp opens the first file of such a model and finds the others by their names,
`NAME-00001-of-00003.gguf` and so on. Each file states its number and the number of files.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from prepserver.errors import ModelError
from prepserver.models.gguf import GgufHeader, read_header
from prepserver.wire.error_codes import ErrorCode

__all__ = ["find_parts", "part_names"]

_NAME = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf\Z", re.DOTALL)
_MAX_NAMED = 3
"""Maximum number of missing files that an error names."""


def part_names(name: str) -> tuple[str, ...]:
    """Return the file names of all parts of a model in order, given the name of one of them.

    The result is only `name` if it is not the name of a part.
    """
    match = _NAME.match(name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return (name,)
    return _names(match["prefix"], int(match["count"]))


def find_parts(path: Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Find the files of the model to which the GGUF file `path` belongs.

    Return the files in order, and the name under which llama.cpp finds each of them. The files lie
    beside `path`, or beside the file that the link `path` leads to. Files that were renamed are
    found by their headers. Raises ModelError (`model_parts`) if files are missing or belong to
    different models, and the errors of `read_header`.
    """
    header = read_header(path)
    match = _NAME.match(path.name)
    if header.count == 1:
        # A model whose files were joined may still have the name of a part.
        return (path,), (f"{match['prefix']}.gguf" if match else path.name,)
    missing: ModelError | None = None
    for start in dict.fromkeys((path, path.resolve())):
        names = part_names(start.name)
        named = len(names) == header.count and names[header.number] == start.name
        try:
            if named:
                return _check_parts([start.with_name(name) for name in names], header), names
            found = _search_parts(start, header)
            match = _NAME.match(found[0].name)
            prefix = match["prefix"] if match else found[0].stem
            return _check_parts(found, header), _names(prefix, header.count)
        except ModelError as error:
            missing = missing or error
    assert missing is not None
    raise missing


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1))


def _search_parts(start: Path, header: GgufHeader) -> list[Path]:
    """Return the files beside `start` that state the same numbers of files and tensors as `header`,
    ordered by their own numbers."""
    found: dict[int, Path] = {header.number: start}
    for path in sorted(start.parent.glob("*.gguf")):
        if path.name == start.name or not path.is_file():
            continue
        try:
            other = read_header(path)
        except ModelError:
            continue
        if (other.count, other.tensors) != (header.count, header.tensors):
            continue
        if other.number in found:
            raise _parts_error(
                f"{found[other.number].name} and {path.name} in {start.parent} both say that they "
                f"are file {other.number + 1} of {header.count}. Move the files of each model into "
                "a folder of their own, then try again."
            )
        found[other.number] = path
    absent = [number for number in range(header.count) if number not in found]
    if absent:
        raise _parts_error(
            f"{start.name} is file {header.number + 1} of a model in {header.count} files. Missing "
            f"in {start.parent}: file {_list_some(number + 1 for number in absent)}. Download the "
            "missing files into the same folder, then try again."
        )
    return [found[number] for number in range(header.count)]


def _check_parts(paths: list[Path], header: GgufHeader) -> tuple[Path, ...]:
    """Return `paths`. Raises ModelError unless each is the file that its place demands."""
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise _parts_error(
            f"The model is in {len(paths)} files. Missing in {paths[0].parent}: "
            f"{_list_some(absent)}. Download the missing files into the same folder, then try "
            "again."
        )
    for number, path in enumerate(paths):
        found = read_header(path)
        if (found.number, found.count, found.tensors) != (number, header.count, header.tensors):
            raise _parts_error(
                f"{path} is not file {number + 1} of {header.count} of this model: it belongs to "
                "another model or was renamed. Download it again."
            )
    return tuple(paths)


def _parts_error(message: str) -> ModelError:
    return ModelError(message, code=ErrorCode.MODEL_PARTS)


def _list_some(items: Iterable[object]) -> str:
    """Return the first `_MAX_NAMED` items and the number of the others."""
    texts = [str(item) for item in items]
    more = len(texts) - _MAX_NAMED
    return ", ".join(texts[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
