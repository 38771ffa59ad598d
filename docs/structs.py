"""Structs as tables for a reader of JSON: fields, types in words, and what the source says."""

import ast
import inspect
import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import inspect as kinds

from prepserver.wire import protocol

__all__ = ["attributes", "documented", "fields_table", "one_line", "own_doc"]


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
        case kinds.ListType() | kinds.VarTupleType():
            return f"list of {spelled(kind.item_type)}" + _length(kind)
        case kinds.DictType():
            return f"object of {spelled(kind.value_type)}"
        case kinds.UnionType():
            return " or ".join(spelled(each) for each in kind.types)
        case kinds.AnyType():
            return "anything"
        case _:
            own = getattr(kind, "cls", type(kind))
            return "path" if own is Path else "string" if issubclass(own, str) else own.__name__


def anchor(cls: type) -> str:
    """Where a thing is on the page: a heading that comes a second time is numbered."""
    name = cls.__name__.lower()
    tags = {message.__struct_config__.tag for message in _messages()}
    return f"{name}-1" if name in tags else name


def _messages() -> tuple[Any, ...]:
    return typing.get_args(protocol.ServerMessages) + typing.get_args(protocol.ClientMessages)


def _length(kind: kinds.StrType | kinds.ListType | kinds.VarTupleType) -> str:
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
