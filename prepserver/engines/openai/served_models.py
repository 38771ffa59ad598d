"""The models that an endpoint serves."""

import msgspec
import structlog
from msgspec import Struct

from prepserver.engines.openai.client import EndpointClient
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["ServedModel", "find_model"]

log = structlog.get_logger(__name__)


class _Meta(Struct):
    n_params: int | None = None
    n_ctx: int | None = None


class ServedModel(Struct):
    """Entry in an endpoint's `/models` list. All fields except `id` extend OpenAI's protocol."""

    id: str
    max_model_len: int | None = None
    """Context in tokens, as reported by vLLM."""
    context_length: int | None = None
    """Context in tokens, as reported by other servers."""
    meta: _Meta | None = None
    """Properties of the loaded model, as reported by llama.cpp's server."""

    @property
    def context(self) -> int | None:
        """Smallest context that the endpoint reports, in tokens; None if the endpoint reports no
        context."""
        reported = (self.max_model_len, self.context_length, self.meta and self.meta.n_ctx)
        return min((number for number in reported if number and number > 0), default=None)

    @property
    def parameters(self) -> int:
        """Number of the model's parameters; 0 if the endpoint does not report the number."""
        return max(0, (self.meta and self.meta.n_params) or 0)


class _List(Struct):
    data: list[ServedModel]


async def find_model(client: EndpointClient) -> ServedModel:
    """Return the endpoint's entry for the configured model or, if no model is configured, for the
    endpoint's only model.

    An endpoint may list none or only some of its models, so a configured model that is not listed
    is returned without properties. Raises InferenceError (code `model_not_loaded`) if no model is
    configured and the endpoint does not list exactly one model, and InferenceError with another
    code if the endpoint fails, cannot be reached or rejects the key.
    """
    name = client.endpoint.model
    models: list[ServedModel] = []
    try:
        models = msgspec.json.decode(await client.get("/models"), type=_List).data
    except msgspec.DecodeError:
        log.warning("endpoint.models_unreadable", endpoint=client.endpoint.origin)
    except InferenceError as error:
        if error.code not in (ErrorCode.MODEL_NOT_FOUND, ErrorCode.ENDPOINT_REFUSED):
            raise
    for model in models:
        if model.id == name or (not name and len(models) == 1):
            return model
    if name:
        log.warning("endpoint.model_unlisted", endpoint=client.endpoint.origin, model=name)
        return ServedModel(name)
    raise InferenceError(
        "The model's endpoint does not list exactly one model. Append a model name to the address, "
        "after a #.",
        code=ErrorCode.MODEL_NOT_LOADED,
        retryable=False,
    )
