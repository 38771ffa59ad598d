"""A language model behind an OpenAI-compatible endpoint."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import httpx

from prepserver.clock import Clock
from prepserver.engines.openai.client import EndpointClient
from prepserver.engines.openai.dialects import dialects_for, encode_request, request_path
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.error_responses import bad_reply
from prepserver.engines.openai.replies import JsonExtractor, TokenCounts, parse_chunk
from prepserver.engines.openai.served_models import find_model
from prepserver.engines.openai.sse import read_events
from prepserver.engines.types import EngineStats, ModelInfo, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["OpenAILanguageModel"]

READ_TIMEOUT = 120.0
"""Maximum number of seconds without data from the endpoint."""
PARALLEL = 16
"""Maximum number of concurrent requests, unless the setting `parallel` gives another limit."""
MAX_CHARACTERS_PER_TOKEN = 64
"""Maximum number of code points per requested token in a valid reply."""


class OpenAILanguageModel:
    """Remote language model; implements `prepserver.engines.types.LanguageModel`.

    Prompts are sent concurrently; the endpoint manages its own prefix cache. Only llama.cpp's
    servers enforce a grammar, so callers must check that the reply matches. If a prompt has a
    schema, the reply is reduced to its JSON; callers must check that the JSON is complete and
    valid.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Clock,
        *,
        key: str = "",
        context: int = 4_096,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Configure the client; nothing is sent yet.

        `context` is the maximum context in tokens; a smaller context that the endpoint reports
        takes precedence. Raises BadRequest if the key is malformed.
        """
        self._client = EndpointClient(endpoint, key, read_timeout=READ_TIMEOUT, transport=transport)
        self._clock = clock
        self._context = context
        self._model = endpoint.model
        self._dialect_index = {True: 0, False: 0}
        """Index of the dialect to try first, for prompts with a schema (True) and without one
        (False)."""

    async def start(self) -> ModelInfo:
        """Check that the endpoint is available, and return the properties of the model.

        Raises InferenceError.
        """
        served = await find_model(self._client)
        self._model = served.id
        return ModelInfo(
            name=served.id,
            parameters=served.parameters,
            context=min(self._context, served.context or self._context),
            parallel=PARALLEL,
        )

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield text deltas, then one Usage. Closing the generator closes the connection.

        If the endpoint reports no token count for the reply, each event with text counts as one
        token. Raises InferenceError.
        """
        if prompt.max_tokens <= 0:
            yield Usage()
            return
        started = self._clock.monotonic()
        extractor = None if prompt.schema is None else JsonExtractor(prompt.schema)
        counts, text_events, finish_reason = TokenCounts(), 0, ""
        characters_left = prompt.max_tokens * MAX_CHARACTERS_PER_TOKEN
        async with (
            self._open_stream(prompt) as chunks,
            aclosing(chunks),
            aclosing(read_events(chunks)) as events,
        ):
            async for data in events:
                if data == "[DONE]":
                    break
                chunk = parse_chunk(data)
                counts = chunk.counts or counts
                finish_reason = chunk.finish_reason or finish_reason
                text_events += bool(chunk.text)
                characters_left -= len(chunk.text)
                if characters_left < 0:
                    raise bad_reply("it exceeds the token limit")
                if text := extractor.feed(chunk.text) if extractor else chunk.text:
                    yield TextDelta(text)
        _check_finish_reason(finish_reason)
        yield Usage(
            prompt_tokens=counts.prompt_tokens,
            cached_tokens=counts.cached_tokens,
            completion_tokens=counts.completion_tokens or text_events,
            seconds=self._clock.monotonic() - started,
        )

    @asynccontextmanager
    async def _open_stream(self, prompt: Prompt) -> AsyncGenerator[AsyncGenerator[bytes, None]]:
        """Send the prompt in the first dialect that the endpoint accepts, and yield the response.

        The response is a stream of chunks. Raises InferenceError.
        """
        dialects, structured = dialects_for(prompt), prompt.schema is not None
        index = self._dialect_index[structured]
        while True:
            request = encode_request(prompt, self._model, dialects[index])
            opened = False
            try:
                async with self._client.stream(request_path(prompt), request) as chunks:
                    opened = True
                    self._dialect_index[structured] = index
                    yield chunks
                return
            except InferenceError as error:
                index += 1
                if opened or error.code != ErrorCode.ENDPOINT_REFUSED or index == len(dialects):
                    raise

    async def prefill(self, prompt: Prompt) -> None:
        """Do nothing: the protocol has no prefill request, and a normal request may cost money."""

    async def offload(self, conversation: str) -> None:
        """Do nothing: the endpoint manages its own cache."""

    async def discard(self, conversation: str) -> None:
        """Do nothing: the endpoint manages its own cache."""

    async def stats(self) -> EngineStats:
        """Return zeros: the endpoint's load is unknown."""
        return EngineStats()

    async def close(self) -> None:
        await self._client.close()


def _check_finish_reason(reason: str) -> None:
    """Raise InferenceError if the content filter withheld the reply or the endpoint gave no finish
    reason."""
    if reason == "content_filter":
        raise InferenceError(
            "The content filter of the model's endpoint withheld the reply. Change the request, or "
            "use another model.",
            code=ErrorCode.REPLY_REFUSED,
            retryable=False,
        )
    if not reason:
        # llama-cpp-python's server, for one, ends a stream like this when another request arrives.
        raise InferenceError(
            "The model's endpoint broke off its reply. Try again.", code=ErrorCode.ENDPOINT_CUT
        )
