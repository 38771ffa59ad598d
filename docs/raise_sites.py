"""Analysis of the server's source code that finds the HTTP status of each error code."""

import ast
from pathlib import Path

from prepserver import errors
from prepserver.http.errors import FRAMEWORK_CODES
from prepserver.http.rooms import UpgradeRequired
from prepserver.wire.error_codes import ErrorCode

__all__ = ["http_statuses"]

SOURCE = Path(errors.__file__).parent


def http_statuses() -> dict[ErrorCode, int]:
    """Return the HTTP status of each error code that has one. The status comes from the error class
    that carries the code, or from `FRAMEWORK_CODES`."""
    classes = {name: getattr(errors, name) for name in errors.__all__}
    found = {
        cls.default_code: cls.status for cls in classes.values() if "default_code" in vars(cls)
    }
    classes[UpgradeRequired.__name__] = UpgradeRequired
    found |= {code: status for status, code in FRAMEWORK_CODES.items()}
    for path in SOURCE.rglob("*.py"):
        direct, indirect = _raised_codes(path, set(classes))
        for code, cls in direct.items():
            found[code] = classes[cls].status
        for code, cls in indirect.items():
            found.setdefault(code, classes[cls].status)
    return found


def _raised_codes(
    path: Path, classes: set[str]
) -> tuple[dict[ErrorCode, str], dict[ErrorCode, str]]:
    """Map the error codes in a module to the names of the error classes that carry them.

    The first result holds the codes that are passed by name, as in `code=ErrorCode.BUSY`. The
    second result is empty unless a variable is passed to a class, as in `code=code`; it then maps
    every code in the module to that class.
    """
    direct: dict[ErrorCode, str] = {}
    indirect: dict[ErrorCode, str] = {}
    named: set[ErrorCode] = set()
    variable = ""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Call(ast.Name(cls), keywords=keywords) if cls in classes:
                for keyword in keywords:
                    match keyword:
                        case ast.keyword("code", ast.Attribute(ast.Name("ErrorCode"), name)):
                            direct[ErrorCode[name]] = cls
                        case ast.keyword("code", ast.Name()):
                            variable = cls
            case ast.Attribute(ast.Name("ErrorCode"), name):
                named.add(ErrorCode[name])
    if variable:
        indirect = dict.fromkeys(named, variable)
    return direct, indirect
