"""Rules for error codes: each code is documented, raised by the server and reached by a test."""

import ast
import inspect
from collections.abc import Iterator

from prepserver.wire import error_codes
from prepserver.wire.error_codes import ErrorCode
from tests.architecture import sources


def codes_named_in(folder: str, *, as_keywords: bool) -> Iterator[ErrorCode]:
    """Yield the code of each `ErrorCode.MEMBER` in the Python files of a folder.

    If `as_keywords` is false, codes that are passed as keyword arguments are skipped. In tests,
    such a code belongs to an error that the test itself creates.
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
    """The server's tests name each error code, not counting errors that the tests create."""
    assert set(ErrorCode) - set(codes_named_in("tests/server/", as_keywords=False)) == set()


def test_every_error_code_has_a_meaning() -> None:
    """Each error code has a docstring, which the errors page shows."""
    source = inspect.getsource(error_codes.ErrorCode)
    missing = [code for code in ErrorCode if f'{code.name} = "{code}"\n    """' not in source]
    assert missing == []
