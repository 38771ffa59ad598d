"""A language model behind an OpenAI-compatible endpoint."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import httpx

from prepserver.clock import Clock
from prepserver.engines.openai import dialects
from prepserver.engines.openai.client import EndpointClient
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.events import bad_reply, events
from prepserver.engines.openai.replies import JsonPart, TokenCounts, piece
from prepserver.engines.openai.served import look_up
from prepserver.engines.types import EngineStats, ModelInfo, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["OpenAILanguageModel"]

SILENCE = 120.0
"""Seconds without a byte after which the endpoint is given up."""
PARALLEL = 16
"""Replies that are asked for at once; the setting `parallel` says otherwise."""
LONGEST_TOKEN = 64
"""Characters of a reply for each token that was asked for: more is no reply to it."""


class OpenAILanguageModel:
    """Implements `prepserver.engines.types.LanguageModel`.

    Several prompts are under way at once, if the endpoint can; what it keeps of earlier ones is its
    own affair. A grammar is sent along, and only llama.cpp's servers hold the model to it: what a
    grammar promises must be checked by who needs it. Of a reply to a schema only the
    JSON is given, if there is any; whether it is whole and right is for its reader to check, too.
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
        """`context` in tokens, at most what the endpoint offers. Raises BadRequest for a key that
        cannot be one."""
        self._connection = EndpointClient(endpoint, key, silence=SILENCE, transport=transport)
        self._clock = clock
        self._context = context
        self._model = endpoint.model
        self._rungs = {True: 0, False: 0}
        """Which form of a prompt the endpoint took, with a schema and without."""

    async def start(self) -> ModelInfo:
        """See that the endpoint is there. Raises InferenceError."""
        served = await look_up(self._connection)
        self._model = served.id
        return ModelInfo(
            name=served.id,
            parameters=served.parameters,
            context=min(self._context, served.context or self._context),
            parallel=PARALLEL,
        )

    async def generate(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Deltas, then one Usage. Closing the generator closes the connection.

        An endpoint that does not count tokens is taken to send one with each event. Raises
        InferenceError.
        """
        if prompt.max_tokens <= 0:
            yield Usage()
            return
        started = self._clock.monotonic()
        part = None if prompt.schema is None else JsonPart(prompt.schema)
        counts, count, room, finish = TokenCounts(), 0, prompt.max_tokens * LONGEST_TOKEN, ""
        async with (
            self._answer(prompt) as chunks,
            aclosing(chunks),
            aclosing(events(chunks)) as stream,
        ):
            async for data in stream:
                if data == "[DONE]":
                    break
                said = piece(data)
                counts, finish = said.counts or counts, said.finish or finish
                count += bool(said.text)
                room -= len(said.text)
                if room < 0:
                    raise bad_reply("it does not end")
                if text := part.feed(said.text) if part else said.text:
                    yield TextDelta(text)
        _check(finish)
        yield Usage(
            prompt_tokens=counts.prompt_tokens,
            cached_tokens=counts.cached_tokens,
            completion_tokens=counts.completion_tokens or count,
            seconds=self._clock.monotonic() - started,
        )

    @asynccontextmanager
    async def _answer(self, prompt: Prompt) -> AsyncGenerator[AsyncGenerator[bytes, None]]:
        """The answer to the first form of the prompt that the endpoint takes."""
        ladder, kind = dialects.ladder(prompt), prompt.schema is not None
        rung = self._rungs[kind]
        while True:
            body = dialects.body(prompt, self._model, ladder[rung])
            opened = False
            try:
                async with self._connection.stream(dialects.path(prompt), body) as chunks:
                    opened = True
                    self._rungs[kind] = rung
                    yield chunks
                return
            except InferenceError as error:
                rung += 1
                if opened or error.code != ErrorCode.ENDPOINT_REFUSED or rung == len(ladder):
                    raise

    async def prefill(self, prompt: Prompt) -> None:
        """Nothing: the protocol has no such request, and a paid one is not made in vain."""

    async def offload(self, conversation: str) -> None:
        """Nothing: what the endpoint keeps is its own affair."""

    async def discard(self, conversation: str) -> None:
        """Nothing: what the endpoint keeps is its own affair."""

    async def stats(self) -> EngineStats:
        """All zero: what the endpoint does is not known."""
        return EngineStats()

    async def close(self) -> None:
        await self._connection.close()


def _check(finish: str) -> None:
    """Whether a reply that has ended is one."""
    if finish == "content_filter":
        raise InferenceError(
            "The model's endpoint will not reply to this.",
            code=ErrorCode.REPLY_REFUSED,
            retryable=False,
        )
    if not finish:
        # llama-cpp-python's server, for one, ends a stream so when another request comes.
        raise InferenceError(
            "The model's endpoint broke off its reply. Try again.", code=ErrorCode.ENDPOINT_CUT
        )
