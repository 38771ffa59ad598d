"""What an endpoint says of the models that it serves."""

import msgspec
import structlog
from msgspec import Struct

from prepserver.engines.openai.client import EndpointClient
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Served", "look_up"]

log = structlog.get_logger(__name__)


class _Meta(Struct):
    n_params: int | None = None
    n_ctx: int | None = None


class Served(Struct):
    """One entry of `/models`; all but `id` is beyond OpenAI's protocol."""

    id: str
    max_model_len: int | None = None
    """Tokens of context, as vLLM says it."""
    context_length: int | None = None
    """The same, as others say it."""
    meta: _Meta | None = None
    """llama.cpp's server says what it has loaded."""

    @property
    def context(self) -> int | None:
        """Tokens of context, if they are told."""
        told = (self.max_model_len, self.context_length, self.meta and self.meta.n_ctx)
        return min((number for number in told if number and number > 0), default=None)

    @property
    def parameters(self) -> int:
        """0 when they are not told."""
        return max(0, (self.meta and self.meta.n_params) or 0)


class _List(Struct):
    data: list[Served]


async def look_up(connection: EndpointClient) -> Served:
    """The model that the endpoint was named with.

    An endpoint need not list its models, nor list all of them. Raises InferenceError: when it
    cannot be reached or refuses the key, and `model_not_loaded` when a name is needed.
    """
    wanted = connection.endpoint.model
    models: list[Served] = []
    try:
        models = msgspec.json.decode(await connection.get("/models"), type=_List).data
    except msgspec.DecodeError:
        log.warning("endpoint.models_unreadable", endpoint=connection.endpoint.origin)
    except InferenceError as error:
        if error.code not in (ErrorCode.MODEL_NOT_FOUND, ErrorCode.ENDPOINT_REFUSED):
            raise
    for model in models:
        if model.id == wanted or (not wanted and len(models) == 1):
            return model
    if wanted:
        log.warning("endpoint.model_unlisted", endpoint=connection.endpoint.origin, model=wanted)
        return Served(wanted)
    raise InferenceError(
        "The model's endpoint serves several models, or does not list them: put the name of one "
        "behind the address, after a #.",
        code=ErrorCode.MODEL_NOT_LOADED,
        retryable=False,
    )
