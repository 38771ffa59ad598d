"""Builder of a wheel of llama-cpp-python that runs on every processor of this machine's kind.

    python packaging/llama_build.py FOLDER

`make run WHEELS=FOLDER` installs the wheel, so that it is compiled once for many machines. This
script uses only the standard library and pip.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

__all__ = ["COMPILED", "NATIVE", "requirement"]

PACKAGING = Path(__file__).resolve().parent

COMPILED = "llama-cpp-python"
"""Name of the package that is published only as source code."""

NATIVE = shlex.join(
    (
        "-DLLAVA_BUILD=OFF",
        "-DCMAKE_C_FLAGS=-U__AMX_INT8__",
        "-DCMAKE_CXX_FLAGS=-U__AMX_INT8__",
        f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={PACKAGING / 'llama.cmake'}",
    )
)
"""CMake options for this processor. They leave out llama.cpp's vision library and command-line
helpers, which prep never loads and which make up two thirds of the build. They also leave out the
AMX kernels, which crash on some Intel processors (ggml-org/llama.cpp#20824)."""

PORTABLE = shlex.join(
    (
        "-DGGML_NATIVE=OFF",
        "-DGGML_BACKEND_DL=ON",
        "-DGGML_CPU_ALL_VARIANTS=ON",
        "-DCMAKE_INSTALL_BINDIR=llama_cpp/lib",
    )
)
"""Further CMake options that compile the kernels once for each generation of processors. llama.cpp
loads the fastest that the processor supports."""


def requirement() -> str:
    """Return the requirement of pyproject.toml on llama-cpp-python, as in `name==version`."""
    text = (PACKAGING.parent / "pyproject.toml").read_text("utf-8")
    server: list[str] = tomllib.loads(text)["project"]["optional-dependencies"]["server"]
    return next(line for line in server if line.startswith(COMPILED))


def main(arguments: list[str]) -> int:
    """Build the wheel and return pip's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder.expanduser()
    print(f"Compiling {requirement()} for all processors takes 10 to 20 minutes on two cores.")
    with tempfile.TemporaryDirectory(prefix="prep-wheel-") as scratch:
        venv.create(scratch, with_pip=True)
        done = subprocess.run(
            # pip's cache may hold a wheel that was compiled for this processor alone.
            [
                *(f"{scratch}/bin/python", "-m", "pip", "--no-input", "wheel", "--no-cache-dir"),
                *("--no-deps", "--no-binary", COMPILED, "-w", str(folder), requirement()),
            ],
            env=os.environ | {"CMAKE_ARGS": f"{NATIVE} {PORTABLE}"},
        )
    if done.returncode == 0:
        print(f"To install it on a machine: make run WHEELS={folder}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
