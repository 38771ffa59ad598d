"""Is it alive, and can it interview?"""

from litestar import Response, get

from prepserver.http.services import Services
from prepserver.wire.rest import Health

__all__ = ["live", "ready"]


@get("/health/live", summary="The process answers", sync_to_thread=False)
def live(services: Services) -> Health:
    return Health(status="ok", version=services.version)


@get("/health/ready", summary="The models are loaded", sync_to_thread=False)
def ready(services: Services) -> Response[Health]:
    """200 when every model is ready, 503 with each one's state until then."""
    states = services.gateway.model_states
    if "failed" in states.values():
        health = Health(status="unavailable", version=services.version, models=states)
    elif "loading" in states.values():
        health = Health(status="starting", version=services.version, models=states)
    else:
        health = Health(status="ok", version=services.version, models=states)
    return Response(health, status_code=200 if health.status == "ok" else 503)
