"""Makes `.venv` and keeps it in step with pyproject.toml, showing what takes time.

    python packaging/install.py EXTRA...

Runs before anything is installed, so it uses the standard library alone. A stamp inside `.venv`
makes the second run quick. The same command goes on after an interruption: pip keeps what it has
downloaded and what it has compiled.
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
"""Ships as source only, so pip compiles it."""

CMAKE_ARGS = "-DLLAVA_BUILD=OFF"
"""Leaves out llama.cpp's vision library: prep never loads it and it is a third of the compile."""

COMPILER_HELP = (
    f"{COMPILED} is compiled here and there is no C++ compiler. Install one and repeat:\n"
    "    sudo apt-get install build-essential"
)
PORTAUDIO_HELP = (
    "PortAudio is missing, so the microphone is disabled; all else works. To speak your answers: "
    "sudo apt-get install libportaudio2"
)

ADVICE = (
    ("No space left on device", "The disk is full: the environment needs about 1 GB."),
    ("Temporary failure in name resolution", "The package index cannot be reached."),
    ("Failed to establish a new connection", "The package index cannot be reached."),
    ("CMAKE_CXX_COMPILER", COMPILER_HELP),
    ("Killed signal terminated program", "The compiler ran out of memory: about 2 GB are needed."),
    ("CMake build failed", f"{COMPILED} did not compile; the log says why."),
)
"""What a line in pip's log means for the person who reads it."""


def main(extras: list[str]) -> int:
    """Bring `.venv` up to date with these extras; the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    if is_ready(extras):
        return 0
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this folder is running; waiting for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(extras):
            return 0
        return set_up(extras, lock)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    finally:
        os.close(lock)


def is_ready(extras: list[str]) -> bool:
    """Whether the stamp says that this very pyproject.toml is installed, and Python still runs."""
    try:
        stamp = json.loads(STAMP.read_text())
        fresh = stamp["key"] == _key() and set(extras) <= set(stamp["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return fresh and _runs("-c", "import importlib.metadata as m; m.version('prep-interview')")


def set_up(extras: list[str], lock: int) -> int:
    """Make the environment if it is missing or broken, then install; the exit code."""
    if not _runs("-m", "pip", "--version") or not _wanted_version():
        print(f"Making .venv with Python {sys.version.split()[0]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    STAMP.unlink(missing_ok=True)

    command = [str(PYTHON), "-m", "pip", "install", "-v", "--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check"]
    if "server" in extras and not _runs(
        "-c", "import importlib.metadata as m; m.version('llama_cpp_python')"
    ):
        if _has_compiler():
            print(
                f"Installing. {COMPILED} is compiled here, which takes 6 to 11 minutes on two"
                " cores unless pip kept it from an earlier time.",
                flush=True,
            )
        else:
            command += ["--only-binary", COMPILED]
    command += ["--editable", f".[{','.join(extras)}]"]

    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("CMAKE_ARGS", CMAKE_ARGS)
    progress = Progress(live=is_live(sys.stdout))
    # A session of its own, so that an interruption also ends the compilers that pip started. The
    # lock goes along: should this process be killed, the next one waits until pip has ended.
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
    """Changes with whatever makes an installed environment stale, the folder's place included."""
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
    """An environment is kept as long as it is new enough, unless another Python was asked for."""
    version = tuple(int(part) for part in _venv_version().split(".")[:2])
    if os.environ.get("PYTHON"):
        return version == sys.version_info[:2]
    return version >= (3, 11)


def _runs(*arguments: str) -> bool:
    """Whether the environment's Python succeeds with these arguments."""
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
    """Tell why pip failed: in a sentence where that is known, else by the end of its log."""
    log = LOG.read_text(errors="replace")
    advice = next((advice for sign, advice in ADVICE if sign in log), "")
    if f"No matching distribution found for {COMPILED}" in log and not _has_compiler():
        advice = COMPILER_HELP
    if not advice:
        print("\n".join(log.splitlines()[-25:]), file=sys.stderr)
    print(f"The installation failed. The whole log: {LOG}", file=sys.stderr)
    if advice:
        print(advice, file=sys.stderr)


def _end_session(child: subprocess.Popen[str]) -> None:
    """End a child and all that it started; pip removes its temporary folders when interrupted."""
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
