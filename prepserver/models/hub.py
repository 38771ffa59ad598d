"""Models that are files on the Hugging Face hub.

huggingface_hub knows the address (a mirror too), the token and the file's hash. The bytes come over
httpx into a file that stays when the connection, or the process, goes away: huggingface_hub since
version 2 begins anew each time, which hurts at five gigabytes.
"""

import os
import re
from pathlib import Path

import httpx
from msgspec import Struct

from prepserver.models import files
from prepserver.models.catalogue import HubSource
from prepserver.models.errors import ModelError
from prepserver.models.progress import Progress, ProgressCallback
from prepserver.storage.files import sync_file
from prepserver.wire.error_codes import ErrorCode

__all__ = ["fetch_file"]

_TIMEOUT_SECONDS = 30.0


class _Remote(Struct, frozen=True, kw_only=True):
    url: str
    headers: dict[str, str]
    size: int
    sha256: str


def fetch_file(
    model: str, source: HubSource, expected: str, work: Path, report: ProgressCallback
) -> tuple[Path, str]:
    """The file, synced, in `work`, and the SHA-256 it should have: `expected`, or the hub's.

    What an earlier attempt left is gone on from. Raises ModelError: without network, room or
    permission, or when the hub does not have the file.
    """
    remote = _look_up(source, expected)
    partial = work / f"{remote.sha256}.part"
    files.clear(work, keep=partial.name)
    files.require_space(work, remote.size - (partial.stat().st_size if partial.exists() else 0))
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_SECONDS) as client:
        while True:
            before = partial.stat().st_size if partial.exists() else 0
            if before == remote.size:
                break
            try:
                _receive(client, model, remote, partial, report)
            except httpx.TransportError as error:
                # Progress earns another attempt; none means that the line is dead.
                if not partial.exists() or partial.stat().st_size <= before:
                    raise _unreachable(source, error) from error
    with partial.open("ab") as file:
        sync_file(file)
    return partial, remote.sha256


def _receive(
    client: httpx.Client, model: str, remote: _Remote, partial: Path, report: ProgressCallback
) -> None:
    """Go on from the end of `partial`, as far as the connection lasts."""
    done = partial.stat().st_size if partial.exists() else 0
    if done > remote.size:
        partial.unlink()
        done = 0
    headers = remote.headers | {"Accept-Encoding": "identity", "Range": f"bytes={done}-"}
    with client.stream("GET", remote.url, headers=headers) as response:
        if response.is_error:
            raise ModelError(
                f"The hub answered {response.status_code} while {model} was fetched. Pull it "
                "again later; what has arrived is kept.",
                code=ErrorCode.NETWORK,
                retryable=True,
            )
        # A server that does not know ranges sends the file from its start.
        mode = "ab" if response.status_code == httpx.codes.PARTIAL_CONTENT else "wb"
        done = done if mode == "ab" else 0
        with partial.open(mode) as out:
            # As they come: a larger chunk would be lost when the connection breaks within it.
            for chunk in response.iter_bytes():
                out.write(chunk)
                done += len(chunk)
                report(Progress(model, "downloading", done, remote.size))
    if done != remote.size:
        raise httpx.RemoteProtocolError("the file ended too early")


def _look_up(source: HubSource, expected: str) -> _Remote:
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
            f"{source.repo} is open only to those who accepted its licence. Accept it on the hub, "
            "put your token in HF_TOKEN, and pull again.",
            code=ErrorCode.MODEL_GATED,
        ) from error
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
    ) as error:
        raise ModelError(
            f"The hub does not have {source.file} in {source.repo} at {source.revision}. Pull "
            "another model, or bring this one: `prep-server models import PATH`.",
            code=ErrorCode.MODEL_NOT_ON_HUB,
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        raise ModelError(
            f"The hub answered {status} for {source.repo}. Try again later, or check HF_TOKEN.",
            code=ErrorCode.NETWORK,
            retryable=True,
        ) from error
    except Exception as error:  # its HTTP library, and so the class, differs between versions
        raise _unreachable(source, error) from error
    token = huggingface_hub.get_token()
    sha256 = expected or metadata.etag or ""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not metadata.size:
        raise ModelError(
            f"The hub states no hash for {source.file} in {source.repo}, so it cannot be checked. "
            "Download it yourself and bring it: `prep-server models import PATH`.",
            code=ErrorCode.MODEL_HASH,
        )
    return _Remote(
        # The commit, so that the answer and the file are of one version.
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
        f"The Hugging Face hub cannot be reached for {source.repo} ({type(error).__name__}). Check "
        "the network, or name a mirror in HF_ENDPOINT, and pull again: what has arrived is kept.",
        code=ErrorCode.NETWORK,
        retryable=True,
    )
