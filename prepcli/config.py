"""The servers that somebody has logged in to: addresses only, never a key."""

import json
import os
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from prepcli.errors import SettingsError, UsageError

__all__ = ["Config", "KnownServer", "load", "normalise_url", "save"]


class KnownServer(Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    insecure_file: str | None = None
    """Where the access key is kept, when it is not in the system's keyring."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    servers: tuple[KnownServer, ...] = ()

    def server(self, url: str) -> KnownServer | None:
        return next((server for server in self.servers if server.url == url), None)

    def with_server(self, server: KnownServer) -> "Config":
        """The same with this server last, in place of an entry for the same URL."""
        return Config((*self.without(server.url).servers, server))

    def without(self, url: str) -> "Config":
        return Config(tuple(server for server in self.servers if server.url != url))


def load(file: Path) -> Config:
    """What the file says; nothing when there is none. Raises SettingsError."""
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}. Mend or remove it.") from None
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise SettingsError(f"A setting in {file} is wrong: {error}. Mend or remove it.") from None


def save(config: Config, file: Path) -> None:
    """Write the file whole or not at all. Raises SettingsError."""
    lines = ["# The servers that `prep login` was told of. Access keys are kept elsewhere."]
    for server in config.servers:
        lines += ["", "[[servers]]", f"url = {_string(server.url)}"]
        if server.insecure_file is not None:
            lines.append(f"insecure_file = {_string(server.insecure_file)}")
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
        temporary.replace(file)
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}.") from None


def _string(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def normalise_url(url: str) -> str:
    """The one way of writing a server's address: `host:8400` becomes `https://host:8400`, and a
    name of this machine gets `http://`. Raises UsageError."""
    text = url.strip()
    if "://" not in text:
        local = urlsplit(f"//{text}").hostname in ("localhost", "127.0.0.1", "::1")
        text = f"{'http' if local else 'https'}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UsageError(f"{url!r} is not the address of a server.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{url!r} is not the address of a server: it begins with http:// or https://."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "A server's address has no user, password or query: prep asks for the access key."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
