"""Locks on files in the local server's data directory, by which several `prep` share one server.

A lock ends with the process that holds it, even after `kill -9`.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from prepcli.errors import LocalServerFailed
from prepcli.local_server.failures import cannot_use

__all__ = ["hold_start_lock", "take_lease"]

POLL_SECONDS = 0.05
"""Seconds between two attempts to take a lock."""


async def take_lease(directory: Path, seconds: float) -> int | None:
    """Take a shared lock on the lease file and return its descriptor. The server runs while a
    process holds such a lock.

    A server that is stopping holds the lock alone: wait for its end, and return None if it has not
    ended within `seconds`. Raises LocalServerFailed if the file cannot be locked.
    """
    return await _lock(directory / "lease.lock", fcntl.LOCK_SH, seconds)


@contextlib.asynccontextmanager
async def hold_start_lock(directory: Path, seconds: float) -> AsyncIterator[None]:
    """Hold the lock that allows one `prep` at a time to start the server or to read its files.

    Raises LocalServerFailed if the lock is not free within `seconds` or the file cannot be locked.
    """
    descriptor = await _lock(directory / "start.lock", fcntl.LOCK_EX, seconds)
    if descriptor is None:
        raise LocalServerFailed(
            f"Another prep has been starting the local server for {seconds:g} seconds. Quit that "
            "prep, then try again."
        )
    try:
        yield
    finally:
        os.close(descriptor)


async def _lock(file: Path, operation: int, seconds: float) -> int | None:
    """Lock a file and return its descriptor, or None if other processes have held the lock for
    `seconds`."""
    deadline = time.monotonic() + seconds
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot_use(error.filename, error) from None
    try:
        while True:
            try:
                fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return None
            else:
                return descriptor
            await asyncio.sleep(POLL_SECONDS)
    except OSError as error:
        os.close(descriptor)
        raise LocalServerFailed(
            f"{file} cannot be locked: {error.strerror}. Set PREP_DATA_DIR to a directory on a "
            "disk of this machine."
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
