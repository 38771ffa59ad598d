"""Rules for source files: length, names and forbidden content."""

import ast
import re

import pytest

from tests.architecture import sources

LONGEST = 500

BELONGS_TO_ONE_MACHINE = re.compile(
    r"(?<![\w.~$}/-])/(?:root|work|home/\w+|Users/\w+|tmp/\w+)/"
    r"|\bpypi\.org/simple|\bpythonhosted\.org"
    r"|\bissues? #?\d+\b"
)
BINARY = {".gz", ".wav", ".png", ".gguf", ".bin", ".tsv"}


def test_no_file_is_too_long() -> None:
    """No source file or page is longer than 500 lines, except for generated pages."""
    too_long = {
        sources.name(path): count
        for path in sources.files(".py", ".tcss", ".md")
        if path.parent != sources.GENERATED
        and (count := len(path.read_text("utf-8").splitlines())) > LONGEST
    }
    assert too_long == {}


def test_no_module_has_a_catch_all_name() -> None:
    """No module has a catch-all name such as utils.py."""
    vague = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert [sources.name(path) for path in sources.files(".py") if path.name in vague] == []


def test_no_file_speaks_of_one_machine() -> None:
    """No text file contains a personal path, the address of a package index or an issue number."""
    found = [
        f"{sources.name(path)}:{number}: {match[0]}"
        for path in sources.files()
        if path.suffix not in BINARY
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := BELONGS_TO_ONE_MACHINE.search(line))
    ]
    assert found == []


def test_every_test_has_a_docstring() -> None:
    """Every test has a docstring."""
    silent = [
        f"{sources.name(path)}::{node.name}"
        for path in sources.files(".py")
        if path.name.startswith("test_")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_package_roots_export_nothing() -> None:
    """A package's __init__.py holds at most a docstring and a version."""
    busy = [
        sources.name(path)
        for path in sources.files(".py")
        if path.name == "__init__.py"
        and any(
            not isinstance(node, ast.Expr)
            and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__")
            for node in ast.parse(path.read_text("utf-8")).body
        )
    ]
    assert busy == []


@pytest.mark.parametrize("package", ["prepserver", "prepcli"])
def test_no_class_name_occurs_twice_in_a_package(package: str) -> None:
    """No two classes in a package have the same name, so that a search finds one definition."""
    definitions: dict[str, list[str]] = {}
    for path in sources.files(".py"):
        if sources.name(path).startswith(f"{package}/"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    definitions.setdefault(node.name, []).append(sources.name(path))
    assert {name: files for name, files in definitions.items() if len(files) > 1} == {}
