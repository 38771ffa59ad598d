"""Error codes: each one is documented and raised."""

import inspect

from prepserver import errors
from prepserver.wire import error_codes
from prepserver.wire.error_codes import ErrorCode
from tests.architecture import sources


def test_every_error_code_is_raised() -> None:
    """The server names each code, or an error class has it as the default."""
    package = sources.ROOT / "prepserver"
    source = "\n".join(
        path.read_text("utf-8")
        for path in package.rglob("*.py")
        if path != package / "wire" / "error_codes.py"
    )
    defaults = {getattr(errors, name).default_code for name in errors.__all__}
    unused = [
        code
        for code in ErrorCode
        if code not in defaults and f"ErrorCode.{code.name}" not in source
    ]
    assert unused == []


def test_every_error_code_has_a_meaning() -> None:
    """Each code is followed by a string that the errors page shows."""
    source = inspect.getsource(error_codes.ErrorCode)
    missing = [code for code in ErrorCode if f'{code.name} = "{code}"\n    """' not in source]
    assert missing == []
