"""What the processes that prep starts for itself have in common; each is a program of its own."""

import os
import threading

__all__ = ["exit_with_parent", "separate_output"]


def separate_output() -> int:
    """Return a descriptor of standard output, and send to standard error what libraries print on
    standard output from now on."""
    output = os.dup(1)
    os.dup2(2, 1)
    return output


def exit_with_parent() -> None:
    """Exit as soon as standard input ends, which prep keeps open. Reads the rest of it in a
    thread."""
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)
