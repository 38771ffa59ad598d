"""Access keys: in the system's keyring, or in a file that only its owner can read.

`PREP_ACCESS_KEY` in the environment comes before both, for scripts. A key is never an argument:
the arguments of a process are for everybody to read.
"""

import os
import stat
from pathlib import Path
from types import ModuleType

import msgspec

from prepcli import config, paths
from prepcli.errors import NotAuthorised, SettingsError

__all__ = ["ACCESS_KEY_VARIABLE", "delete_access_key", "load_access_key", "save_access_key"]

ACCESS_KEY_VARIABLE = "PREP_ACCESS_KEY"

SERVICE = "prep"
"""The name under which keyrings show the entries."""


def load_access_key(url: str) -> str:
    """The key for a server. Raises NotAuthorised when there is none, SettingsError."""
    if key := os.environ.get(ACCESS_KEY_VARIABLE, "").strip():
        return key
    server = config.load(paths.settings_file()).server(url)
    if server is not None and server.insecure_file is not None:
        found = _read(Path(server.insecure_file)).get(url)
    else:
        found = _from_keyring(url)
    if not found:
        raise NotAuthorised(f"You are not logged in to {url}. Log in first: prep login {url}")
    return found


def save_access_key(url: str, key: str, insecure_file: Path | None = None) -> None:
    """Remember a key and the server. Raises SettingsError when there is no keyring."""
    if insecure_file is None:
        _to_keyring(url, key)
        server = config.KnownServer(url)
    else:
        file = insecure_file.expanduser().absolute()
        _write(file, {**_read(file, missing_ok=True), url: key})
        server = config.KnownServer(url, insecure_file=str(file))
    settings = paths.settings_file()
    config.save(config.load(settings).with_server(server), settings)


def delete_access_key(url: str) -> bool:
    """Remove the key and the server; whether there was one. Raises SettingsError."""
    settings = paths.settings_file()
    known = config.load(settings)
    server = known.server(url)
    if server is None:
        return False
    if server.insecure_file is None:
        _remove_from_keyring(url)
    else:
        file = Path(server.insecure_file)
        keys = _read(file, missing_ok=True)
        if keys.pop(url, None) is not None:
            if keys:
                _write(file, keys)
            else:
                file.unlink(missing_ok=True)
    config.save(known.without(url), settings)
    return True


# --- The keyring ------------------------------------------------------------------------------


def _keyring() -> ModuleType:
    # Looks for its backends when it is imported, which takes time and may start a bus.
    import keyring
    import keyring.errors

    return keyring


def _no_keyring(error: Exception) -> SettingsError:
    reason = str(error).partition("\n")[0].rstrip(".")
    if isinstance(error, _keyring().errors.NoKeyringError) or not reason:
        reason = "there is none"  # its own words advise on packages that prep cannot vouch for
    return SettingsError(
        f"The system's keyring cannot be used ({reason}). Keep the key in a file instead, "
        f"prep login URL --insecure-file PATH, or set {ACCESS_KEY_VARIABLE}."
    )


def _from_keyring(url: str) -> str | None:
    keyring = _keyring()
    try:
        found: str | None = keyring.get_password(SERVICE, url)
    except keyring.errors.NoKeyringError:
        return None
    except keyring.errors.KeyringError as error:
        raise _no_keyring(error) from None
    return found


def _to_keyring(url: str, key: str) -> None:
    keyring = _keyring()
    try:
        keyring.set_password(SERVICE, url, key)
    except keyring.errors.KeyringError as error:
        raise _no_keyring(error) from None


def _remove_from_keyring(url: str) -> None:
    keyring = _keyring()
    try:
        keyring.delete_password(SERVICE, url)
    except keyring.errors.PasswordDeleteError:
        return
    except keyring.errors.KeyringError as error:
        raise _no_keyring(error) from None


# --- The file ---------------------------------------------------------------------------------


def _read(file: Path, *, missing_ok: bool = False) -> dict[str, str]:
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise NotAuthorised(
            f"The file with your access key, {file}, is not there. Log in again: prep login URL"
        ) from None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from None
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise SettingsError(
                f"Others can read the access key in {file}. Close it to them: chmod 600 {file}"
            )
        data = stream.read()
    try:
        return msgspec.json.decode(data, type=dict[str, str])
    except msgspec.DecodeError:
        raise SettingsError(
            f"{file} does not hold access keys. Name another file, or remove it."
        ) from None


def _write(file: Path, keys: dict[str, str]) -> None:
    """The file is never, not even for a moment, readable by others, nor half written."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(keys))
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SettingsError(f"{file} cannot be written: {error.strerror}.") from None
