"""Writes docs/reference from the code, so that the two cannot disagree.

python docs/generate.py            write the pages
python docs/generate.py --check    name the stale ones and fail if there are any
"""

import ast
import enum
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from structs import attributes, documented, fields_table, one_line, own_doc

from prepcli.tui import keys
from prepserver import config, errors
from prepserver.models import catalogue
from prepserver.wire import error_codes, limits, protocol, rest

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTICE = "<!-- Written by `make docs` from {}; change that, not this page. -->\n"


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {
        "protocol.md": protocol_page(),
        "errors.md": errors_page(),
        "settings.md": settings_page(),
        "cli.md": cli_page(),
        "keys.md": keys_page(),
        "models.md": models_page(),
    }


# --- Pages --------------------------------------------------------------------------------------


def protocol_page() -> str:
    """Every message and body of prepserver/wire/protocol.py and prepserver/wire/rest.py."""
    to_client = typing.get_args(protocol.ServerMessages)
    to_server = typing.get_args(protocol.ClientMessages)
    apart = {*to_client, *to_server, protocol.ServerMessage, protocol.ClientMessage}
    own = [
        value
        for module in (protocol, rest)
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    enums = [cls for cls in own if issubclass(cls, enum.Enum)]
    things = [cls for cls in own if issubclass(cls, msgspec.Struct) and cls not in apart]
    lines = [NOTICE.format("prepserver/wire/protocol.py and rest.py"), "# The wire protocol\n"]
    lines += [inspect.cleandoc(protocol.__doc__ or "") + "\n", "## Numbers\n"]
    lines += ["| name | value | |", "| --- | --- | --- |"]
    for module in (protocol, limits):
        texts = documented(ast.parse(inspect.getsource(module)))
        for name, text in texts.items():
            if name.isupper():
                lines.append(f"| `{name}` | {getattr(module, name)} | {one_line(text)} |")
    lines += ["\n## From the server\n"]
    for cls in to_client:
        lines += [f"### {cls.__struct_config__.tag}\n", own_doc(cls), fields_table(cls)]
    lines += ["## From a client\n"]
    for cls in to_server:
        lines += [f"### {cls.__struct_config__.tag}\n", own_doc(cls), fields_table(cls)]
    lines += ["## Things and bodies\n"]
    for cls in things:
        lines += [f"### {cls.__name__}\n", own_doc(cls), fields_table(cls)]
    lines += ["## Words\n"]
    for cls in enums:
        words = ", ".join(f"`{member.value}`" for member in cls)
        lines += [f"### {cls.__name__}\n", own_doc(cls), f"One of {words}.\n"]
    return _joined(lines)


def errors_page() -> str:
    """The HTTP statuses and every error code."""
    lines = [NOTICE.format("prepserver/wire/error_codes.py and prepserver/errors.py"), "# Errors\n"]
    lines += [
        'Over REST an error is the body `{"error": {"code", "message", "retryable",'
        ' "details"}}`; in a room it is the message [`error`](protocol.md#error) with the same'
        " fields. `code` is one of the codes below. A client must accept unknown codes: a newer"
        " server may send them.\n"
    ]
    lines += ["## Statuses\n", "| status | default code | retryable | meaning |"]
    lines += ["| --- | --- | --- | --- |"]
    for cls in sorted((getattr(errors, name) for name in errors.__all__), key=lambda e: e.status):
        again = "yes" if cls.default_retryable else "no"
        lines.append(f"| {cls.status} | `{cls.default_code}` | {again} | {one_line(cls.__doc__)} |")
    texts = attributes(error_codes.ErrorCode)
    lines += ["\n## Codes\n", "| code | meaning |", "| --- | --- |"]
    lines += [f"| `{code}` | {one_line(texts[code.name])} |" for code in error_codes.ErrorCode]
    return _joined(lines)


def settings_page() -> str:
    """The server's settings."""
    doc = inspect.cleandoc(config.__doc__ or "")
    lines = [NOTICE.format("prepserver/config.py"), "# Settings of the server\n", doc + "\n"]
    lines += [own_doc(config.Config), fields_table(config.Config)]
    lines += [
        "`DATA` is the user's data folder: `~/.local/share/prep` on Linux,"
        " `~/Library/Application Support/prep` on macOS.\n"
    ]
    return _joined(lines)


def keys_page() -> str:
    """The keys of the screens."""
    lines = [NOTICE.format("prepcli/tui/keys.py"), "# Keys\n"]
    for section in keys.SECTIONS:
        lines += [f"## {section.title}\n", "| keys | |", "| --- | --- |"]
        for key in section.keys:
            names = " or ".join(f"`{keys.spelled(name)}`" for name in key.keys.split(","))
            lines.append(f"| {names} | {one_line(key.help)} |")
        lines.append("\n")
    return _joined(lines)


def models_page() -> str:
    """The catalogue of models."""
    lines = [NOTICE.format("prepserver/models/catalogue.toml"), "# Models\n"]
    lines += ["What `prep-server models pull NAME` knows; `starter` is the first two.\n"]
    lines += ["| name | job | size | licence | |", "| --- | --- | --- | --- | --- |"]
    jobs = {"llm": "interviewer", "stt": "transcriber"}
    for entry in catalogue.builtin_catalogue().models:
        size = f"{entry.size / 1e6:,.0f} MB"
        lines.append(
            f"| `{entry.name}` | {jobs[entry.kind]} | {size} | {entry.licence} | {entry.about} |"
        )
    return _joined(lines)


def cli_page() -> str:
    """The commands, as their own `--help` prints them."""
    lines = [NOTICE.format("prepcli/cli.py and prepserver/cli.py"), "# Commands\n"]
    for name, module in (("prep", "prepcli.cli"), ("prep-server", "prepserver.cli")):
        for path, help_text in help_texts(name, command_of(module)):
            lines += [f"## {path}\n", "```text", help_text, "```\n"]
    return _joined(lines)


def command_of(module: str) -> click.Command:
    """The click command behind an entry point."""
    loaded = importlib.import_module(module)
    for name in ("main", "cli"):
        if isinstance(found := getattr(loaded, name, None), click.Command):
            return found
    raise LookupError(f"{module} has no click command named main or cli")


def help_texts(path: str, command: click.Command) -> Iterator[tuple[str, str]]:
    """Each command's full name and help, groups before what is in them."""
    context = click.Context(command, info_name=path, max_content_width=90, terminal_width=90)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from help_texts(f"{path} {name}", child)


def _joined(lines: list[str]) -> str:
    text = "\n".join(line for line in lines if line)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def main(arguments: list[str]) -> int:
    """Write or check; the exit code."""
    stale = []
    for name, text in pages().items():
        file = REFERENCE / name
        if file.exists() and file.read_text("utf-8") == text:
            continue
        stale.append(name)
        if arguments != ["--check"]:
            file.write_text(text, "utf-8")
            print(f"wrote {file.relative_to(REFERENCE.parent.parent)}")
    if arguments == ["--check"] and stale:
        print(f"stale: {', '.join(stale)}; run make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
