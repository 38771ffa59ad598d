"""Connections to other machines, for the client and the server: trusted certificates and proxies.

httpx and websockets read the environment differently, and odd values make either of them fail.
"""

import contextlib
import ipaddress
import os
import re
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx
import truststore
from msgspec import Struct
from socksio.exceptions import SOCKSError

__all__ = [
    "Proxy",
    "Route",
    "RouteError",
    "describe_certificate_problem",
    "find_route",
    "is_loopback",
]

_PROXY_SCHEMES = {
    "http": ("http", 80),
    "https": ("https", 443),
    # The proxy looks up names, as in web browsers. GNOME writes socks:// for SOCKS 5.
    "socks": ("socks5h", 1080),
    "socks5": ("socks5h", 1080),
    "socks5h": ("socks5h", 1080),
}
"""The scheme that is used in place of each, and its default port."""

_EXCLUDED = re.compile(r"(?:\w+://)?(?:\[([^\]]*)\]|([^:/]*))(?::(\d*))?/?")
"""Entry of NO_PROXY that is not a network: an address or a name, and a port."""

_OWN_ADDRESS = "Set it to an address such as http://HOST:PORT, or unset it."


class RouteError(Exception):
    """The environment's proxies or certificates cannot be used; the message names the variable and
    says what to do."""


class Proxy(Struct, frozen=True):
    """Proxy server."""

    url: str
    """Address with the user name and the password, which must not be shown."""
    description: str
    """Address without them, and the variable that contains it."""
    variable: str
    """Name of the variable."""


class Route(Struct, frozen=True):
    """Way to a server."""

    tls: ssl.SSLContext
    proxy: Proxy | None

    @property
    def proxy_tls(self) -> ssl.SSLContext | None:
        """Return the context for the connection to the proxy itself, or None if it has no TLS."""
        return self.tls if self.proxy and self.proxy.url.startswith("https:") else None

    def make_transport(self) -> httpx.AsyncHTTPTransport:
        """Return a transport for httpx that takes this way. It raises httpx.ProxyError for replies
        of a proxy that are not SOCKS."""
        return _AsyncTransport(verify=self.tls, proxy=self._make_proxy())

    def make_blocking_transport(self) -> httpx.HTTPTransport:
        """Return the same for httpx's blocking client."""
        return _BlockingTransport(verify=self.tls, proxy=self._make_proxy())

    def _make_proxy(self) -> httpx.Proxy | None:
        if self.proxy is None:
            return None
        return httpx.Proxy(self.proxy.url, ssl_context=self.proxy_tls)


class _AsyncTransport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with _proxy_failures():
            return await super().handle_async_request(request)


