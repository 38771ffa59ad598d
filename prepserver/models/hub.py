"""Downloads from the Hugging Face hub.

huggingface_hub determines the address (including mirrors) and the token. httpx requests the file's
hash and the file, so that the proxies and certificates of the environment count as everywhere in
prep, and that a download can be resumed after the connection breaks or the process is killed. Since
version 2, huggingface_hub restarts a download from the beginning, which is costly for a file of
five gigabytes.
"""

import os
import re
from pathlib import Path

import httpx
from msgspec import Struct

from prepserver.errors import ModelError
from prepserver.models import files
from prepserver.models.catalogue import HubSource
from prepserver.models.files import Progress, ProgressCallback
from prepserver.outbound import (
    Proxy,
    Route,
    RouteError,
    describe_certificate_problem,
    find_route,
)
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["fetch_file"]

_TIMEOUT_SECONDS = 30.0
_HUB = "https://huggingface.co"
_IDENTITY = {"Accept-Encoding": "identity"}
_MISSING = frozenset({"RepoNotFound", "RevisionNotFound", "EntryNotFound"})
_MAX_REDIRECTS = 10
"""Maximum number of redirects of the request for a file's hash."""


class _RemoteFile(Struct, frozen=True, kw_only=True):
    url: str
    headers: dict[str, str]
    size: int
    sha256: str


def fetch_file(
    model: str, source: HubSource, expected: str, work: Path, report: ProgressCallback
) -> tuple[Path, str]:
    """Download a file into `work`. Return the path of the synced file and its expected SHA-256.

    The expected SHA-256 is `expected` or, if `expected` is empty, the hash from the hub. An
    earlier partial download is resumed. Raises ModelError if the hub cannot be reached, returns an
    error, denies access, or lacks the file or its hash, if there is not enough disk space, or if
    the environment's proxies or certificates cannot be used.
    """
    route = _find_hub_route()
    transport = route.make_blocking_transport()
    with httpx.Client(timeout=_TIMEOUT_SECONDS, transport=transport, trust_env=False) as client:
        try:
            remote = _look_up(client, source, expected)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(source, route.proxy, error) from error
        partial = work / f"{remote.sha256}.part"
        files.clear_folder(work, keep={partial.name})
        files.require_space(work, remote.size - (partial.stat().st_size if partial.exists() else 0))
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            if before == remote.size:
                break
            try:
                _download(client, model, remote, partial, report)
            except httpx.TransportError as error:
                # Resume as long as each attempt makes progress.
                if not partial.exists() or partial.stat().st_size <= before:
                    raise _unreachable(source, route.proxy, error) from error
    with partial.open("ab") as file:
        sync_file(file)
    return partial, remote.sha256


def _find_hub_route() -> Route:
    try:
        return find_route(os.environ.get("HF_ENDPOINT") or _HUB)
    except RouteError as error:
        raise ModelError(str(error), code=ErrorCode.NETWORK) from None
    except ValueError:
        raise ModelError(
            "HF_ENDPOINT is not a valid address. Correct it, or unset it.", code=ErrorCode.NETWORK
        ) from None


def _download(
    client: httpx.Client, model: str, remote: _RemoteFile, partial: Path, report: ProgressCallback
) -> None:
    """Download the rest of the file into `partial`, or all of it if the server ignores ranges.

    Raises httpx.TransportError if the connection fails or ends before the file is complete, and
    ModelError if the hub returns an HTTP error.
    """
    done = partial.stat().st_size if partial.exists() else 0
    if done > remote.size:
        partial.unlink()
        done = 0
    headers = remote.headers | _IDENTITY | {"Range": f"bytes={done}-"}
    with client.stream("GET", remote.url, headers=headers, follow_redirects=True) as response:
        if response.is_error:
            raise ModelError(
                f"The Hugging Face hub returned HTTP {response.status_code} for {model}. Pull the "
                "model again later; the download will be resumed.",
                code=ErrorCode.NETWORK,
                retryable=True,
            )
        # A server without range support sends the file from its start.
        mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
        done = done if mode == "ab" else 0
        with partial.open(mode) as out:
            # Write each chunk as it arrives: larger ones would be lost with the connection.
            for chunk in response.iter_bytes():
                out.write(chunk)
                done += len(chunk)
                report(Progress(model, "downloading", done, remote.size))
    if done != remote.size:
        raise httpx.RemoteProtocolError("the response ended early")


