"""How the models do, for administrators."""

import asyncio

from litestar import get
from litestar.di import Provide
from msgspec import Struct

from prepserver.http.caller import administrator
from prepserver.http.services import Services
from prepserver.telemetry.stats import ModelLoad, StatsLine, call_statistics, parse_duration

__all__ = ["GatewayStats", "stats"]


class GatewayStats(Struct, frozen=True, kw_only=True):
    """What the log of calls says, and how busy the models are now."""

    since: float
    """Seconds since the Unix epoch, as is `until`."""
    until: float
    lines: list[StatsLine]
    models: list[ModelLoad]


@get(
    "/api/gateway/stats",
    dependencies={"admin": Provide(administrator)},
    summary="Calls of the models, for administrators",
)
async def stats(services: Services, admin: str, since: str = "24h") -> GatewayStats:
    """`since` is how far back, such as 30m, 24h or 7d."""
    until = services.clock.now()
    begin = until - parse_duration(since)
    await services.calls.flush()
    lines = await asyncio.to_thread(call_statistics, services.calls.path, begin)
    return GatewayStats(
        since=begin, until=until, lines=lines, models=services.gateway.model_loads()
    )
