"""Calls to the system's keyring, each in a thread of its own and with a time limit.

A keyring that is locked, or that waits for a dialog which nobody sees, never returns. Its thread is
a daemon: the process exits without it.
"""

import asyncio
import contextlib
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

from prepcli.errors import SettingsError

__all__ = ["ACCESS_KEY_VARIABLE", "delete_password", "read_password", "write_password"]

ACCESS_KEY_VARIABLE = "PREP_ACCESS_KEY"
"""Name of the environment variable with an access key that is used for every server."""

SERVICE = "prep"
"""Service name of prep's entries in the keyring."""

TIMEOUT = 5.0
"""Maximum number of seconds that a call to the keyring may take."""


class _KeyringFailed(Exception):
    """The keyring cannot be used; the message is the reason."""


async def read_password(url: str) -> str | None:
    """Return the access key for a server, or None if none is stored or there is no keyring. Raises
    SettingsError if the keyring cannot be used."""

    def read() -> object:
        import keyring
        import keyring.errors

        with contextlib.suppress(keyring.errors.NoKeyringError):
            return keyring.get_password(SERVICE, url)
        return None

    try:
        key = await _call(read)
        if isinstance(key, bytes):
            key = key.decode(errors="replace")
        if not isinstance(key, str | None):
            raise _KeyringFailed("it returned something other than text")
    except _KeyringFailed as failure:
        raise SettingsError(
            f"Cannot use the system's keyring ({failure}). Unlock it and try again, set "
            f"{ACCESS_KEY_VARIABLE} to your access key, or store the key in a file: "
            f"prep login {url} --insecure-file PATH"
        ) from None
    return key


async def write_password(url: str, key: str) -> None:
    """Store the access key for a server. Raises SettingsError if the keyring cannot be used."""

    def write() -> None:
        import keyring

        keyring.set_password(SERVICE, url, key)

    try:
        await _call(write)
    except _KeyringFailed as failure:
        raise SettingsError(
            f"Cannot use the system's keyring ({failure}). Unlock it and log in again, store the "
            f"key in a file with prep login {url} --insecure-file PATH, or set "
            f"{ACCESS_KEY_VARIABLE} instead of logging in."
        ) from None


async def delete_password(url: str) -> None:
    """Delete the access key for a server, if one is stored. Raises SettingsError if the keyring
    cannot be used."""

    def delete() -> None:
        import keyring
        import keyring.errors

        with contextlib.suppress(keyring.errors.PasswordDeleteError):
            keyring.delete_password(SERVICE, url)

    try:
        await _call(delete)
    except _KeyringFailed as failure:
        raise SettingsError(
            f"Cannot use the system's keyring ({failure}), so the access key for {url} may still "
            f"be stored. Unlock the keyring and log out again, or delete the entry "
            f"{SERVICE!r} with the keyring's own program."
        ) from None


async def _call(function: Callable[[], object]) -> object:
    """Return the function's result. Raises _KeyringFailed if the function raises anything or takes
    more than `TIMEOUT` seconds."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[object] = loop.create_future()

    def settle(settler: Callable[[Any], None], value: object) -> None:
        if not finished.done():
            settler(value)

    def run() -> None:
        settler: Callable[[Any], None] = finished.set_result
        value: object
        try:
            # Importing keyring probes for backends, which takes time and can start a D-Bus session.
            value = function()
        except BaseException as error:  # backends are plug-ins, which may raise anything
            settler, value = finished.set_exception, _KeyringFailed(_describe(error))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the result
            loop.call_soon_threadsafe(settle, settler, value)

    # Backends print. Textual captures that; without a screen, standard output is for results.
    clean = isinstance(sys.stdout, io.TextIOBase)
    with contextlib.redirect_stdout(sys.stderr) if clean else contextlib.nullcontext():
        threading.Thread(target=run, name="keyring", daemon=True).start()
        try:
            async with asyncio.timeout(TIMEOUT):
                return await finished
        except TimeoutError:
            raise _KeyringFailed(f"it has not answered for {TIMEOUT:.0f} seconds") from None


def _describe(error: BaseException) -> str:
    reason = str(error).partition("\n")[0].strip().rstrip(".")
    if type(error).__name__ == "NoKeyringError":
        return "none is available"  # the library's message recommends packages to install
    return reason or type(error).__name__
