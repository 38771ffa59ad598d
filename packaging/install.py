"""Installer that creates `.venv` from the lock files and updates it when they change.

    python packaging/install.py EXTRA... [--pull MODEL] [--wheels FOLDER]

This script runs before anything is installed, so it uses only the standard library. A stamp in
`.venv` makes later runs fast. llama-cpp-python is installed from FOLDER, or compiled while all the
rest is installed and the models are downloaded. uv installs the rest if it is on the PATH. After an
interruption, run the same command again: pip and uv cache their downloads and builds.
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
import tomllib
from pathlib import Path
from types import FrameType

from advice import COMPILER_HELP, explain, has_compiler, no_wheel
from llama_build import COMPILED, NATIVE
from lock import LOCKS, fresh
from progress import Job, Progress, follow, is_live

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "prep-stamp.json"
LOG = VENV / "install.log"
WHEELS = VENV / "wheels"

PORTAUDIO_HELP = (
    "PortAudio is not installed, so the microphone is disabled. To speak your answers, install "
    "PortAudio (on Debian or Ubuntu: sudo apt-get install libportaudio2)."
)


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
        _create()
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    requirements = _requirements(extras)
    compiled = [line for line in requirements if line.startswith(COMPILED) and not _has(line)]
    rest = _locked(extras) or [line for line in requirements if not line.startswith(COMPILED)]
    progress = Progress(live=is_live(sys.stdout))
    jobs: list[Job] = []
    try:
        build = None
        links: list[str | Path] = ["--find-links", folder] if folder else []
        if compiled and folder:
            wheel = _pip("install", "-v", "--no-deps", "--no-index", "--only-binary", ":all:")
            if follow(jobs, [_start(jobs, lock, *wheel, *links, *compiled)], progress) != 0:
                return _fail(progress, no_wheel(folder, compiled[0]))
        elif compiled:
            print(
                f"Installing. Compiling {COMPILED} takes 2 to 5 minutes on two cores, unless pip"
                " has cached an earlier build.",
                flush=True,
            )
            only = [] if has_compiler() else ["--only-binary", COMPILED]
            wheel = _pip("wheel", "-v", "--no-deps", "-w", WHEELS)
            build = _start(jobs, lock, *wheel, *only, *compiled)
        for packages in ([*links, *rest], ["--no-deps", "--editable", "."]):
            # uv may fail where pip works, as behind an index that only pip's settings name.
            for tool in _tools():
                if follow(jobs, [_start(jobs, lock, *tool, *packages)], progress) == 0:
                    break
            else:
                return _fail(progress)
        if models:
            _start(jobs, lock, PYTHON, "-m", "prepserver", "models", "pull", models)
        if build is not None:
            if follow(jobs, [build], progress) != 0:
                return _fail(progress)
            wheels = sorted(WHEELS.glob("*.whl"))
            if follow(jobs, [_start(jobs, lock, *_pip("install", *wheels))], progress) != 0:
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


def _create() -> None:
    """Create `.venv` with a pip that can build wheels, using uv if it is installed."""
    print(f"Creating .venv with Python {sys.version.split()[0]}", flush=True)
    uv = shutil.which("uv")
    seeded = ("venv", "--quiet", "--seed", "--clear", "--python", sys.executable, VENV)
    if uv is None or subprocess.run([uv, *seeded]).returncode != 0:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    # Before anything else: pip must not replace itself while it compiles.
    subprocess.run(_pip("install", "--quiet", "pip>=23"))


def _pip(*arguments: str | Path) -> tuple[str | Path, ...]:
    """Return the command that runs the environment's pip with `arguments`."""
    return (PYTHON, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments)


def _tools() -> list[tuple[str | Path, ...]]:
    """Return the commands that install packages into the environment, the first to be tried
    first."""
    pip = _pip("install", "-v", "--progress-bar", "off")
    uv = shutil.which("uv")
    return [(uv, "pip", "install", "--python", PYTHON), pip] if uv else [pip]


def _requirements(extras: list[str]) -> list[str]:
    """Return the project's requirements from pyproject.toml, including those of `extras`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def _locked(extras: list[str]) -> list[str | Path]:
    """Return the arguments that install the packages of the lock files, or an empty list if a lock
    file is stale."""
    if not all(fresh(extra) for extra in extras):
        print(
            "pyproject.toml has changed since packaging/locks was written, so the newest versions"
            " that it allows are installed. To update the lock files: make lock",
            flush=True,
        )
        return []
    return [part for extra in extras for part in ("-r", LOCKS / f"{extra}.txt")]


def _has(requirement: str) -> bool:
    """Return True if the version that a requirement pins, as in `name==version`, is installed."""
    name, _, version = requirement.partition("==")
    return _runs("-c", f"import importlib.metadata as m; assert m.version({name!r}) == {version!r}")


def _start(jobs: list[Job], lock: int, *command: str | Path) -> Job:
    """Start a job that runs `command` in a session of its own, add it to `jobs` and return it.

    When the installation is interrupted, ending the session also ends the compilers that pip has
    started.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.setdefault("CMAKE_ARGS", NATIVE)
    process = subprocess.Popen(
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
    jobs.append(Job(process, LOG))
    return jobs[-1]


def _fail(progress: Progress, missing: str = COMPILER_HELP) -> int:
    progress.end()
    explain(LOG, missing)
    return 1


def _key() -> str:
    """Return a hash of all data whose change makes the environment stale."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (ROOT / "pyproject.toml", *sorted(LOCKS.glob("*.txt"))):
        digest.update(path.read_bytes())
    digest.update(_venv_version().encode())
    return digest.hexdigest()


def _venv_version() -> str:
    for line in (VENV / "pyvenv.cfg").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() in ("version", "version_info"):  # as venv and as uv call it
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
