"""Start of the server process."""

import errno
import gc
import os
import socket
from pathlib import Path

import pytest

from prepserver import serve
from prepserver.config import Config
from prepserver.errors import BadRequest, Conflict
from prepserver.wire.error_codes import ErrorCode


@pytest.mark.filterwarnings("ignore::DeprecationWarning:litestar")
def test_a_port_in_use_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting the server on a port that another program is using raises `port_in_use`."""
    monkeypatch.setattr(serve, "_configure_logging", lambda level: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = Config(data_dir=tmp_path, model="scripted", stt_model="scripted", port=port)
        with pytest.raises(Conflict, match=f"{port}") as error:
            serve.serve(config)
    gc.unfreeze()
    assert error.value.code == ErrorCode.PORT_IN_USE


@pytest.mark.parametrize("obstacle", ["device", "folder", "fifo", "below a file", "dangling link"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning:litestar")
def test_a_ready_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """A ready file that cannot be written, or that would replace a device, keeps the server from
    starting, and the error names the file."""
    monkeypatch.setattr(serve, "_configure_logging", lambda level: None)
    path = tmp_path / "ready.json"
    if obstacle == "device":
        path = Path("/dev/null")
    elif obstacle == "folder":
        path.mkdir()
    elif obstacle == "fifo":
        os.mkfifo(path)
    elif obstacle == "below a file":
        path.touch()
        path = path / "ready.json"
    else:
        path.symlink_to(tmp_path / "missing")
        path = path / "ready.json"
    config = Config(
        data_dir=tmp_path / "data", model="scripted", stt_model="scripted", port=0, ready_file=path
    )
    with pytest.raises(BadRequest, match=str(path.parent)) as error:
        serve.serve(config)
    assert error.value.code == ErrorCode.BAD_SETTING


@pytest.mark.filterwarnings("ignore::DeprecationWarning:litestar")
def test_a_disk_that_is_full_when_the_ready_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the ready file cannot be written after the server has begun to listen, the server stops
    with an error that names the file."""
    monkeypatch.setattr(serve, "_configure_logging", lambda level: None)

    def write(path: Path, content: bytes, *, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(serve, "write_atomically", write)
    path = tmp_path / "ready.json"
    config = Config(
        data_dir=tmp_path / "data", model="scripted", stt_model="scripted", port=0, ready_file=path
    )
    with pytest.raises(BadRequest, match=r"ready\.json: No space left"):
        serve.serve(config)
    gc.unfreeze()
