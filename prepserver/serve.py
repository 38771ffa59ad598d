"""Run the application under uvicorn until a signal says stop."""

import asyncio
import contextlib
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
from prepserver.config import Config
from prepserver.errors import Conflict
from prepserver.http.rooms import Rooms
from prepserver.http.sockets import Sockets
from prepserver.storage.files import write_atomically
from prepserver.wire.error_codes import ErrorCode

__all__ = ["serve"]

DRAIN_SECONDS = 5
"""For handlers and sockets to finish after SIGTERM, within the 10 s a supervisor grants."""


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT. Raises Conflict when the data directory is taken."""
    _log_to_stderr(config.log_level)
    asyncio.run(_serve(config))


async def _serve(config: Config) -> None:
    services = create_services(config)
    await services.start()
    sockets = Sockets(Rooms(services).admit, services.clock)
    server = _Server(config, create_app(services), sockets)
    _forget_killed(config.ready_file)
    watching = asyncio.create_task(sockets.watch())
    # What was loaded stays: the collector need not look through all of it again and again.
    gc.collect()
    gc.freeze()
    try:
        await server.serve()
    finally:
        watching.cancel()
        server.unready()
        await services.close()


class _Server(uvicorn.Server):
    def __init__(self, config: Config, app: object, sockets: Sockets) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                host=config.host,
                port=config.port,
                ws=sockets.protocol,  # type: ignore[arg-type]
                timeout_graceful_shutdown=DRAIN_SECONDS,
                lifespan="off",
                # Its access log would hold the tokens of rooms' addresses.
                access_log=False,
                log_config=None,
                server_header=False,
            )
        )
        self._settings = config
        self._ready = False

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        try:
            await super().startup()
        except SystemExit as error:
            raise Conflict(
                f"Port {self._settings.port} of {self._settings.host} cannot be listened on. "
                "Choose another with --port, or 0 for any free one.",
                code=ErrorCode.PORT_IN_USE,
            ) from error
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        structlog.get_logger(__name__).info("server.ready", url=url, pid=os.getpid())
        if self._settings.ready_file is not None:
            content = json.dumps({"url": url, "pid": os.getpid(), "version": VERSION})
            self._settings.ready_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._settings.ready_file, f"{content}\n".encode())
            self._ready = True

    def unready(self) -> None:
        """Take the ready file back, if it is this server's own."""
        if self._ready and self._settings.ready_file is not None:
            self._settings.ready_file.unlink(missing_ok=True)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self.unready()
        await super().shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop on SIGTERM and SIGINT and exit 0: uvicorn itself would die of the signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _forget_killed(ready_file: Path | None) -> None:
    """Remove the ready file of a server that had no chance to: nobody must connect there."""
    if ready_file is None:
        return
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, OverflowError):
        pid = int(json.loads(ready_file.read_text())["pid"])
        if pid == os.getpid() or not _runs(pid):  # in containers the pid is always the same
            ready_file.unlink()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _StandardError(io.StringIO):
    """Where the log goes. What a full disk does not take is lost, and costs nothing else: no
    handler fails because of the line that says what it did."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
        return len(text)


def _log_to_stderr(level: str) -> None:
    number = logging.getLevelNamesMapping()[level.upper()]
    # uvicorn and websockets log addresses, which hold tokens, at info.
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING))
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.WriteLoggerFactory(_StandardError()),
        cache_logger_on_first_use=True,
    )
