"""Fetching models from the Hugging Face hub, of which one stands on this machine."""

import re
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from prepserver.models.errors import ModelError
from prepserver.models.progress import Progress
from prepserver.models.pull import pull
from prepserver.models.store import ModelStore
from tests.server.models.builders import catalogue, code_of, gguf, hub_entry, sha256

GOOD = gguf(bytes(range(256)) * 500, size=200_000)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Site(ThreadingHTTPServer):
    """Answers as the hub does for one file, or as the store of large files behind it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.data = GOOD
        self.etag = sha256(GOOD)
        self.refusal: tuple[int, str] | None = None
        """A status and the hub's code for it, instead of an answer."""
        self.redirect = ""
        """Where the file is, if not here."""
        self.lives = -1
        """Bytes of a body after which the connection breaks, once; -1 for never."""
        self.ranges = True
        self.asked: list[tuple[str, str, Message]] = []
        """Method, path and headers of every request."""

    def fetched(self) -> list[tuple[str, Message]]:
        """Path and headers of the requests for the file; the hub's library asks for more."""
        return [
            (path, head) for how, path, head in self.asked if how == "GET" and "/api/" not in path
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_HEAD(self) -> None:
        if self._begin():
            self._headers(200, len(self.server.data))

    def do_GET(self) -> None:
        site = self.server
        if not self._begin():
            return
        if site.redirect:
            self.send_response(302)
            self.send_header("Location", site.redirect)
            self.end_headers()
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and site.ranges else 0
        body = site.data[start:]
        self._headers(206 if match and site.ranges else 200, len(body))
        cut, site.lives = site.lives, -1
        self.wfile.write(body if cut < 0 else body[:cut])

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _begin(self) -> bool:
        site = self.server
        site.asked.append((self.command, self.path, self.headers))
        if site.refusal is None:
            return True
        status, code = site.refusal
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _headers(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Etag", f'"{self.server.etag}"')
        self.send_header("X-Linked-Size", str(len(self.server.data)))
        self.send_header("Content-Length", str(length))
        self.end_headers()


@pytest.fixture
def site() -> Iterator[Site]:
    yield from _serve()


@pytest.fixture
def other_site() -> Iterator[Site]:
    yield from _serve()


def _serve() -> Iterator[Site]:
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()


@pytest.fixture
def hub(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site as the hub that is asked."""
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return site


def store_of(tmp_path: Path, **changes: Any) -> ModelStore:
    return ModelStore(tmp_path / "store", catalogue(hub_entry("tiny", GOOD, **changes)))


def ranges(site: Site) -> list[str | None]:
    """The range of each request for the file, in order."""
    return [headers.get("Range") for path, headers in site.fetched()]


def test_a_model_is_fetched(hub: Site, tmp_path: Path) -> None:
    """The file of the commit that was looked up is fetched, verified and installed."""
    store = store_of(tmp_path)
    steps: list[Progress] = []
    pull(store, "tiny", steps.append)
    assert store.path("tiny").read_bytes() == GOOD
    assert [path for path, _ in hub.fetched()] == [f"/maker/models/resolve/{COMMIT}/model.gguf"]
    assert Progress("tiny", "downloading", len(GOOD), len(GOOD)) in steps
    assert steps[-1] == Progress("tiny", "verifying", len(GOOD), len(GOOD))


def test_a_broken_connection_is_gone_on_from(hub: Site, tmp_path: Path) -> None:
    """The rest is asked for, not the whole again."""
    hub.lives = 150_000
    store = store_of(tmp_path)
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD
    assert ranges(hub) == ["bytes=0-", "bytes=150000-"]


def test_a_later_attempt_goes_on_from_an_earlier_one(hub: Site, tmp_path: Path) -> None:
    """What arrived before the process ended is not fetched again."""
    store = store_of(tmp_path)
    (store.work_folder("tiny") / f"{hub.etag}.part").write_bytes(GOOD[:77_777])
    (store.work_folder("tiny") / f"{'0' * 64}.part").write_bytes(b"of another file")
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD
    assert ranges(hub) == ["bytes=77777-"]


def test_a_site_that_knows_no_ranges(hub: Site, tmp_path: Path) -> None:
    """It sends the file from its start, which then replaces what was there."""
    hub.ranges = False
    store = store_of(tmp_path)
    (store.work_folder("tiny") / f"{hub.etag}.part").write_bytes(b"x" * 1000)
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD
    assert ranges(hub) == ["bytes=1000-"]


def test_a_dead_line_ends_the_attempt(hub: Site, tmp_path: Path) -> None:
    """No byte came: the error asks to look at the network, and what there is stays."""
    hub.lives = 0
    store = store_of(tmp_path)
    partial = store.work_folder("tiny") / f"{hub.etag}.part"
    partial.write_bytes(GOOD[:1000])
    with pytest.raises(ModelError, match="what has arrived is kept") as error:
        pull(store, "tiny")
    assert code_of(error) == "network"
    assert partial.read_bytes() == GOOD[:1000]


def test_a_wrong_file_is_thrown_away(hub: Site, tmp_path: Path) -> None:
    """Content that is not the pinned one never gets a name, and is not gone on from."""
    hub.data = gguf(b"evil", size=len(GOOD))
    store = store_of(tmp_path)
    for _ in range(2):
        with pytest.raises(ModelError) as error:
            pull(store, "tiny")
        assert code_of(error) == "model_hash"
    assert ranges(hub) == ["bytes=0-", "bytes=0-"]
    assert not (store.root / "tiny.gguf").exists()


def test_a_file_without_a_pinned_hash_has_the_hubs(hub: Site, tmp_path: Path) -> None:
    """The hub states the hash; the second pull goes by the receipt of the first."""
    store = store_of(tmp_path, sha256="", size=1)
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD
    store.verify("tiny")
    asked = len(hub.asked)
    pull(store, "tiny")
    assert len(hub.asked) == asked


def test_a_hub_that_states_no_hash(hub: Site, tmp_path: Path) -> None:
    """Without any hash nothing is fetched."""
    hub.etag = "0123456789"
    with pytest.raises(ModelError, match="states no hash"):
        pull(store_of(tmp_path, sha256=""), "tiny")
    assert ranges(hub) == []


def test_the_token_stays_with_the_hub(hub: Site, other_site: Site, tmp_path: Path) -> None:
    """The site that the hub redirects to is not shown the token."""
    hub.redirect = f"{other_site.url}/blob"
    store = store_of(tmp_path)
    pull(store, "tiny")
    assert store.path("tiny").read_bytes() == GOOD
    assert {headers.get("Authorization") for _, headers in hub.fetched()} == {"Bearer secret"}
    assert {headers.get("Authorization") for _, headers in other_site.fetched()} == {None}


@pytest.mark.parametrize(
    ("refusal", "code", "remedy"),
    [
        ((404, "RepoNotFound"), "model_not_on_hub", "models import"),
        ((404, "EntryNotFound"), "model_not_on_hub", "models import"),
        ((404, "RevisionNotFound"), "model_not_on_hub", "models import"),
        ((403, "GatedRepo"), "model_gated", "HF_TOKEN"),
        ((500, ""), "network", "Try again later"),
    ],
)
def test_a_refusal_says_what_to_do(
    hub: Site, tmp_path: Path, refusal: tuple[int, str], code: str, remedy: str
) -> None:
    """Missing, closed and broken are told apart."""
    hub.refusal = refusal
    with pytest.raises(ModelError, match=remedy) as error:
        pull(store_of(tmp_path), "tiny")
    assert code_of(error) == code


def test_no_hub(hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, the error names the mirror setting."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="HF_ENDPOINT") as error:
        pull(store_of(tmp_path), "tiny")
    assert code_of(error) == "network"
    assert error.value.retryable
