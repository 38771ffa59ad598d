"""Interviews on a remote language model that the llama-cpp-python server runs."""

import os
from pathlib import Path

import pytest

from prepserver.wire import client_messages
from prepserver.wire.protocol import MessageKind
from tests.support.llama_cpp_server import LlamaCppServer
from tests.support.room_client import open_room
from tests.support.server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.models]

KEY = "sk-not-to-be-seen"


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_an_interview_on_a_remote_model(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interview on a remote model reaches its closing message; prep-server's log names the
    endpoint, and neither the log nor the command line contains the API key."""
    settings = tmp_path / "server.toml"
    settings.write_text(f'openai_api_key = "{KEY}"\n')
    model = models_dir / "smollm2-135m-instruct.q4_1.gguf"
    flags = ("--api_key", KEY, "--interrupt_requests", "false", "--n_ctx", "4096")
    with (
        LlamaCppServer(tmp_path, model, *flags) as peer,
        Server(
            tmp_path,
            "--config",
            str(settings),
            "--model",
            f"openai:{peer.url}",
            "--rate-limit",
            "0",
        ) as server,
    ):
        key = server.add_user()
        spec = {"role": "Backend Engineer", "type": "technical", "questions": 2}
        reply = server.request("POST", "/api/interviews", key=key, body=spec)
        assert reply.status == 201
        id = reply.body["id"]
        with open_room(server.room("interview", id, server.token(key))) as socket:
            answer = "I moved the ledger out of the monolith, because it was the clearest part."
            assert socket.wait_for_question().endswith("?")
            socket.send(client_messages.UserMessage(id="m0", text=answer))
            assert socket.next_of_kind(MessageKind.QUESTION).text.endswith("?")
            socket.send(client_messages.UserMessage(id="m1", text=answer))
            assert socket.next_of_kind(MessageKind.CLOSING).text
        if os.name == "posix" and Path("/proc").is_dir():
            assert KEY not in command_line(server.pid)
        assert "POST /v1/chat/completions" in peer.log
        origin = peer.url.removesuffix("/v1")
        assert f"model.remote job=interviewer endpoint={origin}" in server.log.replace("'", "")
        assert KEY not in server.log
