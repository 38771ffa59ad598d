"""Rules for the documentation: pages are up to date and linked, and show only valid commands."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import prepcli.cli
import prepserver.cli
from tests.architecture import sources

DOCS = sources.ROOT / "docs"
PAGES = [
    path
    for path in sources.files(".md")
    if path.is_relative_to(DOCS) or path.parent == sources.ROOT
]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SPAN = re.compile(r"`((?:prep|prep-server|make) [^`]+)`")
COMMANDS = {"prep": prepcli.cli, "prep-server": prepserver.cli}


def shown_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each `prep`, `prep-server` or `make` command that a page shows.

    A command can be in a code block or inline.
    """
    text = page.read_text("utf-8")
    blocks = [body for language, body in FENCE.findall(text) if language in ("sh", "console")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    for line in [*lines, *SPAN.findall(FENCE.sub("", text))]:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "|" in words:
            words = words[: words.index("|")]
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        if words and (words[0] == "make" or Path(words[0]).name in COMMANDS):
            yield [Path(words[0]).name, *words[1:]]


def command_of(name: str) -> click.Command:
    """Return the click command called `name`, which is `prep` or `prep-server`."""
    return next(
        value
        for attribute in ("main", "cli")
        if isinstance(value := getattr(COMMANDS[name], attribute, None), click.Command)
    )


def rejection(words: list[str]) -> str:
    """Return why a shown command would be rejected, or an empty string if the command is valid."""
    command = command_of(words[0])
    context = click.Context(command, info_name=words[0])
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        child = command.get_command(context, rest[0])
        if child is None:
            return f"no command {rest[0]}"
        context, command, rest = click.Context(child, parent=context), child, rest[1:]
    options = {
        option
        for parameter in command.get_params(context)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in options]
    return f"no option {', '.join(unknown)}" if unknown else ""


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text("utf-8"))):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        while slug in found:
            slug += "-1"
        found.add(slug)
    return found


def test_the_reference_is_fresh() -> None:
    """The generated reference pages match the code."""
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"],
        cwd=sources.ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_linked_from_the_index() -> None:
    """The index links to every page."""
    index = DOCS / "index.md"
    linked = {(DOCS / target).resolve() for target in LINK.findall(index.read_text("utf-8"))}
    assert [sources.name(page) for page in PAGES if page not in linked | {index}] == []


@pytest.mark.parametrize("page", PAGES, ids=sources.name)
def test_links_have_targets(page: Path) -> None:
    """Every link to a file or heading of the project leads to an existing target."""
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=sources.name)
def test_shown_commands_exist(page: Path) -> None:
    """Every `prep`, `prep-server` and `make` command on a page exists, with the options shown."""
    makefile = (sources.ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    wrong = []
    for words in shown_commands(page):
        if words[0] == "make":
            unknown = [word for word in words[1:] if "=" not in word and word not in targets]
            reason = f"no target {', '.join(unknown)}" if unknown else ""
        else:
            reason = rejection(words)
        if reason:
            wrong.append(f"{shlex.join(words)}: {reason}")
    assert wrong == []


def test_commands_are_found_in_pages() -> None:
    """The search for shown commands finds at least the most common commands."""
    found = {tuple(words[:2]) for page in PAGES for words in shown_commands(page)}
    assert {("make", "run"), ("make", "test"), ("prep", "interview")} <= found
    assert ("prep-server", "serve") in found


def test_the_trace_names_existing_functions() -> None:
    """Every function in the trace of architecture.md exists in the file that the trace names."""
    text = (DOCS / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| \d+ \| `([\w/.]+)` \| `([\w.]+)` \|", text, re.MULTILINE)
    assert len(rows) > 10
    lost = [f"{file}: {name}" for file, name in rows if name not in defined_in(file)]
    assert lost == []


def test_named_files_exist() -> None:
    """Every project file or folder that a page names exists."""
    named = re.compile(r"`((?:prepserver|prepcli|tests|docs|packaging)/[\w/.-]*)`")
    lost = [
        f"{sources.name(page)}: {path}"
        for page in PAGES
        for path in named.findall(page.read_text("utf-8"))
        if not (sources.ROOT / path).exists()
    ]
    assert lost == []


def defined_in(file: str) -> set[str]:
    """Return the names of a file's functions, classes and methods (as `Class.method`)."""
    names: set[str] = set()
    for node in ast.parse((sources.ROOT / file).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}.{child.name}"
                for child in node.body
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return names
