"""Downloads from the Hugging Face hub, for which a local HTTP server stands in."""

import re
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prepserver.errors import ModelError
from prepserver.models.files import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from prepserver.wire.error_codes import ErrorCode
from tests.server.models.builders import catalogue, code_of, gguf, hub_entry, sha256

GOOD = gguf(bytes(range(256)) * 500, size=200_000)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """HTTP server that serves one file, either as the hub or as the storage to which the hub
    redirects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data = GOOD
        self.etag = sha256(GOOD)
        self.refusal: tuple[int, str] | None = None
        """Status and `X-Error-Code` of the response to each request; None if the file is served."""
        self.redirect = ""
        """Address to which requests for the file are redirected; empty if the file is served
        directly."""
        self.break_after = -1
        """Number of bytes after which the connection breaks once; -1 if it never breaks."""
        self.ranges = True
        self.requests: list[tuple[str, str, Message]] = []
        """Method, path and headers of each request."""

    def downloads(self) -> list[tuple[str, Message]]:
        """Return the path and headers of each request for the file, without requests for
        metadata."""
        return [
            (path, headers)
            for method, path, headers in self.requests
            if method == "GET" and "/api/" not in path
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        if self._accept():
            self._send_headers(200, len(self.server.data))

    def do_GET(self) -> None:
        hub_server = self.server
        if not self._accept():
            return
        if hub_server.redirect:
            self.send_response(302)
            self.send_header("Location", hub_server.redirect)
            self.end_headers()
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and hub_server.ranges else 0
        body = hub_server.data[start:]
        self._send_headers(206 if match and hub_server.ranges else 200, len(body))
        break_after, hub_server.break_after = hub_server.break_after, -1
        self.wfile.write(body if break_after < 0 else body[:break_after])

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _accept(self) -> bool:
        hub_server = self.server
        hub_server.requests.append((self.command, self.path, self.headers))
        if hub_server.refusal is None:
            return True
        status, code = hub_server.refusal
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _send_headers(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{self.server.etag}"')
        self.send_header("X-Linked-Size", str(len(self.server.data)))
        self.send_header("Content-Length", str(length))
        self.end_headers()


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    yield from _serve()


@pytest.fixture
def storage_server() -> Iterator[HubServer]:
    yield from _serve()


def _serve() -> Iterator[HubServer]:
    with HubServer() as hub_server:
        thread = threading.Thread(target=hub_server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub_server
        finally:
            hub_server.shutdown()
            thread.join()


@pytest.fixture
def hub(hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """Configure `hub_server` as the hub and return the server."""
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return hub_server


def store_of(tmp_path: Path, **changes: Any) -> ModelStore:
    return ModelStore(tmp_path / "store", catalogue(hub_entry("tiny", GOOD, **changes)))


def ranges(hub_server: HubServer) -> list[str | None]:
    """Return the Range header of each download, in order."""
    return [headers.get("Range") for path, headers in hub_server.downloads()]


def test_a_model_is_downloaded_from_the_hub(hub: HubServer, tmp_path: Path) -> None:
    """A model file is downloaded from the commit that the hub's metadata names, then verified and
    installed."""
    store = store_of(tmp_path)
    reports: list[Progress] = []
    pull(store, "tiny", reports.append)
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert [path for path, _ in hub.downloads()] == [f"/maker/models/resolve/{COMMIT}/model.gguf"]
    assert Progress("tiny", "downloading", len(GOOD), len(GOOD)) in reports
    assert reports[-1] == Progress("tiny", "verifying", len(GOOD), len(GOOD))


def test_a_broken_connection_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    """After a broken connection, only the missing part of the file is requested."""
    hub.break_after = 150_000
    store = store_of(tmp_path)
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert ranges(hub) == ["bytes=0-", "bytes=150000-"]


def test_a_later_attempt_resumes_an_earlier_one(hub: HubServer, tmp_path: Path) -> None:
    """A later attempt downloads only the part that an earlier attempt did not receive."""
    store = store_of(tmp_path)
    (store.work_folder("tiny", "hub") / f"{hub.etag}.part").write_bytes(GOOD[:77_777])
    (store.work_folder("tiny", "hub") / f"{'0' * 64}.part").write_bytes(b"of another file")
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert ranges(hub) == ["bytes=77777-"]


def test_a_server_without_range_support_restarts_the_download(
    hub: HubServer, tmp_path: Path
) -> None:
    """If the server does not support ranges, the complete file is downloaded and replaces the
    partial one."""
    hub.ranges = False
    store = store_of(tmp_path)
    (store.work_folder("tiny", "hub") / f"{hub.etag}.part").write_bytes(b"x" * 1000)
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert ranges(hub) == ["bytes=1000-"]


def test_an_attempt_without_progress_fails_and_keeps_the_partial_file(
    hub: HubServer, tmp_path: Path
) -> None:
    """A download attempt in which no byte arrives fails with a network error and keeps the partial
    file."""
    hub.break_after = 0
    store = store_of(tmp_path)
    partial = store.work_folder("tiny", "hub") / f"{hub.etag}.part"
    partial.write_bytes(GOOD[:1000])
    with pytest.raises(ModelError, match="resumed") as error:
        pull(store, "tiny")
    assert code_of(error) == ErrorCode.NETWORK
    assert partial.read_bytes() == GOOD[:1000]


def test_a_file_with_a_wrong_hash_is_discarded(hub: HubServer, tmp_path: Path) -> None:
    """A downloaded file with a wrong hash is not installed, and the next attempt downloads the
    complete file again."""
    hub.data = gguf(b"evil", size=len(GOOD))
    store = store_of(tmp_path)
    for _ in range(2):
        with pytest.raises(ModelError) as error:
            pull(store, "tiny")
        assert code_of(error) == ErrorCode.MODEL_HASH
    assert ranges(hub) == ["bytes=0-", "bytes=0-"]
    assert not (store.root / "tiny.gguf").exists()


def test_a_file_without_a_pinned_hash_is_verified_with_the_hubs(
    hub: HubServer, tmp_path: Path
) -> None:
    """A file without a pinned hash is verified against the hub's hash, and a second pull sends no
    request."""
    store = store_of(tmp_path, sha256="", size=1)
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD
    store.verify("tiny")
    requests = len(hub.requests)
    pull(store, "tiny")
    assert len(hub.requests) == requests


def test_a_file_without_any_hash_is_not_downloaded(hub: HubServer, tmp_path: Path) -> None:
    """A file for which neither the catalogue nor the hub has a hash is not downloaded."""
    hub.etag = "0123456789"
    with pytest.raises(ModelError) as error:
        pull(store_of(tmp_path, sha256=""), "tiny")
    assert code_of(error) == ErrorCode.MODEL_HASH
    assert ranges(hub) == []


def test_the_token_is_not_sent_to_a_redirect_target(
    hub: HubServer, storage_server: HubServer, tmp_path: Path
) -> None:
    """The server to which the hub redirects a download does not receive the hub's access token."""
    hub.redirect = f"{storage_server.url}/blob"
    store = store_of(tmp_path)
    pull(store, "tiny")
    assert store.installed_path("tiny").read_bytes() == GOOD
    assert {headers.get("Authorization") for _, headers in hub.downloads()} == {"Bearer secret"}
    assert {headers.get("Authorization") for _, headers in storage_server.downloads()} == {None}


