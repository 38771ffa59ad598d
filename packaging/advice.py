"""Advice to print when an installation fails."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from llama_build import COMPILED

__all__ = ["COMPILER_HELP", "explain", "has_compiler", "no_wheel"]

COMPILER_HELP = (
    f"{COMPILED} must be compiled, but no C++ compiler was found. Install one (on Debian or Ubuntu:"
    " sudo apt-get install build-essential) and try again."
)
NETWORK_HELP = "The package index cannot be reached. Check the network and try again."
HASH_HELP = (
    "The index serves a file other than the one in packaging/locks. Try again. If your index builds"
    " its packages itself, delete packaging/locks to accept them."
)

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
    ("DO NOT MATCH THE HASHES", HASH_HELP),  # pip
    ("Hash mismatch for", HASH_HELP),  # uv
    ("CMake build failed", f"{COMPILED} failed to compile. The log shows the compiler's error."),
)
"""Pairs of a text that may appear in the log and the advice to print if it does."""


def explain(log: Path, missing: str) -> None:
    """Report a failed installation: print advice if the cause is known, otherwise the end of the
    log. `missing` is the advice to give if llama-cpp-python was not found."""
    text = log.read_text(errors="replace")
    advice = next((advice for sign, advice in ADVICE if sign in text), "")
    if f"No matching distribution found for {COMPILED}" in text:
        advice = missing
    if not advice:
        print("\n".join(text.splitlines()[-25:]), file=sys.stderr)
    print(f"The installation failed. Full log: {log}", file=sys.stderr)
    if advice:
        print(advice, file=sys.stderr)


def has_compiler() -> bool:
    """Return True if a C++ compiler is on the PATH or named by the variable `CXX`."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return any(shutil.which(name.split()[0]) for name in names if name)


def no_wheel(folder: Path, requirement: str) -> str:
    """Return the advice for a folder without a suitable wheel of llama-cpp-python."""
    found = [wheel.name for wheel in sorted(folder.glob("llama_cpp_python-*.whl"))]
    return (
        f"{folder} has no wheel of {requirement} for Python {sys.version.split()[0]} on"
        f" {sysconfig.get_platform()} (found: {', '.join(found) or 'none'}). Build one on such a"
        f" machine with: make wheel WHEELS={folder}. Or leave out WHEELS to compile it here."
    )
