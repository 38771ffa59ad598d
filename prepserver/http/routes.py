"""REST routes other than those for interviews: tokens, health, quotas, statistics, metrics."""

import asyncio
from typing import Any

from litestar import Request, Response, get
from litestar.di import Provide
from msgspec import Struct

from prepserver.errors import NotFound
from prepserver.http.authentication import (
    authenticate,
    authenticate_administrator,
    bearer_credential,
)
from prepserver.http.services import Services
from prepserver.telemetry.stats import ModelLoad, StatsLine, call_statistics, parse_duration
from prepserver.wire.protocol import Quota
from prepserver.wire.rest import Health, RoomToken

__all__ = ["HANDLERS", "GatewayStats"]


class GatewayStats(Struct, frozen=True, kw_only=True):
    """Statistics from the call log, and the current load of each model."""

    since: float
    """Start of the period, in seconds since the Unix epoch."""
    until: float
    """End of the period, in seconds since the Unix epoch."""
    lines: list[StatsLine]
    """Statistics for each combination of model, kind of call and purpose."""
    models: list[ModelLoad]
    """Current load of each model."""


@get("/auth/token", summary="Issue a room token that is valid for five minutes")
async def issue_token(services: Services, request: Request[Any, Any, Any]) -> RoomToken:
    """Exchange an access key for a token. A token cannot be exchanged for another token."""
    return await services.authenticator.issue_token(bearer_credential(request))


@get("/health/live", summary="Report that the process is running", sync_to_thread=False)
def report_liveness(services: Services) -> Health:
    return Health(status="ok", version=services.version)


@get("/health/ready", summary="Report whether all models are loaded", sync_to_thread=False)
def report_readiness(services: Services) -> Response[Health]:
    """Report the state of each job's fallback chain. The HTTP status is 200 if all fallback chains
    are ready, otherwise 503."""
    states = services.gateway.model_states
    if "failed" in states.values():
        health = Health(status="unavailable", version=services.version, models=states)
    elif "loading" in states.values():
        health = Health(status="starting", version=services.version, models=states)
    else:
        health = Health(status="ok", version=services.version, models=states)
    return Response(health, status_code=200 if health.status == "ok" else 503)


@get(
    "/api/ratelimit",
    dependencies={"user": Provide(authenticate)},
    summary="Get the caller's quota of model requests",
)
async def get_quota(services: Services, user: str) -> Quota:
    return await services.rate_limiter.quota(user)


@get(
    "/api/gateway/stats",
    dependencies={"admin": Provide(authenticate_administrator)},
    summary="Get statistics of model calls (administrators only)",
)
async def get_stats(services: Services, admin: str, since: str = "24h") -> GatewayStats:
    """Return the statistics of a period that ends now; `since` is the period's length, such as
    24h."""
    until = services.clock.now()
    start = until - parse_duration(since)
    await services.call_log.flush()
    lines = await asyncio.to_thread(call_statistics, services.call_log.path, start)
    return GatewayStats(
        since=start, until=until, lines=lines, models=services.gateway.model_loads()
    )


@get("/metrics", summary="Get metrics in the Prometheus format", media_type="text/plain")
async def get_metrics(services: Services, request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the metrics. Only administrators may read them unless the setting `metrics` is `open`.

    Raises NotFound if the setting is `off`. The client's address grants no access: behind a reverse
    proxy on the same machine, every client has a local address.
    """
    if services.metrics_access == "off":
        raise NotFound("Metrics are disabled on this server: its setting `metrics` is `off`.")
    if services.metrics_access != "open":
        await authenticate_administrator(request, services)
    counts = services.registry.counts
    page = services.metrics.render(
        services.gateway.model_loads(),
        await services.gateway.engine_stats(),
        [
            ("prep_objects_live", "Objects with a live instance in memory.", counts.live),
            (
                "prep_objects_hibernating",
                "Hibernating objects with open connections.",
                counts.hibernating,
            ),
            ("prep_connections", "Open WebSocket connections.", counts.connections),
        ],
    )
    return Response(page, headers={"content-type": services.metrics.content_type})


HANDLERS = (issue_token, report_liveness, report_readiness, get_quota, get_stats, get_metrics)
"""All route handlers of this module."""
