"""Start of the server process."""

import gc
import socket
from pathlib import Path

import pytest

from prepserver import serve
from prepserver.config import Config
from prepserver.errors import Conflict
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
