"""Report of files with more than 250 lines, printed after the test results."""

import pytest

from tests.architecture import sources

LONG = 250


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = {
        path: len(path.read_text("utf-8").splitlines()) for path in sources.files(".py", ".tcss")
    }
    long = sorted(((n, path) for path, n in counts.items() if n > LONG), reverse=True)
    if long:
        terminalreporter.section(f"files over {LONG} lines")
        for count, path in long:
            terminalreporter.write_line(f"{count:5} {sources.name(path)}")
