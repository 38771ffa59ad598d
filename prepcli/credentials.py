"""Access keys, stored in the system's keyring or in a file that only its owner can read.

The environment variable `PREP_ACCESS_KEY` takes precedence over both, for scripts. No command-line
argument contains a key, because every user of a machine can read those arguments.
"""

import codecs
import os
import stat
from pathlib import Path

import msgspec

from prepcli import config, paths, system_keyring
from prepcli.errors import NotAuthorised, SettingsError
from prepcli.files import write_atomically
from prepcli.system_keyring import ACCESS_KEY_VARIABLE

__all__ = [
    "ACCESS_KEY_VARIABLE",
    "delete_access_key",
    "load_access_key",
    "require_sendable",
    "save_access_key",
]


async def load_access_key(url: str) -> str:
    """Return the access key for a server.

    Raises NotAuthorised if no key is stored, and SettingsError if the settings, the keyring or the
    key file cannot be read, or if the key cannot be sent in a header.
    """
    if key := os.environ.get(ACCESS_KEY_VARIABLE, "").strip():
        return require_sendable(key, ACCESS_KEY_VARIABLE)
    server = config.load(paths.settings_file()).find_server(url)
    if server is not None and server.insecure_file is not None:
        stored = _read_key_file(_expand(server.insecure_file)).get(url)
    else:
        stored = await system_keyring.read_password(url)
    if not stored or not stored.strip():
        raise NotAuthorised(f"You are not logged in to {url}. Log in first: prep login {url}")
    return require_sendable(stored.strip(), f"The stored access key for {url}")


def require_sendable(key: str, source: str) -> str:
    """Return the access key. Raises SettingsError if no header can contain it; the message begins
    with `source`."""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            f"{source} contains a space, a line break or another character that access keys never "
            "contain. Ask your administrator for the key, and set it again."
        )
    return key


async def save_access_key(url: str, key: str, insecure_file: Path | None = None) -> None:
    """Store an access key and add the server to the settings.

    Raises SettingsError if the keyring, the key file or the settings cannot be used.
    """
    if insecure_file is None:
        await system_keyring.write_password(url, key)
        server = config.KnownServer(url)
    else:
        file = _store_in_key_file(insecure_file, url, key)
        server = config.KnownServer(url, insecure_file=str(file))
    settings = paths.settings_file()
    config.save(config.load(settings).with_server(server), settings)


async def delete_access_key(url: str) -> bool:
    """Delete a server's access key and its entry in the settings.

    Return False if the user is not logged in to the server. Raises SettingsError if the keyring,
    the key file or the settings cannot be used.
    """
    settings = paths.settings_file()
    known = config.load(settings)
    server = known.find_server(url)
    if server is None:
        return False
    if server.insecure_file is None:
        await system_keyring.delete_password(url)
    else:
        _delete_from_key_file(_expand(server.insecure_file), url)
    config.save(known.without_server(url), settings)
    return True


# --- Key file ---------------------------------------------------------------------------------


def _expand(name: str) -> Path:
    """Return the path of a key file, with the `~` that a person may have written in the
    settings."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # no such user: the name is meant literally
        return Path(name)


def _store_in_key_file(file: Path, url: str, key: str) -> Path:
    """Add a key to a file and return the file's absolute path. Raises SettingsError."""
    try:
        file = file.expanduser().absolute()
        str(file).encode()  # the settings file holds the path
    except (OSError, RuntimeError, UnicodeEncodeError):
        raise SettingsError(
            f"Cannot use the file {file}. Give a full path whose name is UTF-8."
        ) from None
    _write_key_file(file, {**_read_key_file(file, missing_ok=True), url: key})
    return file


def _delete_from_key_file(file: Path, url: str) -> None:
    """Delete a key, and the file with its last key. Raises SettingsError."""
    keys = _read_key_file(file, missing_ok=True)
    if keys.pop(url, None) is None:
        return
    if keys:
        _write_key_file(file, keys)
        return
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(
            f"Cannot remove {file}: {error.strerror}. Check the folder's permissions."
        ) from None


def _read_key_file(file: Path, *, missing_ok: bool = False) -> dict[str, str]:
    """Return the access keys in a file, by server URL. With `missing_ok`, a missing file counts as
    empty. Raises NotAuthorised if the file is missing and `missing_ok` is False, and SettingsError
    if the file cannot be used."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not block
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise NotAuthorised(
            f"The file with your access key, {file}, is missing. Log in again: prep login URL"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"Cannot read {file}: {error.strerror}. Check the file's permissions."
        ) from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise SettingsError(f"{file} is not a regular file. Choose another file.")
    with os.fdopen(descriptor, "rb") as stream:
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise SettingsError(
                f"Other users have access to {file}, which holds your access key. Restrict the "
                f"file's permissions: chmod 600 {file}"
            )
        data = stream.read()
    try:
        return msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SettingsError(
            f"{file} does not contain access keys. Choose another file, or delete this one."
        ) from None


def _write_key_file(file: Path, keys: dict[str, str]) -> None:
    """Write access keys to a file atomically. Other users can never read the file. Raises
    SettingsError if the file cannot be written."""
    try:
        write_atomically(file, msgspec.json.encode(keys), mode=0o600)
    except OSError as error:
        raise SettingsError(
            f"Cannot write {file}: {error.strerror}. Check the folder's permissions and free space."
        ) from None
