"""Server process, which runs the application under uvicorn until a signal arrives."""

import asyncio
import contextlib
import fcntl
import gc
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import structlog
import uvicorn

from prepserver.app import VERSION, create_app, create_services
from prepserver.clock import Clock
from prepserver.config import Config
from prepserver.errors import BadRequest, Conflict
from prepserver.folders import open_folder
from prepserver.gateway.gateway import Gateway
from prepserver.http.rooms import Rooms
from prepserver.http.sockets import Sockets
from prepserver.models.background import BackgroundFetch
from prepserver.storage.files import write_atomically
from prepserver.wire.error_codes import ErrorCode

__all__ = ["serve"]

DRAIN_SECONDS = 5
"""Seconds allowed for requests and connections to finish after SIGTERM or SIGINT. Supervisors
usually allow the server 10 s."""

LEASE_POLL = 0.5
"""Seconds between two checks whether a client still holds a lock on the lease file."""


def serve(config: Config) -> None:
    """Run the server until SIGTERM or SIGINT.

    Raises Conflict if another server is using the data directory or if the server cannot listen on
    the port, NotFound if a model is not installed, BadRequest if a setting names an unusable file,
    and StorageError if the disk fails.
    """
    _configure_logging(config.log_level)
    asyncio.run(_serve(config))


async def _serve(config: Config) -> None:
    _prepare_ready_file(config.ready_file)
    services = create_services(config)
    await services.start()
    sockets = Sockets(Rooms(services).open_connection, services.clock)
    ready = {"pid": os.getpid(), "version": VERSION}
    if config.issue_key:
        ready["key"] = await services.authenticator.replace_key(config.issue_key)
    server = _Server(config, create_app(services), sockets, ready)
    tasks = [asyncio.create_task(sockets.run_keepalive())]
    if services.fetch is not None:
        tasks.append(asyncio.create_task(_fetch_models(services.fetch, services.gateway)))
    if config.lease_file is not None:
        tasks.append(asyncio.create_task(_stop_without_clients(server, config, services.clock)))
    # Imported modules live as long as the process: exempt them from garbage collection.
    gc.collect()
    gc.freeze()
    try:
        await server.serve()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # ends the process that fetches
        server.remove_ready_file()
        await services.close()


async def _fetch_models(fetch: BackgroundFetch, gateway: Gateway) -> None:
    """Fetch a set of models, then load it for the next interview."""
    if await fetch.run():
        await gateway.open_set("")


async def _stop_without_clients(server: uvicorn.Server, config: Config, clock: Clock) -> None:
    """Stop the server once no client holds a lock on the lease file.

    The server's own, exclusive lock lasts until the process ends, so that a new client waits for
    the end instead of connecting to a server that is stopping.
    """
    assert config.lease_file is not None
    descriptor = os.open(config.lease_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        await clock.sleep(LEASE_POLL)
    structlog.get_logger(__name__).info("server.unused")
    server.should_exit = True


class _Server(uvicorn.Server):
    def __init__(
        self, config: Config, app: object, sockets: Sockets, ready: dict[str, object]
    ) -> None:
        """`ready` is the content of the ready file, except for the URL."""
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                host=config.host,
                port=config.port,
                ws=sockets.create_protocol,  # type: ignore[arg-type]
                timeout_graceful_shutdown=DRAIN_SECONDS,
                lifespan="off",
                # An access log would contain the tokens in room addresses.
                access_log=False,
                log_config=None,
                server_header=False,
            )
        )
        self._settings = config
        self._ready = ready
        self._ready_file_written = False

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        try:
            await super().startup()
        except SystemExit as error:
            raise Conflict(
                f"Cannot listen on {self._settings.host}, port {self._settings.port}. "
                "Check --host, or choose another port with --port; 0 picks a free one.",
                code=ErrorCode.PORT_IN_USE,
            ) from error
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if self._settings.ready_file is not None:
            content = json.dumps({"url": url, **self._ready})
            mode = 0o600 if "key" in self._ready else 0o666
            try:
                write_atomically(self._settings.ready_file, f"{content}\n".encode(), mode=mode)
            except OSError as error:
                await super().shutdown()
                raise _unusable_ready_file(self._settings.ready_file, error.strerror) from error
            self._ready_file_written = True
        structlog.get_logger(__name__).info("server.ready", url=url, pid=os.getpid())

    def remove_ready_file(self) -> None:
        """Remove the ready file if this server has written it."""
        if self._ready_file_written and self._settings.ready_file is not None:
            self._settings.ready_file.unlink(missing_ok=True)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self.remove_ready_file()
        await super().shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop the server with exit code 0 on SIGTERM or SIGINT during the `with` block.

        uvicorn itself would raise the signal again.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _prepare_ready_file(ready_file: Path | None) -> None:
    """Create the ready file's folder, and remove a killed server's file, so that no client tries
    its address.

    Raises BadRequest (code `bad_setting`) if the file cannot be written.
    """
    if ready_file is None:
        return
    open_folder(ready_file.parent, "the folder of the ready file,", "--ready-file")
    if ready_file.exists() and not ready_file.is_file():  # a device would be replaced
        raise _unusable_ready_file(ready_file, "it is not a regular file")
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, OverflowError):
        pid = int(json.loads(ready_file.read_text())["pid"])
        if pid == os.getpid() or not _process_exists(pid):  # pids repeat in containers
            ready_file.unlink()


def _unusable_ready_file(ready_file: Path, reason: str | None) -> BadRequest:
    return BadRequest(
        f"Cannot write the ready file {ready_file}: {reason}. Choose another with --ready-file.",
        code=ErrorCode.BAD_SETTING,
    )


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _LogStream(io.StringIO):
    """Text stream that writes the log to standard error.

    A line that cannot be written, for example because the disk is full, is dropped, so that no
    request fails because of its log line.
    """

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
        return len(text)


def _configure_logging(level: str) -> None:
    threshold = logging.getLevelNamesMapping()[level.upper()]
    # At info, uvicorn and websockets log addresses, which contain tokens.
    logging.basicConfig(stream=sys.stderr, level=max(threshold, logging.WARNING))
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.WriteLoggerFactory(_LogStream()),
        cache_logger_on_first_use=True,
    )
