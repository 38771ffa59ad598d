"""The address of a model elsewhere. Apart from what speaks to it, which needs a client of HTTP."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode

__all__ = ["PREFIX", "Endpoint"]

PREFIX = "openai:"
"""What the name of a model begins with that is elsewhere."""


class Endpoint(Struct, frozen=True):
    """Where a model is."""

    url: str
    """Up to what all paths have in common, such as `http://127.0.0.1:9000/v1`."""
    model: str
    """What the endpoint calls the model; empty if it serves one only."""

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """From `openai:URL#name`. Raises BadRequest."""
        address, _, model = text.removeprefix(PREFIX).partition("#")
        try:
            parts = urlsplit(address)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise _bad_endpoint(f"not an address: {error}") from error
        if parts.username is not None or parts.password is not None:
            # Without the address: it holds the secret.
            raise _bad_endpoint("its address must not hold a password. Set openai_api_key instead")
        if parts.scheme not in ("http", "https") or not host:
            raise _bad_endpoint("its address must begin with http:// or https:// and name a host")
        if parts.query or not address.isascii() or not address.isprintable() or " " in address:
            raise _bad_endpoint("its address must be plain ASCII without a query")
        return cls(address.rstrip("/"), model.strip())

    @property
    def origin(self) -> str:
        """Scheme, host and port: who is spoken to."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def private(self) -> bool:
        """Whether nobody on the way can read what is sent: over TLS, or within this machine."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        try:
            here = ip_address(host).is_loopback
        except ValueError:
            here = host == "localhost"
        return parts.scheme == "https" or here


def _bad_endpoint(why: str) -> BadRequest:
    return BadRequest(
        f"A model elsewhere is named {PREFIX}URL#NAME, such as "
        f"{PREFIX}http://127.0.0.1:9000/v1#llama-3.1-8b; {why}.",
        code=ErrorCode.BAD_SETTING,
    )
