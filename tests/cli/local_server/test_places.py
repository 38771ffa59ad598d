"""Places where the local server cannot keep its files: each ends in a sentence with the file."""

import asyncio
import errno
import fcntl
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from prepcli.errors import LocalServerFailed, SettingsError
from prepcli.local_server.commands import additional_arguments
from prepcli.local_server.failures import command_failure
from prepcli.local_server.server import LocalServer


def start_failure(directory: Path) -> str:
    """Start a local server that cannot start, and return the message to the user."""

    async def start() -> None:
        server = LocalServer(directory)
        try:
            await server.start(lambda line: None)
        finally:
            await server.stop()

    with pytest.raises(LocalServerFailed) as error:
        asyncio.run(start())
    assert error.value.exit_code == 3
    message = str(error.value)
    assert "\n" not in message
    assert "PREP_DATA_DIR" in message
    return message


OBSTACLES: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a link to a missing folder": lambda path: path.symlink_to("/nonexistent/file"),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("name", ["start.lock", "lease.lock", "server.log"])
def test_files_that_cannot_be_opened(tmp_path: Path, name: str, obstacle: str) -> None:
    """A file of `prep` itself that cannot be opened is named in the message."""
    OBSTACLES[obstacle](tmp_path / name)
    assert f"Cannot use {tmp_path / name}: " in start_failure(tmp_path)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("file", "{}/file: it is a file or a link to a missing folder"),
        ("file/below", "{}/file/below: Not a directory"),
        ("link", "{}/link: it is a file or a link to a missing folder"),
        ("link/below", "{}/link: it is a file or a link to a missing folder"),
        ("loop/below", "{}/loop"),
        ("n" * 300, "File name too long"),
        ("/".join(["n" * 200] * 30), "File name too long"),
        ("/proc/no-such-folder/private", "No such file or directory"),
    ],
)
def test_data_directories_that_cannot_be_created(tmp_path: Path, path: str, named: str) -> None:
    """A data directory that cannot be created is named with the reason."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert named.format(tmp_path) in start_failure(tmp_path / path)


@pytest.mark.parametrize(
    "code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EIO]
)
def test_locks_that_the_disk_lacks(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files cannot be locked, the message says so, and blames no other process."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "server.lock").write_text("12345\n")
    message = start_failure(tmp_path)
    assert f"{tmp_path / 'start.lock'} cannot be locked: {os.strerror(code)}" in message
    assert "12345" not in message
    assert "nother prep" not in message


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_disks_that_take_no_file(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or read-only disk is reported before the server is started, with what helps."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    message = start_failure(tmp_path)
    assert f"server.log: {os.strerror(code)}. " in message
    full = code in (errno.ENOSPC, errno.EDQUOT)
    assert ("Free space on the disk" if full else "Change its permissions") in message


def test_a_disk_with_little_space(tmp_path: Path) -> None:
    """A disk that has no room for the start is reported, and nothing is left on it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        message = start_failure(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "server.log: File too large" in message
    assert sorted(file.name for file in tmp_path.iterdir()) == ["lease.lock", "start.lock"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ready.json", "Cannot write the ready file {}/ready.json: it is not a regular file"),
        ("users.sqlite", "The database users.sqlite cannot be opened: "),
        ("calls.sqlite-wal", "The database calls.sqlite cannot be opened: "),
    ],
)
@pytest.mark.e2e
def test_files_that_the_server_cannot_open(
    tmp_path: Path, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own sentence is shown, with the data directory and the variable that chooses
    another; options of the server are not mentioned."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", "--model scripted --stt-model scripted")
    directory = tmp_path / "data" / "private"
    (directory / name).mkdir(parents=True)
    message = start_failure(directory)
    assert message.startswith(f"The local server did not start. {said.format(directory)}")
    assert str(directory) in message
    assert "--ready-file" not in message


@pytest.mark.parametrize(
    "name",
    ["with space", "quo'te\"s", "q?a=b#c%41;d", "-dash", "new\nline", "ünï 日本", ":memory:", "~"],
)
@pytest.mark.e2e
def test_data_directories_of_any_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local server starts in a directory whose name has spaces, quotation marks or characters
    of addresses and queries, and stores its data there alone."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", "--model scripted --stt-model scripted")
    directory = tmp_path / name / "private"

    async def start() -> None:
        server = LocalServer(directory)
        try:
            await server.start(lambda line: None)
            assert server.url
        finally:
            await server.stop()

    asyncio.run(start())
    assert (directory / "users.sqlite").is_file()
    assert [each.name for each in tmp_path.iterdir()] == [name]


# --- Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "level=info event=model.ready\nprep-server: Cannot listen on 127.0.0.1.\n",
            "It failed. Cannot listen on 127.0.0.1.",
        ),
        ("prep-server: First.\nprep-server: Last,\n  in two lines.", "It failed. Last,\n  in two"),
        (
            "prep-server: No locks on /x. Choose a directory with --data-dir.",
            "It failed. No locks on /x. Choose a directory with PREP_DATA_DIR.",
        ),
        ("Error: No such option: --x", "It failed (exit code 9). Last lines of its output:\n"),
        ("", "It failed (exit code 9). Last lines of its output:\n  (none)"),
        ("ModuleNotFoundError: No module named 'litestar'", "The local server needs packages"),
    ],
)
def test_the_output_of_a_failed_server(output: str, message: str) -> None:
    """The last sentence of `prep-server` is the reason; without one, its last lines are shown."""
    assert str(command_failure("It failed", output, 9)).startswith(message)


@pytest.mark.parametrize("text", ["--model 'x", '--model "', "\\"])
def test_arguments_that_are_no_list(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PREP_LOCAL_SERVER_ARGS with an open quotation mark is refused with its name."""
    monkeypatch.setenv("PREP_LOCAL_SERVER_ARGS", text)
    with pytest.raises(SettingsError, match="PREP_LOCAL_SERVER_ARGS is "):
        additional_arguments()
