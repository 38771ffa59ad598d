"""Installer that creates `.venv` from pyproject.toml and updates it when that file changes.

    python packaging/install.py EXTRA... [--pull MODEL] [--wheels FOLDER]

This script runs before anything is installed, so it uses only the standard library. A stamp in
`.venv` makes later runs fast. llama-cpp-python is installed from FOLDER, or compiled while all the
rest is installed and the models are downloaded. After an interruption, run the same command again:
pip caches its downloads and builds.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from types import FrameType

from llama_build import COMPILED, NATIVE
from progress import Job, Progress, follow, is_live

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "prep-stamp.json"
LOG = VENV / "install.log"
WHEELS = VENV / "wheels"

COMPILER_HELP = (
    f"{COMPILED} must be compiled, but no C++ compiler was found. Install one (on Debian or Ubuntu:"
    " sudo apt-get install build-essential) and try again."
)
PORTAUDIO_HELP = (
    "PortAudio is not installed, so the microphone is disabled. To speak your answers, install "
    "PortAudio (on Debian or Ubuntu: sudo apt-get install libportaudio2)."
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
    ("CMake build failed", f"{COMPILED} failed to compile. The log shows the compiler's error."),
)
"""Pairs of a text that may appear in pip's log and the advice to print if it does."""


def main(arguments: list[str]) -> int:
    """Bring `.venv` up to date and return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--pull", metavar="MODEL", default="")
    parser.add_argument("--wheels", metavar="FOLDER", type=Path, help="folder of built wheels")
    options = parser.parse_args(arguments)
    wanted: list[str] = options.extras
    if is_ready(wanted):
        return 0
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another installation in this folder to finish.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(wanted):
            return 0
        folder = options.wheels and options.wheels.expanduser()
        return set_up(wanted, options.pull, folder, lock)
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to continue.", file=sys.stderr)
        return 130
    finally:
        os.close(lock)


def is_ready(extras: list[str]) -> bool:
    """Return True if `.venv` was installed from the current pyproject.toml with at least `extras`,
    and its Python still finds prep."""
    try:
        stamp = json.loads(STAMP.read_text())
        fresh = stamp["key"] == _key() and set(extras) <= set(stamp["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return fresh and _runs("-c", "import importlib.metadata as m; m.version('prep-interview')")


def set_up(extras: list[str], models: str, folder: Path | None, lock: int) -> int:
    """Create the environment if it is missing or unusable, install prep and its dependencies with
    the extras in `extras`, and return the exit code.

    `models` names the models to download during the installation. If `folder` is given, the wheel
    of llama-cpp-python is taken from it, and nothing is compiled. Child processes inherit `lock`:
    if this process is killed, the next installation waits until those children have ended.
    """
    if not _runs("-m", "pip", "--version") or not _wanted_version():
        print(f"Creating .venv with Python {sys.version.split()[0]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    requirements = _requirements(extras)
    compiled = [line for line in requirements if line.startswith(COMPILED) and not _has(line)]
    progress = Progress(live=is_live(sys.stdout))
    jobs: list[Job] = []
    try:
        build = None
        links: list[str | Path] = ["--find-links", folder] if folder else []
        if compiled and folder:
            wheel = (*_PIP, "install", "-v", "--no-deps", "--no-index", "--only-binary", ":all:")
            if follow(jobs, [_start(jobs, lock, *wheel, *links, *compiled)], progress) != 0:
                return _fail(progress, _no_wheel(folder, compiled[0]))
        elif compiled:
            print(
                f"Installing. Compiling {COMPILED} takes 2 to 5 minutes on two cores, unless pip"
                " has cached an earlier build.",
                flush=True,
            )
            only = [] if _has_compiler() else ["--only-binary", COMPILED]
            build = _start(
                jobs, lock, *_PIP, "wheel", "-v", "--no-deps", "-w", WHEELS, *only, *compiled
            )
        rest = [line for line in requirements if not line.startswith(COMPILED)]
        steps = [
            (*_PIP, "install", "-v", "--progress-bar", "off", *links, *rest),
            (*_PIP, "install", "-v", "--no-deps", "--editable", "."),
        ]
        for step in steps:
            if follow(jobs, [_start(jobs, lock, *step)], progress) != 0:
                return _fail(progress)
        if models:
            _start(jobs, lock, "-m", "prepserver", "models", "pull", models)
        if build is not None:
            if follow(jobs, [build], progress) != 0:
                return _fail(progress)
            wheels = sorted(WHEELS.glob("*.whl"))
            if follow(jobs, [_start(jobs, lock, *_PIP, "install", *wheels)], progress) != 0:
                return _fail(progress)
        # A failed download is reported by the command that needs the models.
        follow(jobs, jobs, progress)
    finally:
        progress.end()
        for job in jobs:
            _end_session(job.process)
    shutil.rmtree(WHEELS, ignore_errors=True)
    STAMP.write_text(json.dumps({"key": _key(), "extras": sorted(extras)}))
    print(f"Installed in {progress.elapsed()}.", flush=True)
    if not _runs("-c", "import sounddevice"):
        print(PORTAUDIO_HELP, flush=True)
    return 0


_PIP = ("-m", "pip", "--no-input", "--disable-pip-version-check")


def _requirements(extras: list[str]) -> list[str]:
    """Return the project's requirements from pyproject.toml, including those of `extras`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def _has(requirement: str) -> bool:
    """Return True if the version that a requirement pins, as in `name==version`, is installed."""
    name, _, version = requirement.partition("==")
    return _runs("-c", f"import importlib.metadata as m; assert m.version({name!r}) == {version!r}")


