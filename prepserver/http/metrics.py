"""`/metrics`, for Prometheus."""

from typing import Any

from litestar import Request, Response, get

from prepserver.errors import NotFound
from prepserver.http.caller import bearer
from prepserver.http.services import Services

__all__ = ["metrics"]


@get("/metrics", summary="Prometheus metrics", media_type="text/plain")
async def metrics(services: Services, request: Request[Any, Any, Any]) -> Response[bytes]:
    """For administrators, unless the setting `metrics` says otherwise.

    An address alone lets nobody in: behind a proxy on the same machine everybody calls from it.
    """
    if services.metrics_access == "off":
        raise NotFound("This server shows no metrics: its setting `metrics` is `off`.")
    if services.metrics_access != "open":
        await services.admin_of(bearer(request))
    counts = services.registry.counts
    page = services.metrics.render(
        services.gateway.model_loads(),
        await services.gateway.engine_stats(),
        [
            ("prep_objects_live", "Objects with an instance in memory.", counts.live),
            (
                "prep_objects_hibernating",
                "Hibernating objects with open connections.",
                counts.hibernating,
            ),
            ("prep_connections", "Open WebSocket connections.", counts.connections),
        ],
    )
    return Response(page, headers={"content-type": services.metrics.content_type})
