"""Address of a remote model. This module is separate from the client, because the client imports an
HTTP library."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode

__all__ = ["PREFIX", "Endpoint"]

PREFIX = "openai:"
"""Prefix of every remote model's name in the settings."""


class Endpoint(Struct, frozen=True):
    """Base URL of an OpenAI-compatible server, and the name of a model on this server."""

    url: str
    """Base URL, such as `http://127.0.0.1:9000/v1`."""
    model: str
    """Name of the model at the endpoint; may be empty if the endpoint serves only one model."""

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Parse `openai:URL#NAME`, in which `#NAME` is optional. Raises BadRequest if the URL is
        not valid."""
        address, _, model = text.removeprefix(PREFIX).partition("#")
        try:
            parts = urlsplit(address)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise _bad_endpoint(f"The URL is invalid: {error}.") from error
        if parts.username is not None or parts.password is not None:
            # The message omits the URL, which contains a secret.
            raise _bad_endpoint("The URL must not contain a password; set openai_api_key instead.")
        if parts.scheme not in ("http", "https") or not host:
            raise _bad_endpoint("The URL must begin with http:// or https:// and name a host.")
        if parts.query or not address.isascii() or not address.isprintable() or " " in address:
            raise _bad_endpoint("The URL must be plain ASCII, without spaces or a query.")
        return cls(address.rstrip("/"), model.strip())

    @property
    def origin(self) -> str:
        """Scheme, host and port of the URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def private(self) -> bool:
        """True if requests cannot be read in transit, because they use TLS or stay on this
        machine."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        try:
            loopback = ip_address(host).is_loopback
        except ValueError:
            loopback = host == "localhost"
        return parts.scheme == "https" or loopback


def _bad_endpoint(problem: str) -> BadRequest:
    return BadRequest(
        f"{problem} Name a remote model as {PREFIX}URL#NAME, such as "
        f"{PREFIX}http://127.0.0.1:9000/v1#llama-3.1-8b.",
        code=ErrorCode.BAD_SETTING,
    )