@pytest.mark.parametrize(
    ("refusal", "code", "remedy"),
    [
        ((404, "RepoNotFound"), ErrorCode.MODEL_NOT_ON_HUB, "models import"),
        ((404, "EntryNotFound"), ErrorCode.MODEL_NOT_ON_HUB, "models import"),
        ((404, "RevisionNotFound"), ErrorCode.MODEL_NOT_ON_HUB, "models import"),
        ((403, "GatedRepo"), ErrorCode.MODEL_GATED, "HF_TOKEN"),
        ((500, ""), ErrorCode.NETWORK, "Try again later"),
        ((401, ""), ErrorCode.NETWORK, "HF_TOKEN"),
    ],
)
def test_an_error_of_the_hub_names_a_remedy(
    hub: HubServer, tmp_path: Path, refusal: tuple[int, str], code: str, remedy: str
) -> None:
    """The errors for missing repositories, gated repositories and a failing hub have different
    codes and name a remedy."""
    hub.refusal = refusal
    with pytest.raises(ModelError, match=remedy) as error:
        pull(store_of(tmp_path), "tiny")
    assert code_of(error) == code


def test_an_unreachable_hub_is_a_network_error(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulling from an unreachable hub raises a retryable network error that names HF_ENDPOINT, the
    setting for a mirror."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="HF_ENDPOINT") as error:
        pull(store_of(tmp_path), "tiny")
    assert code_of(error) == ErrorCode.NETWORK
    assert error.value.retryable


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"SSL_CERT_FILE": "/missing/ca.pem"}, "SSL_CERT_FILE"),
        ({"ALL_PROXY": "socks4://proxy", "HF_ENDPOINT": "https://hub.invalid"}, "ALL_PROXY"),
        ({"https_proxy": "http://x:y", "HF_ENDPOINT": "https://hub.invalid"}, "https_proxy"),
        ({"HF_ENDPOINT": "http://hub.invalid:port"}, "HF_ENDPOINT"),
        ({"HF_ENDPOINT": "http://[hub"}, "HF_ENDPOINT"),
    ],
)
def test_unusable_variables_are_named(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    problem: str,
) -> None:
    """Proxies, certificates and addresses that cannot be used raise ModelError with the variable's
    name."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=problem) as error:
        pull(store_of(tmp_path), "tiny")
    assert code_of(error) == ErrorCode.NETWORK
    assert hub.requests == []


def test_offline_mode_is_named(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If HF_HUB_OFFLINE is set, no request is sent, and ModelError names the variable."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE") as error:
        pull(store_of(tmp_path), "tiny")
    assert code_of(error) == ErrorCode.NETWORK
    assert hub.requests == []
