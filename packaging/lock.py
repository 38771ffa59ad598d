"""Lock files of the installation, which name the version and the hashes of every package.

    python packaging/lock.py [--upgrade]    update packaging/locks after a change of pyproject.toml
    python packaging/lock.py --check        exit with 1 if a lock file is stale

An update keeps the locked versions that pyproject.toml still allows; with `--upgrade` it takes the
newest. It needs uv and a package index; everything else here uses only the standard library.
`dev.txt` holds the packages that `server.txt` lacks. Two packages are left out: llama-cpp-python,
which pyproject.toml pins and which is compiled apart from the rest, and pip, which compiles it.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from llama_build import COMPILED

__all__ = ["LOCKS", "fresh"]

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "packaging" / "locks"

EXTRAS = ("server", "dev")
"""Extras with a lock file, each of which is installed together with those before it."""

HEADER = (
    "# Written by `make lock` from pyproject.toml; do not edit.\n# Hash of the requirements: {}\n"
)


def digest(extra: str) -> str:
    """Return a hash of the requirements in pyproject.toml that determine the lock of `extra`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    wanted = [optional[name] for name in EXTRAS[: EXTRAS.index(extra) + 1]]
    text = json.dumps([project["requires-python"], project["dependencies"], wanted])
    return hashlib.sha256(text.encode()).hexdigest()


def fresh(extra: str) -> bool:
    """Return True if the lock file of `extra` was written for today's pyproject.toml."""
    path = LOCKS / f"{extra}.txt"
    return path.exists() and path.read_text("utf-8").startswith(HEADER.format(digest(extra)))


def update(upgrade: bool) -> None:
    """Write all lock files, or none if uv fails."""
    texts: dict[str, str] = {}
    locked: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="prep-lock-") as scratch:
        constraints = Path(scratch) / "locked.txt"
        constraints.touch()
        for number, extra in enumerate(EXTRAS, 1):
            output = Path(scratch) / f"{extra}.txt"
            if (LOCKS / output.name).exists() and not upgrade:
                shutil.copy(LOCKS / output.name, output)
            extras = [f"--extra={name}" for name in EXTRAS[:number]]
            subprocess.run(
                [
                    *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"),
                    *("--python-version", "3.11", "--generate-hashes", "--no-header"),
                    *("--no-annotate", f"--no-emit-package={COMPILED}", "--no-emit-package=pip"),
                    *extras,
                    *("--constraints", str(constraints), "-o", str(output), "pyproject.toml"),
                ],
                cwd=ROOT,
                check=True,
            )
            shutil.copy(output, constraints)
            blocks = re.findall(r"^\w.*\n(?:[ \t].*\n)*", output.read_text("utf-8"), re.MULTILINE)
            added = [block for block in blocks if block not in locked]
            locked.update(blocks)
            texts[extra] = HEADER.format(digest(extra)) + "".join(added)
    LOCKS.mkdir(exist_ok=True)
    for extra, text in texts.items():
        (LOCKS / f"{extra}.txt").write_text(text, "utf-8")


def main(arguments: list[str]) -> int:
    """Update or check the lock files and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--upgrade", action="store_true")
    options = parser.parse_args(arguments)
    if not options.check:
        try:
            update(options.upgrade)
        except subprocess.CalledProcessError as error:
            return int(error.returncode)
    stale = [f"packaging/locks/{extra}.txt" for extra in EXTRAS if not fresh(extra)]
    if stale:
        print(
            f"pyproject.toml lists other requirements than {' and '.join(stale)}. Run make lock"
            " and commit the result.",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
