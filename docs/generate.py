"""Writes docs/reference from the code, so that the two cannot disagree.

python docs/generate.py            write the pages
python docs/generate.py --check    name the stale ones and fail if there are any
"""

import ast
import enum
import importlib
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import platformdirs
from msgspec import inspect as kinds

from prepcli import keys
from prepserver import config, errors, protocol
from prepserver.ai.models import catalogue

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


# --- What the source says beside the values -----------------------------------------------------


def documented(node: ast.Module | ast.ClassDef) -> dict[str, str]:
    """The string under each assignment, by the name that was assigned."""
    found = {}
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            continue
        match target, following:
            case ast.Name(name), ast.Expr(ast.Constant(str(text))):
                found[name] = inspect.cleandoc(text)
    return found


def attributes(cls: type) -> dict[str, str]:
    """The strings under the fields of a class and of those it is derived from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(("prepserver", "prepcli")):
            tree = ast.parse(inspect.getsource(base)).body[0]
            assert isinstance(tree, ast.ClassDef)
            found |= documented(tree)
    return found


def own_doc(cls: type) -> str:
    """The docstring written in this very class; Struct and Enum bring ones that say nothing."""
    text = vars(cls).get("__doc__")
    return inspect.cleandoc(text) + "\n" if text else ""


def one_line(text: str) -> str:
    """Fit for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


# --- Types as a reader of JSON knows them -------------------------------------------------------


def spelled(kind: kinds.Type) -> str:
    """A type and its bounds, in words."""
    match kind:
        case kinds.StrType():
            return (
                "string" + _length(kind) + (f", matches `{kind.pattern}`" if kind.pattern else "")
            )
        case kinds.IntType() | kinds.FloatType():
            word = "integer" if isinstance(kind, kinds.IntType) else "number"
            bounds = {"≥": kind.ge, ">": kind.gt, "≤": kind.le, "<": kind.lt}
            return word + "".join(f", {s} {v}" for s, v in bounds.items() if v is not None)
        case kinds.BoolType():
            return "boolean"
        case kinds.NoneType():
            return "null"
        case kinds.LiteralType():
            return " or ".join(f"`{json.dumps(value)}`" for value in kind.values)
        case kinds.EnumType() | kinds.StructType():
            return f"[{kind.cls.__name__}](#{anchor(kind.cls)})"
        case kinds.ListType():
            return f"list of {spelled(kind.item_type)}" + _length(kind)
        case kinds.DictType():
            return f"object of {spelled(kind.value_type)}"
        case kinds.UnionType():
            return " or ".join(spelled(each) for each in kind.types)
        case kinds.AnyType():
            return "anything"
        case _:
            return "path" if getattr(kind, "cls", None) is Path else type(kind).__name__


def anchor(cls: type) -> str:
    """Where a thing is on the page: a heading that comes a second time is numbered."""
    name = cls.__name__.lower()
    tags = {message.__struct_config__.tag for message in _messages()}
    return f"{name}-1" if name in tags else name


def _messages() -> tuple[Any, ...]:
    return typing.get_args(protocol.ServerMessages) + typing.get_args(protocol.ClientMessages)


def _length(kind: kinds.StrType | kinds.ListType) -> str:
    at_least = f", at least {kind.min_length}" if kind.min_length else ""
    return at_least + (f", at most {kind.max_length:,}" if kind.max_length else "")


def default(field: kinds.Field) -> str:
    """What a field is when it is absent."""
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{json.dumps(field.default_factory())}`"
    return f"`{json.dumps(field.default, default=_path, ensure_ascii=False)}`"


def _path(value: Any) -> str:
    """Paths as on any machine: `DATA` is the folder that the system gives prep for data."""
    return f"DATA/{Path(value).relative_to(platformdirs.user_data_path('prep')).as_posix()}"


def fields_table(cls: type) -> str:
    """A table of a struct's fields, the tag first."""
    struct = kinds.type_info(cls)
    assert isinstance(struct, kinds.StructType)
    texts = attributes(cls)
    rows = [f"| `type` | `{json.dumps(struct.tag)}` | required | |"] if struct.tag else []
    rows += [
        f"| `{field.encode_name}` | {one_line(spelled(field.type))} | {default(field)} "
        f"| {one_line(texts.get(field.name, ''))} |"
        for field in struct.fields
    ]
    if not rows:
        return ""
    return "\n".join(["| field | type | default | |", "| --- | --- | --- | --- |", *rows, ""])


# --- Pages --------------------------------------------------------------------------------------


def protocol_page() -> str:
    """Every message and body of prepserver/protocol.py."""
    tree = ast.parse(inspect.getsource(protocol))
    texts = documented(tree)
    to_client = typing.get_args(protocol.ServerMessages)
    to_server = typing.get_args(protocol.ClientMessages)
    apart = {*_messages(), protocol.ServerMessage, protocol.ClientMessage}
    own = [
        value
        for value in vars(protocol).values()
        if isinstance(value, type)
        and value.__module__ == protocol.__name__
        and not value.__name__.startswith("_")
    ]
    enums = [cls for cls in own if issubclass(cls, enum.Enum)]
    things = [cls for cls in own if issubclass(cls, msgspec.Struct) and cls not in apart]
    lines = [NOTICE.format("prepserver/protocol.py"), "# The wire protocol\n"]
    lines += [inspect.cleandoc(protocol.__doc__ or "") + "\n", "## Numbers\n"]
    lines += ["| name | value | |", "| --- | --- | --- |"]
    for name, value in vars(protocol).items():
        if name.isupper() and isinstance(value, int) and not name.startswith("_"):
            lines.append(f"| `{name}` | {value} | {one_line(texts.get(name, ''))} |")
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
    """The error tree."""
    lines = [NOTICE.format("prepserver/errors.py"), "# Errors\n"]
    lines += [
        'Over REST an error is the body `{"error": {"code", "message", "retryable",'
        ' "details"}}` with the status below; in a room it is a message'
        " [`error`](protocol.md#error) with the same fields.\n"
    ]
    lines += ["| status | code | may help to repeat | meaning |", "| --- | --- | --- | --- |"]
    for cls in sorted((getattr(errors, name) for name in errors.__all__), key=lambda e: e.status):
        again = "yes" if cls.default_retryable else "no"
        lines.append(f"| {cls.status} | `{cls.default_code}` | {again} | {one_line(cls.__doc__)} |")
    lines += [
        "\nThe code may be a finer one, such as `bad_setting` for a `bad_request`; the status then"
        " says which of these it belongs to.\n"
    ]
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
    lines = [NOTICE.format("prepcli/keys.py"), "# Keys\n"]
    for section in keys.SECTIONS:
        lines += [f"## {section.title}\n", "| keys | |", "| --- | --- |"]
        for key in section.keys:
            names = " or ".join(f"`{keys.spelled(name)}`" for name in key.keys.split(","))
            lines.append(f"| {names} | {one_line(key.help)} |")
        lines.append("\n")
    return _joined(lines)


def models_page() -> str:
    """The catalogue of models."""
    lines = [NOTICE.format("prepserver/ai/models/catalogue.toml"), "# Models\n"]
    lines += ["What `prep-server models pull NAME` knows; `starter` is the first two.\n"]
    lines += ["| name | job | size | licence | |", "| --- | --- | --- | --- | --- |"]
    jobs = {"llm": "interviewer", "stt": "ears"}
    for entry in catalogue.built_in().models:
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
