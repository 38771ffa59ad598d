"""Memory that is free in this process, back to the system."""

import ctypes
import sys

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Where the C library keeps what was freed, make it let go; elsewhere nothing.

    SQLite's page caches are many small pieces: after a hundred databases are closed, glibc holds
    on to nearly all of what they used.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
