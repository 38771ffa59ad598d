"""Choice of the input and the output of a headless interview from the standard streams."""

import contextlib
import os
import signal
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import click

from prepcli.headless.answers import Answer, AnswerQueue, DescriptorReader
from prepcli.headless.output import JsonOutput, Output, PlainOutput, PrintAbove, print_now
from prepcli.local_server.commands import MissingModel
from prepcli.terminal_text import printable

__all__ = ["confirm_fetch", "find_screen_obstacle", "open_streams", "print_note"]


def find_screen_obstacle(screen: TextIO, environment: Mapping[str, str]) -> str:
    """Return a sentence that says why the terminal `screen` cannot show the full-screen app, or an
    empty string if it can."""
    try:
        "─█●…".encode(screen.encoding)
    except UnicodeEncodeError:
        return (
            f"This terminal's encoding, {screen.encoding}, lacks the characters of the screen, so "
            "prep prints lines. Select a UTF-8 locale to get the screen."
        )
    if environment.get("TERM", "dumb").lower() in ("", "dumb", "unknown"):
        return (
            "TERM does not name a terminal that can move its cursor, so prep prints lines. Set "
            "TERM, for example to xterm-256color, to get the screen."
        )
    return ""


@contextlib.contextmanager
def open_streams(
    prepared: Sequence[Answer], *, as_json: bool
) -> Iterator[tuple[AnswerQueue, Output]]:
    """Return the queue of answers and the output of an interview on the standard streams.

    After the prepared answers, a terminal supplies answers through a line editor. Another standard
    input supplies its lines, but only if no answer is prepared: a script with prepared answers
    expects no others.
    """
    if sys.stdin.isatty():
        from prepcli.headless.editor import LineEditor  # importing prompt_toolkit takes 0.2 s

        with _open_screen(as_json) as screen, LineEditor(sys.stdin, screen) as editor:
            yield AnswerQueue(prepared, editor), _create_output(as_json, editor.print_above)
    else:
        lines = None if prepared else DescriptorReader(0)
        yield AnswerQueue(prepared, lines), _create_output(as_json)


def _create_output(as_json: bool, print_above: PrintAbove = print_now) -> Output:
    if as_json:
        return JsonOutput(sys.stdout, sys.stderr, print_above)
    live = sys.stdout.isatty()
    return PlainOutput(sys.stdout, sys.stderr, print_above, live=live)


@contextlib.contextmanager
def _open_screen(as_json: bool) -> Iterator[TextIO]:
    """Return the stream on which a line editor draws. JSON on standard output is not mixed with
    it."""
    if sys.stdout.isatty() and not as_json:
        yield sys.stdout
    elif sys.stderr.isatty():
        yield sys.stderr
    else:
        try:
            name = os.ttyname(0)
        except OSError:  # the name is of another file system, as in some containers
            name = os.devnull
        with Path(name).open("w", errors="replace") as screen:
            yield screen


def print_note(line: str) -> None:
    """Print a note from prep itself on standard error."""
    print(f"· {printable(line)}", file=sys.stderr)


async def confirm_fetch(models: Sequence[MissingModel]) -> bool:
    """Ask on a terminal whether missing models may be fetched; a script fetches them unasked."""
    size = f"{sum(model.size for model in models) / 1e6:,.0f} MB"
    names = " and ".join(model.name for model in models)
    print_note(f"missing models: {names} ({size})")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    with _blocking_input():
        return click.confirm(f"Download {size} now?", default=True, err=True)


@contextlib.contextmanager
def _blocking_input() -> Iterator[None]:
    """Show what is typed, as a line editor prevents, and let ctrl+c interrupt a blocked event
    loop. What was typed earlier is discarded, so that it agrees to nothing."""
    modes = termios.tcgetattr(0)
    shown = [*modes[:3], modes[3] | termios.ECHO | termios.ICANON, *modes[4:]]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    termios.tcsetattr(0, termios.TCSAFLUSH, shown)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, modes)
        signal.signal(signal.SIGINT, handler)