class _BlockingTransport(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with _proxy_failures():
            return super().handle_request(request)


@contextlib.contextmanager
def _proxy_failures() -> Iterator[None]:
    """Raise httpx.ProxyError in place of the errors for replies that are not SOCKS, which httpx
    does not expect."""
    try:
        yield
    except (SOCKSError, AssertionError):
        raise httpx.ProxyError("it is not a SOCKS proxy") from None


def find_route(url: str) -> Route:
    """Return the way to the server of an http, https, ws or wss URL, from the environment and the
    system's settings. Raises RouteError.

    The context trusts what the system trusts. As in OpenSSL, the certificates in SSL_CERT_FILE take
    the place of the system's file, and those in SSL_CERT_DIR that of its folder; on macOS and
    Windows they are added.
    """
    return Route(_make_tls_context(), _find_proxy(url))


def is_loopback(url: str) -> bool:
    """Return True if the URL's host is this machine, which is reached without a proxy."""
    return _is_loopback(urlsplit(url).hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _make_tls_context() -> ssl.SSLContext:
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            context.load_verify_locations(cafile=file)
        except (OSError, ValueError) as error:
            problem = "is not a file of certificates in PEM format"
            if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                problem = f"cannot be read: {error.strerror}"
            raise RouteError(
                f"SSL_CERT_FILE names {file}, which {problem}. Correct it, or unset it."
            ) from None
    if folders:
        if not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
            raise RouteError(
                f"SSL_CERT_DIR names {folders}, which is not a folder. Correct it, or unset it."
            )
        context.load_verify_locations(capath=folders)
    return context


def _find_proxy(url: str) -> Proxy | None:
    parts = urlsplit(url)
    scheme = "https" if parts.scheme in ("https", "wss") else "http"
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or (443 if scheme == "https" else 80)
    if _is_loopback(host) or _is_excluded(host, port):
        return None
    settings = urllib.request.getproxies()
    for name in (scheme, "all", "socks"):
        if value := settings.get(name, "").strip():
            # macOS names SOCKS proxies in this form.
            value = re.sub(r"^http://", "socks://", value) if name == "socks" else value
            return _parse_proxy(value, _find_variable(f"{name}_proxy"))
    return None


def _find_variable(name: str) -> str:
    """Return the name of a variable as the environment writes it."""
    for variable in (name, name.upper(), *os.environ):
        if variable.lower() == name and os.environ.get(variable):
            return variable
    return "The system's proxy setting"


def _is_excluded(host: str, port: int) -> bool:
    # Settings of macOS and Windows count if the environment names no proxy.
    if urllib.request.proxy_bypass(f"{host}:{port}"):
        return True
    entries = re.split(r"[\s,;]+", urllib.request.getproxies().get("no", ""))
    return any(_excludes(entry.lower(), host, port) for entry in entries)


def _excludes(entry: str, host: str, port: int) -> bool:
    """Return True if an entry of NO_PROXY includes a host: `*`, a name with its subdomains, an
    address, or a network such as `10.0.0.0/8`. An entry may contain a port."""
    try:
        network = ipaddress.ip_network(re.sub(r"^\[(.*)\](?=/|$)", r"\1", entry), strict=False)
        return ipaddress.ip_address(host) in network
    except ValueError:  # at least one of them is a name
        match = _EXCLUDED.fullmatch(entry)
    if match is None or (match[3] and int(match[3]) != port):
        return False
    name = match[1] or match[2] or ""
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        name = name.removeprefix("*").strip(".")
    return f".{host}".endswith(f".{name}") if name else entry.startswith("*")


def _parse_proxy(value: str, variable: str) -> Proxy:
    if "://" not in value:
        value = f"http://{value}"
    scheme = value.partition("://")[0].lower()
    if scheme not in _PROXY_SCHEMES:
        raise RouteError(
            f"{variable} names a proxy of an unknown kind ({scheme}://). Use http://, https:// or "
            "socks5://, or unset it."
        )
    scheme, default_port = _PROXY_SCHEMES[scheme]
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
        if not re.fullmatch(r"[\w.:-]+", host) or parts.path.strip("/") or parts.query:
            raise ValueError
        host = f"[{ipaddress.IPv6Address(host)}]" if ":" in host else host.encode("idna").decode()
        address = f"{host}:{parts.port or default_port}"
        user = ""
        if parts.username is not None:
            names = (
                quote(unquote(each or ""), safe="") for each in (parts.username, parts.password)
            )
            user = f"{':'.join(names)}@"
    except ValueError:
        raise RouteError(f"{variable} is not the address of a proxy. {_OWN_ADDRESS}") from None
    return Proxy(f"{scheme}://{user}{address}", f"{address} of {variable}", variable)


_CERTIFICATE_PROBLEMS = {
    9: "is not valid yet. Check the date of this machine.",
    10: "has expired. Ask its administrator to renew it, and check the date of this machine.",
    62: "is for another host. Use the name that it contains.",
    64: "is for another address. Use the name that it contains.",
    23: "was revoked. Ask its administrator for a new one.",
}
"""Problems of certificates by the number that OpenSSL gives them (X509_V_ERR)."""

_UNKNOWN_AUTHORITY = (
    "is signed by an authority that this machine does not trust. Add the authority's certificate "
    "to the system's, or set SSL_CERT_FILE to a file with it."
)
_UNKNOWN_AUTHORITY_CODES = frozenset({2, 18, 19, 20, 21})


def describe_certificate_problem(error: BaseException) -> str:
    """Return a sentence without its subject, the server's certificate, that says what is wrong with
    it and what to do; an empty string if the error has another cause."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return ""
    code = getattr(cause, "verify_code", 0)
    if code in _UNKNOWN_AUTHORITY_CODES:
        return _UNKNOWN_AUTHORITY
    problem = getattr(cause, "verify_message", "") or str(cause)
    return _CERTIFICATE_PROBLEMS.get(code, f"is not accepted ({problem}). Ask its administrator.")
