"""Installer: creates `.venv` from pyproject.toml and updates it when that file changes.

    python packaging/install.py EXTRA...

This script runs before anything is installed, so it uses the standard library alone. A stamp in
`.venv` makes later runs fast. After an interruption, run the same command again: pip caches its
downloads and builds.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from progress import Progress, follow, is_live

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "prep-stamp.json"
LOG = VENV / "install.log"

COMPILED = "llama-cpp-python"
"""Package that is published as source only, so that pip must compile it."""

CMAKE_ARGS = " ".join(
    (
        "-DLLAVA_BUILD=OFF",
        "-DCMAKE_C_FLAGS=-U__AMX_INT8__",
        "-DCMAKE_CXX_FLAGS=-U__AMX_INT8__",
    )
)
"""CMake options that leave out llama.cpp's vision library, which prep never loads and which takes a
third of the build time, and its AMX kernels, which crash on some Intel processors
(ggml-org/llama.cpp#20824)."""

COMPILER_HELP = (
    f"{COMPILED} must be compiled, but no C++ compiler was found. Install one and try again:\n"
    "    sudo apt-get install build-essential"
)
PORTAUDIO_HELP = (
    "PortAudio is not installed, so the microphone is disabled. To speak your answers, install it; "
    "on Debian or Ubuntu: sudo apt-get install libportaudio2"
)

NETWORK_HELP = "The package index cannot be reached. Check the network and try again."

ADVICE = (
    (
        "No space left on device",
        "The disk is full: the environment needs about 1 GB. Free some space and try again.",
    ),
    ("Temporary failure in name resolution", NETWORK_HELP),
    ("Failed to establish a new connection", NETWORK_HELP),
    ("CMAKE_CXX_COMPILER", COMPILER_HELP),
    (
        "Killed signal terminated program",
        "The compiler ran out of memory: it needs about 2 GB. Close other programs and try again.",
    ),
    ("CMake build failed", f"{COMPILED} failed to compile; the log has the details."),
)
"""Pairs of a text in pip's log and the advice to print for it."""


def main(extras: list[str]) -> int:
    """Bring `.venv` up to date with these extras and return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if is_ready(extras):
        return 0
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                "Waiting for another installation in this folder to finish.",
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(extras):
            return 0
        return set_up(extras, lock)
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command to continue.", file=sys.stderr)
        return 130
    finally:
        os.close(lock)


def is_ready(extras: list[str]) -> bool:
    """Return True if this pyproject.toml is installed with these extras and Python still runs."""
    try:
        stamp = json.loads(STAMP.read_text())
        fresh = stamp["key"] == _key() and set(extras) <= set(stamp["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return fresh and _runs("-c", "import importlib.metadata as m; m.version('prep-interview')")


def set_up(extras: list[str], lock: int) -> int:
    """Create the environment if it is missing or broken, install, and return the exit code."""
    if not _runs("-m", "pip", "--version") or not _wanted_version():
        print(f"Creating .venv with Python {sys.version.split()[0]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    STAMP.unlink(missing_ok=True)

    command = [str(PYTHON), "-m", "pip", "install", "-v", "--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check"]
    if "server" in extras and not _runs(
        "-c", "import importlib.metadata as m; m.version('llama_cpp_python')"
    ):
        if _has_compiler():
            print(
                f"Installing. Compiling {COMPILED} takes 4 to 11 minutes on two cores, unless pip"
                " has cached an earlier build.",
                flush=True,
            )
        else:
            command += ["--only-binary", COMPILED]
    command += ["--editable", f".[{','.join(extras)}]"]

    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("CMAKE_ARGS", CMAKE_ARGS)
    progress = Progress(live=is_live(sys.stdout))
    # A new session, so that an interruption also ends the compilers that pip started. pip inherits
    # the lock: if this process is killed, the next one waits until pip has finished.
    pip = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=(lock,),
    )
    try:
        code = follow(pip, LOG, progress)
    except BaseException:
        progress.end()
        _end_session(pip)
        raise
    progress.end()
    if code != 0:
        _explain()
        return 1
    STAMP.write_text(json.dumps({"key": _key(), "extras": sorted(extras)}))
    print(f"Installed in {progress.elapsed()}.", flush=True)
    if not _runs("-c", "import sounddevice"):
        print(PORTAUDIO_HELP, flush=True)
    return 0


def _key() -> str:
    """Return a hash of everything that makes an environment stale when it changes."""
    digest = hashlib.sha256(str(ROOT).encode())
    digest.update((ROOT / "pyproject.toml").read_bytes())
    digest.update(_venv_version().encode())
    return digest.hexdigest()


def _venv_version() -> str:
    for line in (VENV / "pyvenv.cfg").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "version":
            return value.strip()
    return ""


def _wanted_version() -> bool:
    """Return True if the environment's Python has the version of the interpreter that `PYTHON`
    requests, or 3.11 or newer if none is requested."""
    version = tuple(int(part) for part in _venv_version().split(".")[:2])
    if os.environ.get("PYTHON"):
        return version == sys.version_info[:2]
    return version >= (3, 11)


def _runs(*arguments: str) -> bool:
    """Return True if the environment's Python exits successfully with these arguments."""
    try:
        done = subprocess.run(
            [str(PYTHON), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    return done.returncode == 0


def _has_compiler() -> bool:
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return any(shutil.which(name.split()[0]) for name in names if name)


def _explain() -> None:
    """Print why pip failed: advice if the cause is known, otherwise the end of the log."""
    log = LOG.read_text(errors="replace")
    advice = next((advice for sign, advice in ADVICE if sign in log), "")
    if f"No matching distribution found for {COMPILED}" in log and not _has_compiler():
        advice = COMPILER_HELP
    if not advice:
        print("\n".join(log.splitlines()[-25:]), file=sys.stderr)
    print(f"The installation failed. Full log: {LOG}", file=sys.stderr)
    if advice:
        print(advice, file=sys.stderr)


def _end_session(child: subprocess.Popen[str]) -> None:
    """End a child process and its descendants: SIGINT lets pip remove its temporary folders,
    SIGKILL follows after 10 s."""
    for number, seconds in ((signal.SIGINT, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(child.pid, number)
            child.wait(seconds)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
