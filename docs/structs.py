"""Markdown tables of the JSON fields of structs, with types, defaults and documentation."""

import ast
import inspect
import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from msgspec import inspect as kinds

from prepserver.wire import client_messages, protocol

__all__ = ["assignment_docs", "attribute_docs", "class_doc", "fields_table", "table_cell"]


# --- Documentation in the source ----------------------------------------------------------------


def assignment_docs(node: ast.Module | ast.ClassDef) -> dict[str, str]:
    """Return the docstring below each assignment in a module or class, by the assigned name;
    assignments without a docstring are left out."""
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


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the docstrings below the fields of a class and of its base classes, by field name."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(("prepserver", "prepcli")):
            tree = ast.parse(inspect.getsource(base)).body[0]
            assert isinstance(tree, ast.ClassDef)
            found |= assignment_docs(tree)
    return found


def class_doc(cls: type) -> str:
    """Return the docstring of a class, or an empty string if the class has none of its own."""
    text = vars(cls).get("__doc__")
    return inspect.cleandoc(text) + "\n" if text else ""


def table_cell(text: str) -> str:
    """Format text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


# --- JSON types ---------------------------------------------------------------------------------


def describe_type(kind: kinds.Type) -> str:
    """Describe a JSON type and its bounds in words."""
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
            return f"list of {describe_type(kind.item_type)}" + _length(kind)
        case kinds.DictType():
            return f"object of {describe_type(kind.value_type)}"
        case kinds.UnionType():
            return " or ".join(describe_type(each) for each in kind.types)
        case kinds.AnyType():
            return "anything"
        case _:
            own = getattr(kind, "cls", type(kind))
            return "path" if own is Path else "string" if issubclass(own, str) else own.__name__


def anchor(cls: type) -> str:
    """Return the anchor of a class's heading, with the suffix `-1` if a message has the same
    heading."""
    name = cls.__name__.lower()
    tags = {message.__struct_config__.tag for message in _messages()}
    return f"{name}-1" if name in tags else name


def _messages() -> tuple[Any, ...]:
    return typing.get_args(protocol.ServerMessages) + typing.get_args(
        client_messages.ClientMessages
    )


def _length(kind: kinds.StrType | kinds.ListType | kinds.VarTupleType) -> str:
    at_least = f", at least {kind.min_length}" if kind.min_length else ""
    return at_least + (f", at most {kind.max_length:,}" if kind.max_length else "")


def default(field: kinds.Field) -> str:
    """Return the default of a field as Markdown, or `required` if the field has none."""
    if field.required:
        return "required"
    if field.default_factory is not msgspec.NODEFAULT:
        return f"`{json.dumps(field.default_factory(), default=_path)}`"
    return f"`{json.dumps(field.default, default=_path, ensure_ascii=False)}`"


def _path(value: Any) -> str:
    """Format a path relative to `DATA`, the user's data directory for prep."""
    return f"DATA/{Path(value).relative_to(platformdirs.user_data_path('prep')).as_posix()}"


def fields_table(cls: type) -> str:
    """Build the table of a struct's fields, in which the first row holds the struct's tag, if any.
    Return an empty string if the struct has neither fields nor a tag."""
    struct = kinds.type_info(cls)
    assert isinstance(struct, kinds.StructType)
    texts = attribute_docs(cls)
    rows = [f"| `type` | `{json.dumps(struct.tag)}` | required | |"] if struct.tag else []
    rows += [
        f"| `{field.encode_name}` | {table_cell(describe_type(field.type))} | {default(field)} "
        f"| {table_cell(texts.get(field.name, ''))} |"
        for field in struct.fields
    ]
    if not rows:
        return ""
    return "\n".join(
        ["| field | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    )
