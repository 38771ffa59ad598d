"""Settings file: the servers that the user is logged in to and the models of the local server.

Access keys are never in it.
"""

import json
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from prepcli.errors import SettingsError, UsageError
from prepcli.files import write_atomically

__all__ = ["Config", "KnownServer", "load", "normalise_url", "save"]


class KnownServer(Struct, frozen=True, forbid_unknown_fields=True):
    """A server that the user is logged in to."""

    url: str
    insecure_file: str | None = None
    """File that holds the access key; None if the system's keyring holds it."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the settings file."""

    servers: tuple[KnownServer, ...] = ()
    model_set: str = ""
    """Set of models that the local server uses for new interviews; empty for its own choice."""

    def find_server(self, url: str) -> KnownServer | None:
        return next((server for server in self.servers if server.url == url), None)

    def with_server(self, server: KnownServer) -> "Config":
        """Return a copy in which `server` comes last and replaces any entry for the same URL."""
        return replace(self, servers=(*self.without_server(server.url).servers, server))

    def without_server(self, url: str) -> "Config":
        """Return a copy without the entry for `url`."""
        others = tuple(server for server in self.servers if server.url != url)
        return replace(self, servers=others)


def load(file: Path) -> Config:
    """Read the settings file; a missing file counts as empty. Raises SettingsError if the file
    cannot be read or is invalid."""
    try:
        # A pipe or a device could block or never end.
        if file.exists() and not file.is_file():
            raise SettingsError(f"{file} is not a file. Delete it; prep writes a new one.")
        content = file.read_bytes()
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise SettingsError(
            f"Cannot read {file}: {error.strerror}. Check the path and the file's permissions."
        ) from None
    if b"\0" in content:
        raise SettingsError(f"{file} is UTF-16 or binary. Save it as UTF-8, or delete it.")
    try:
        # Some editors begin the file with a byte-order mark.
        values = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8. Save it as UTF-8, or delete it.") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise SettingsError(
            f"{file} is not valid TOML: {reason}. Fix or delete the file."
        ) from None
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"Invalid setting in {file}: {error}. Fix or delete the file."
        ) from None


def save(config: Config, file: Path) -> None:
    """Write the settings file atomically. Raises SettingsError if the file cannot be written."""
    lines = []
    if config.model_set:
        lines += [
            "# Set by `prep models use`.",
            f"model_set = {_toml_string(config.model_set)}",
            "",
        ]
    lines += ["# Servers added by `prep login`. Access keys are stored elsewhere."]
    for server in config.servers:
        lines += ["", "[[servers]]", f"url = {_toml_string(server.url)}"]
        if server.insecure_file is not None:
            lines.append(f"insecure_file = {_toml_string(server.insecure_file)}")
    try:
        write_atomically(file, ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise SettingsError(
            f"Cannot write {file}: {error.strerror}. Check the folder's permissions and free space."
        ) from None


def _toml_string(text: str) -> str:
    """Encode text as a TOML basic string.

    JSON's escapes are valid in TOML, except for the surrogate pairs that stand for characters
    beyond U+FFFF. Characters outside ASCII are therefore not escaped.
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def normalise_url(url: str) -> str:
    """Return a server's address in canonical form.

    An address without a scheme gets `http://` if its host is this machine, otherwise `https://`.
    Raises UsageError if the address is invalid.
    """
    text = url.strip()
    try:
        if "://" not in text:
            local = urlsplit(f"//{text}").hostname in ("localhost", "127.0.0.1", "::1")
            text = f"{'http' if local else 'https'}://{text}"
        parts = urlsplit(text)
        port = parts.port
        _require_usable(text)
    except ValueError as error:
        reason = str(error).rstrip(".")
        reason = reason[:1].lower() + reason[1:]
        raise UsageError(
            f"{url!r} is not a valid server address: {reason}. Use the form https://HOST:PORT."
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{url!r} is not a valid server address. Use the form https://HOST:PORT or "
            "http://HOST:PORT."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "A server address must not contain a user name, a password, a query or a fragment. "
            "Remove that part; prep asks for the access key."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def _require_usable(url: str) -> None:
    """Raise ValueError if HTTP clients reject an address, such as one with a control character or
    with a name that no host can have."""
    import httpx  # takes a tenth of a second

    try:
        httpx.URL(url).host  # noqa: B018  (the property decodes the name)
    except (httpx.InvalidURL, UnicodeError):
        raise ValueError("it contains a character that no address can contain") from None
