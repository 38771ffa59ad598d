"""Downloads from the Hugging Face hub.

huggingface_hub determines the address (including mirrors), the token and the file's hash. httpx
downloads the file itself, so that a download can be resumed after the connection breaks or the
process is killed. Since version 2, huggingface_hub restarts a download from the beginning, which is
costly for a file of five gigabytes.
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
from prepserver.outbound import RouteError, find_route
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["fetch_file"]

_TIMEOUT_SECONDS = 30.0
_HUB = "https://huggingface.co"


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
    transport = _make_transport()
    remote = _look_up(source, expected)
    partial = work / f"{remote.sha256}.part"
    files.clear_folder(work, keep={partial.name})
    files.require_space(work, remote.size - (partial.stat().st_size if partial.exists() else 0))
    with httpx.Client(
        follow_redirects=True, timeout=_TIMEOUT_SECONDS, transport=transport, trust_env=False
    ) as client:
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            if before == remote.size:
                break
            try:
                _download(client, model, remote, partial, report)
            except httpx.TransportError as error:
                # Resume as long as each attempt makes progress.
                if not partial.exists() or partial.stat().st_size <= before:
                    raise _unreachable(source, error) from error
    with partial.open("ab") as file:
        sync_file(file)
    return partial, remote.sha256


def _make_transport() -> httpx.HTTPTransport:
    try:
        route = find_route(os.environ.get("HF_ENDPOINT") or _HUB)
    except RouteError as error:
        raise ModelError(str(error), code=ErrorCode.NETWORK) from None
    except ValueError:
        raise ModelError(
            "HF_ENDPOINT is not a valid address. Correct it, or unset it.", code=ErrorCode.NETWORK
        ) from None
    return route.make_blocking_transport()


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
    headers = remote.headers | {"Accept-Encoding": "identity", "Range": f"bytes={done}-"}
    with client.stream("GET", remote.url, headers=headers) as response:
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


def _look_up(source: HubSource, expected: str) -> _RemoteFile:
    import huggingface_hub
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = huggingface_hub.hf_hub_url(
        source.repo, source.file, revision=source.revision, endpoint=endpoint
    )
    try:
        metadata = huggingface_hub.get_hf_file_metadata(url, endpoint=endpoint)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"The publisher of {source.repo} requires you to accept a licence. Accept the licence "
            "on the Hugging Face hub, set HF_TOKEN to your token, and pull the model again.",
            code=ErrorCode.MODEL_GATED,
        ) from error
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
    ) as error:
        raise ModelError(
            f"The Hugging Face hub does not have {source.file} in {source.repo} at "
            f"{source.revision}. Pull another model, or import a file with "
            "`prep-server models import PATH`.",
            code=ErrorCode.MODEL_NOT_ON_HUB,
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise ModelError(
            f"The Hugging Face hub returned HTTP {status} for {source.repo}. Try again later, or "
            "check HF_TOKEN.",
            code=ErrorCode.NETWORK,
            retryable=True,
        ) from error
    except Exception as error:  # the HTTP library, and so the class, differs between versions
        raise _unreachable(source, error) from error
    token = huggingface_hub.get_token()
    sha256 = expected or metadata.etag or ""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not metadata.size:
        raise ModelError(
            f"The Hugging Face hub provides no checksum for {source.file} in {source.repo}, so the "
            "file cannot be verified. Download it yourself and run "
            "`prep-server models import PATH`.",
            code=ErrorCode.MODEL_HASH,
        )
    return _RemoteFile(
        # Pin the commit, so that metadata and file belong to the same version.
        url=huggingface_hub.hf_hub_url(
            source.repo,
            source.file,
            revision=metadata.commit_hash or source.revision,
            endpoint=endpoint,
        ),
        headers={"Authorization": f"Bearer {token}"} if token else {},
        size=metadata.size,
        sha256=sha256,
    )


def _unreachable(source: HubSource, error: Exception) -> ModelError:
    return ModelError(
        f"Cannot reach the Hugging Face hub for {source.repo} ({type(error).__name__}). Check the "
        "network, or set HF_ENDPOINT to a mirror, and pull again; the download will be resumed.",
        code=ErrorCode.NETWORK,
        retryable=True,
    )