def _start(jobs: list[Job], lock: int, *arguments: str | Path) -> Job:
    """Start a job that runs the environment's Python with `arguments` in a session of its own. Add
    the job to `jobs` and return it.

    When the installation is interrupted, ending the session also ends the compilers that pip has
    started.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("CMAKE_ARGS", NATIVE)
    process = subprocess.Popen(
        [str(PYTHON), *map(str, arguments)],
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
    jobs.append(Job(process, LOG))
    return jobs[-1]


def _no_wheel(folder: Path, requirement: str) -> str:
    """Return the message for a folder without a suitable wheel of llama-cpp-python."""
    found = [wheel.name for wheel in sorted(folder.glob("llama_cpp_python-*.whl"))]
    return (
        f"{folder} has no wheel of {requirement} for Python {sys.version.split()[0]} on"
        f" {sysconfig.get_platform()} (found: {', '.join(found) or 'none'}). Build one on such a"
        f" machine with: make wheel WHEELS={folder}. Or leave out WHEELS to compile it here."
    )


def _fail(progress: Progress, no_wheel: str = COMPILER_HELP) -> int:
    progress.end()
    _explain(no_wheel)
    return 1


def _key() -> str:
    """Return a hash of all data whose change makes the environment stale."""
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
    """Return True if the environment has a suitable version of Python.

    If the environment variable `PYTHON` is set, a suitable version is that of the running
    interpreter; otherwise 3.11 or newer.
    """
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


def _explain(no_wheel: str) -> None:
    """Report a failed installation: print advice if the cause is known, otherwise the end of the
    log. `no_wheel` is the advice for a missing wheel of llama-cpp-python."""
    log = LOG.read_text(errors="replace")
    advice = next((advice for sign, advice in ADVICE if sign in log), "")
    if f"No matching distribution found for {COMPILED}" in log:
        advice = no_wheel
    if not advice:
        print("\n".join(log.splitlines()[-25:]), file=sys.stderr)
    print(f"The installation failed. Full log: {LOG}", file=sys.stderr)
    if advice:
        print(advice, file=sys.stderr)


def _end_session(child: subprocess.Popen[str]) -> None:
    """Send SIGINT to a running child process and its descendants, so that pip can remove its
    temporary folders. SIGKILL follows once the child has ended, after 10 s at most."""
    if child.poll() is not None:
        return
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