def _look_up(client: httpx.Client, source: HubSource, expected: str) -> _RemoteFile:
    """Request the hash and the size of a file. Raises httpx.HTTPError if the hub cannot be
    reached."""
    import huggingface_hub
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            "HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it, or import a file with "
            "`prep-server models import PATH`.",
            code=ErrorCode.NETWORK,
        )
    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = huggingface_hub.hf_hub_url(
        source.repo, source.file, revision=source.revision, endpoint=endpoint
    )
    token = huggingface_hub.get_token()
    authorization = {"Authorization": f"Bearer {token}"} if token else {}
    response = client.head(url, headers=authorization | _IDENTITY)
    commit = response.headers.get("X-Repo-Commit")
    for _ in range(_MAX_REDIRECTS):
        # The hub describes the file before it redirects to the storage.
        if response.next_request is None or "X-Linked-Etag" in response.headers:
            break
        response = client.send(response.next_request)
        commit = commit or response.headers.get("X-Repo-Commit")
    _raise_for_status(source, response)
    etag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag", "")
    size = response.headers.get("X-Linked-Size") or response.headers.get("Content-Length", "")
    sha256 = expected or etag.removeprefix("W/").strip('"')
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not re.fullmatch(r"0*[1-9][0-9]{0,15}", size):
        raise ModelError(
            f"The Hugging Face hub provides no checksum for {source.file} in {source.repo}, so the "
            "file cannot be verified. Download it yourself and run "
            "`prep-server models import PATH`.",
            code=ErrorCode.MODEL_HASH,
        )
    return _RemoteFile(
        # Pin the commit, so that metadata and file belong to the same version.
        url=huggingface_hub.hf_hub_url(
            source.repo, source.file, revision=commit or source.revision, endpoint=endpoint
        ),
        headers=authorization,
        size=int(size),
        sha256=sha256,
    )


def _raise_for_status(source: HubSource, response: httpx.Response) -> None:
    if not response.is_error:
        return
    status, reason = response.status_code, response.headers.get("X-Error-Code")
    if status == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
        raise httpx.ProxyError("it requires a user name and a password")
    if reason == "GatedRepo":
        raise ModelError(
            f"The publisher of {source.repo} requires you to accept a licence. Accept the licence "
            "on the Hugging Face hub, set HF_TOKEN to your token, and pull the model again.",
            code=ErrorCode.MODEL_GATED,
        )
    # Without a token, the hub responds with status 401 to requests for missing repositories.
    if reason in _MISSING or (status == 401 and "Authorization" not in response.request.headers):
        raise ModelError(
            f"The Hugging Face hub does not have {source.file} in {source.repo} at "
            f"{source.revision}. Pull another model, or import a file with "
            "`prep-server models import PATH`.",
            code=ErrorCode.MODEL_NOT_ON_HUB,
        )
    raise ModelError(
        f"The Hugging Face hub returned HTTP {status} for {source.repo}. Try again later, or "
        "check HF_TOKEN.",
        code=ErrorCode.NETWORK,
        retryable=True,
    )


def _unreachable(source: HubSource, proxy: Proxy | None, error: Exception) -> ModelError:
    if problem := describe_certificate_problem(error):
        return ModelError(
            f"The certificate of the Hugging Face hub {problem}", code=ErrorCode.NETWORK
        )
    way, advice = "", "Check the network, or set HF_ENDPOINT to a mirror, and pull again"
    if proxy is not None:
        way = f" through the proxy {proxy.description}"
        advice = "Check the proxy, or add the hub to NO_PROXY, and pull again"
    return ModelError(
        f"Cannot reach the Hugging Face hub for {source.repo}{way} ({type(error).__name__}). "
        f"{advice}; the download will be resumed.",
        code=ErrorCode.NETWORK,
        retryable=True,
    )
