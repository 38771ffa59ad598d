"""Types of command-line arguments and options that several commands use."""

import difflib
from pathlib import Path

import click

from prepcli import config
from prepserver.arguments import TEXT
from prepserver.wire.languages import LANGUAGES

__all__ = ["FILE", "BoundedText", "FileName", "Language", "normalise", "server_option"]


class FileName(click.ParamType[Path]):
    """Parameter type for a path. A leading `~` is expanded, which shells do not do in
    `--jd=~/jd.txt`, and `-` stands for a standard stream."""

    name = "file"

    def __init__(self, stream: str) -> None:
        """`stream` is the path that `-` stands for."""
        self._stream = stream

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not value:
            self.fail("The name of the file is empty.", param, ctx)
        try:
            return Path(self._stream if value == "-" else value).expanduser()
        except RuntimeError:  # no such user: the name is meant literally
            return Path(value)


FILE = FileName("/dev/stdin")


class BoundedText(click.ParamType[str]):
    """Parameter type for text of 1 to `max_length` code points; runs of white space become one
    space."""

    name = "text"

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = " ".join(TEXT.convert(value, param, ctx).split())
        if not 1 <= len(text) <= self._max_length:
            self.fail(f"The text must have 1 to {self._max_length} characters.", param, ctx)
        return text


class Language(click.ParamType[str]):
    """Parameter type for the code of a language, such as `de`."""

    name = "code"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = TEXT.convert(value, param, ctx).strip().lower()
        if text not in LANGUAGES:
            similar = _similar_languages(text)
            codes = ", ".join(f"{code} ({LANGUAGES[code]})" for code in similar or ("en", "de"))
            advice = f"Did you mean {codes}?" if similar else f"Use a code such as {codes}."
            self.fail(f"{value!r} is not the code of a language. {advice}", param, ctx)
        return text


def _similar_languages(text: str) -> tuple[str, ...]:
    """Return the codes of at most three languages whose names or codes resemble `text`, such as
    `de` for `german` and for `de-AT`."""
    code = text.replace("_", "-").partition("-")[0]
    if code in LANGUAGES:
        return (code,)
    codes = {name.lower(): code for code, name in LANGUAGES.items()}
    return tuple(codes[name] for name in difflib.get_close_matches(text, codes, cutoff=0.7))


server_option = click.option(
    "--server",
    metavar="URL",
    type=TEXT,
    envvar="PREP_SERVER",
    show_envvar=True,
    help="Address of a server that you are logged in to.  [default: a local server]",
)


def normalise(server: str | None) -> str | None:
    """Return the URL of a server in its normal form; None stands for the local server."""
    return None if server is None else config.normalise_url(server)
