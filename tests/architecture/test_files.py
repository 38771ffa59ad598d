"""The shape of the files: their length, their names, and what they must not say."""

import ast
import re

from tests.architecture import sources

LONGEST = 500

BELONGS_TO_ONE_MACHINE = re.compile(
    r"(?<![\w.~$}/-])/(?:root|work|home/\w+|Users/\w+|tmp/\w+)/"
    r"|\bpypi\.org/simple|\bpythonhosted\.org"
    r"|\bissues? #?\d+\b"
)
BINARY = {".gz", ".wav", ".png", ".gguf", ".bin", ".tsv"}


def test_no_file_is_too_long() -> None:
    """A source file or page that grew past five hundred lines must be taken apart."""
    too_long = {
        sources.name(path): count
        for path in sources.files(".py", ".tcss", ".md")
        if path.parent != sources.GENERATED
        and (count := len(path.read_text("utf-8").splitlines())) > LONGEST
    }
    assert too_long == {}


def test_no_module_is_named_for_anything_and_everything() -> None:
    """Modules are nouns: a name like utils says only that nobody decided where things belong."""
    vague = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert [sources.name(path) for path in sources.files(".py") if path.name in vague] == []


def test_no_file_speaks_of_one_machine() -> None:
    """A path, an index or a ticket of the place where something was written helps nobody else."""
    found = [
        f"{sources.name(path)}:{number}: {match[0]}"
        for path in sources.files()
        if path.suffix not in BINARY
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := BELONGS_TO_ONE_MACHINE.search(line))
    ]
    assert found == []


def test_every_test_says_what_it_shows() -> None:
    """A test without a sentence leaves the reader to guess what broke."""
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
    """A package's root holds a docstring at most, so that importing it is cheap."""
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
