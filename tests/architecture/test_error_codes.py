"""Rules for error codes: each one has a meaning, is raised by the server and reached by a test."""

import ast
import inspect
from collections.abc import Iterator

from prepserver.wire import error_codes
from prepserver.wire.error_codes import ErrorCode
from tests.architecture import sources


def codes_named_in(folder: str, *, as_keywords: bool) -> Iterator[ErrorCode]:
    """Yield the code of each `ErrorCode.MEMBER` in the Python files of a folder.

    If `as_keywords` is false, codes that are passed as keyword arguments are skipped. In tests
    these are the codes of errors that the test itself creates.
    """
    for path in sources.files(".py"):
        if not sources.name(path).startswith(folder):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        keywords = {node.value for node in nodes if isinstance(node, ast.keyword)}
        for node in nodes:
            match node:
                case ast.Attribute(ast.Name("ErrorCode"), member):
                    if as_keywords or node not in keywords:
                        yield ErrorCode[member]


def test_every_error_code_is_raised() -> None:
    """Each error code is named in the server's source."""
    assert set(ErrorCode) - set(codes_named_in("prepserver/", as_keywords=True)) == set()


def test_every_error_code_is_reached() -> None:
    """A test of the server names each error code outside the errors that the test creates."""
    assert set(ErrorCode) - set(codes_named_in("tests/server/", as_keywords=False)) == set()


def test_every_error_code_has_a_meaning() -> None:
    """Each error code has a docstring, which the errors page shows."""
    source = inspect.getsource(error_codes.ErrorCode)
    missing = [code for code in ErrorCode if f'{code.name} = "{code}"\n    """' not in source]
    assert missing == []
