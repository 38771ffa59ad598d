"""Display of child processes' progress: a live line on a terminal, a line every 30 s elsewhere."""

import os
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

__all__ = ["Job", "Progress", "follow", "is_live"]

REPORT_EVERY = 30.0
"""Maximum number of seconds between two lines when the output is not a live terminal."""

REDRAW_EVERY = 0.1
"""Minimum number of seconds between two updates of the live line; pip prints far more often."""

STAGES = (
    (re.compile(r"^\s*Collecting (\S+)"), "collecting {}"),
    (re.compile(r"^\s*Downloading (\S+ \([^)]*\))"), "downloading {}"),
    (re.compile(r"^\s*Building wheel for (\S+)"), "building {}"),
    (re.compile(r"^(Resolved|Prepared) (\d+ packages?)"), "{} {}"),  # by uv
    (re.compile(r"^\s*(?:Attempting|Installing) (?:uninstall|collected packages)"), "installing"),
)
STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")
"""Pattern that matches Ninja's build step counter, such as `[12/90]`."""


def is_live(stream: TextIO) -> bool:
    """Return True if the stream is a terminal that can redraw a line, outside continuous
    integration."""
    dumb = os.environ.get("TERM", "dumb") == "dumb" or bool(os.environ.get("CI"))
    return stream.isatty() and not dumb


class Progress:
    """Display of the installation's current stage and the elapsed time."""

    def __init__(self, *, live: bool, now: Callable[[], float] = time.monotonic) -> None:
        """Redraw one line if `live` is True; otherwise print a new line for each report."""
        self._now = now
        self._started = self._shown = now()
        self._live = live
        self.stage = "installing packages"
        self.step = ""

    def elapsed(self) -> str:
        """Return the time since the start as minutes and seconds, such as `3:07`."""
        seconds = int(self._now() - self._started)
        return f"{seconds // 60}:{seconds % 60:02}"

    def read(self, line: str) -> None:
        """Update the stage or the build step from one line of pip's output."""
        for pattern, stage in STAGES:
            if found := pattern.match(line):
                self.stage = stage.format(*found.groups())
                if stage.startswith("building") and not self._live:
                    self._report()
                return
        if found := STEP.match(line):
            self.step = f"{found[1]}/{found[2]}"

    def tick(self) -> None:
        """Show the stage if an update is due. Must be called at least once a second."""
        silent = self._now() - self._shown
        if self._live and silent >= REDRAW_EVERY:
            self._shown = self._now()
            text = self._text()[: shutil.get_terminal_size().columns - 1]
            print(f"\r{text}\x1b[K", end="", flush=True)
        elif not self._live and silent >= REPORT_EVERY:
            self._report()

    def end(self) -> None:
        """Clear the live line, if there is one."""
        if self._live:
            print("\r\x1b[K", end="", flush=True)

    def _report(self) -> None:
        self._shown = self._now()
        print(self._text(), flush=True)

    def _text(self) -> str:
        between = " " if self.stage.startswith("building") else ", building "
        return f"[{self.elapsed()}] {self.stage}{between * bool(self.step)}{self.step}"


class Job:
    """A child process whose output goes to a log file."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log = log
        # A thread, because the elapsed time must keep moving while the child prints nothing.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self._log.open("a") as log, self.process.stdout as output:
            for line in output:
                log.write(line)
                self.lines.put(line)

    def wait(self) -> int:
        """Wait until the child has ended and its output is logged; return the exit code."""
        self._reader.join()
        return self.process.wait()


def follow(jobs: list[Job], awaited: list[Job], progress: Progress) -> int:
    """Show the progress of `jobs` until the `awaited` ones have ended.

    Return 0 if all awaited jobs succeeded, otherwise the highest of their exit codes. For a job
    that a signal ended, the number of the signal counts as the exit code.
    """
    code: int | None = None
    while code is None:
        if all(job.process.poll() is not None for job in awaited):
            code = max((abs(job.wait()) for job in awaited), default=0)
        progress.tick()
        # After `wait`, the last lines of the awaited jobs are in the queues.
        for job in jobs:
            while not job.lines.empty():
                progress.read(job.lines.get())
        if code is None:
            time.sleep(0.1)
    return code
