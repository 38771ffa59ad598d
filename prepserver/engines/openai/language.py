"""A language model behind an OpenAI-compatible endpoint."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import httpx
import msgspec

from prepserver.clock import Clock
from prepserver.engines.chat_turns import alternating_turns
from prepserver.engines.openai.choices import TokenAlternatives, choose_option, written_prompt
from prepserver.engines.openai.client import EndpointClient
from prepserver.engines.openai.dialects import Dialect, dialects_for, encode_request, request_path
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.error_responses import bad_reply
from prepserver.engines.openai.replies import JsonExtractor, TokenCounts, parse_chunk
from prepserver.engines.openai.served_models import find_model
from prepserver.engines.openai.sse import read_events
from prepserver.engines.option_rules import check_options
from prepserver.engines.thoughts import ThoughtFilter, generate_reply
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
    valid. Thoughts of a reasoning model are removed from its replies.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Clock,
        *,
        key: str = "",
        context: int = 4_096,
        thinking_tokens: int = 1_024,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Configure the client; nothing is sent yet.

        `context` is the maximum context in tokens; a smaller context that the endpoint reports
        takes precedence. `thinking_tokens` is the number of tokens that a reasoning model may use
        for a thought, in addition to those of its reply; if it is 0, the model is asked not to
        think. Raises BadRequest if the key is malformed.
        """
        self._client = EndpointClient(endpoint, key, read_timeout=READ_TIMEOUT, transport=transport)
        self._clock = clock
        self._context = context
        self._thinking_tokens = thinking_tokens
        self._model = endpoint.model
        self._dialect_index: dict[tuple[Dialect, ...], int] = {}
        """Index of the dialect to try first, among the dialects of each kind of prompt."""
        self._alternate = False
        """True once the endpoint has accepted only user and assistant turns in alternation."""
        self._thinks = False
        """True once the model has thought."""
        self._thoughts_unopened: bool | None = None
        """True if the model's replies begin inside a thought, because its chat template contains
        the opening mark; None while this is unknown."""

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
        token. A first reply that may begin inside a thought is kept back until it is complete.
        Raises InferenceError.
        """
        if prompt.options:
            async with aclosing(self._choose(prompt)) as events:
                async for event in events:
                    yield event
            return
        if prompt.max_tokens <= 0:
            yield Usage()
            return
        async with aclosing(self._generate_reply(prompt, [])) as events:
            async for event in events:
                yield event

    async def _choose(self, prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield one of the prompt's options, then the Usage with the probabilities."""
        check_options(prompt)
        text, usage, tokens = "", Usage(), list[TokenAlternatives]()
        async with aclosing(self._generate_reply(written_prompt(prompt), tokens)) as events:
            async for event in events:
                if isinstance(event, Usage):
                    usage = event
                else:
                    text += event.text
        # The alternatives to a thought's tokens say nothing about the options.
        option, probabilities = choose_option(text, prompt.options, () if usage.thought else tokens)
        yield TextDelta(option)
        yield msgspec.structs.replace(usage, probabilities=probabilities)

    def _generate_reply(
        self, prompt: Prompt, tokens: list[TokenAlternatives]
    ) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield the events of `_generate`, for a second prompt if the first reply is only a
        thought."""
        if not self._thinking_tokens:
            prompt = msgspec.structs.replace(prompt, skip_thought=True)
        return generate_reply(lambda prompt: self._generate(prompt, tokens), prompt)

    async def _generate(
        self, prompt: Prompt, tokens: list[TokenAlternatives]
    ) -> AsyncGenerator[TextDelta | Usage, None]:
        """Yield the events of one reply, and append its tokens with their alternatives to
        `tokens`."""
        started = self._clock.monotonic()
        has_schema = prompt.schema is not None
        # JSON is not shown while it arrives, so nothing is lost by keeping it back.
        hold = True if has_schema else self._thoughts_unopened
        thoughts = ThoughtFilter(
            hold=hold if prompt.turns else False, is_question=prompt.purpose == "question"
        )
        extractor = None if prompt.schema is None else JsonExtractor(prompt.schema)
        counts, text_events, finish_reason, has_text = TokenCounts(), 0, "", False
        characters_left = (prompt.max_tokens + self._thinking_tokens) * MAX_CHARACTERS_PER_TOKEN
        try:
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
                    tokens += chunk.tokens
                    text_events += bool(chunk.text or chunk.thought)
                    characters_left -= len(chunk.text) + len(chunk.thought)
                    if characters_left < 0:
                        raise bad_reply("it exceeds the token limit")
                    if chunk.thought:
                        thoughts.skip_thought()
                    if text := _extract(extractor, thoughts.feed(chunk.text)):
                        has_text = True
                        yield TextDelta(text)
            _check_finish_reason(finish_reason)
            truncated = finish_reason == "length"
            lost = truncated and (not has_schema or self._thoughts_unopened is True)
            if text := _extract(extractor, thoughts.finish(truncated=lost)):
                has_text = True
                yield TextDelta(text)
            # Some endpoints report no thought but count its tokens.
            thoughts.found |= counts.thought_tokens > 0 or (truncated and not has_text)
            if self._thoughts_unopened is None and has_text and not has_schema:
                self._thoughts_unopened = False
        finally:
            self._thinks |= thoughts.found
            if thoughts.unopened:
                self._thoughts_unopened = True
        yield Usage(
            prompt_tokens=counts.prompt_tokens,
            cached_tokens=counts.cached_tokens,
            completion_tokens=counts.completion_tokens or text_events,
            seconds=self._clock.monotonic() - started,
            thought=thoughts.found,
        )

    @asynccontextmanager
    async def _open_stream(self, prompt: Prompt) -> AsyncGenerator[AsyncGenerator[bytes, None]]:
        """Send the prompt in the first form that the endpoint accepts, and yield the response.

        Each dialect is tried first with the turns as they are, then with the turns in alternation.
        The response is a stream of chunks. Raises InferenceError.
        """
        dialects = dialects_for(prompt)
        alternates = alternating_turns(prompt.turns) == list(prompt.turns)
        orders = (True,) if self._alternate else (False,) if alternates else (False, True)
        forms = [
            (index, alternate)
            for index in range(self._dialect_index.get(dialects, 0), len(dialects))
            for alternate in orders
        ]
        thinking_tokens = self._thinking_tokens if self._thinks else 0
        while True:
            index, alternate = forms[0]
            request = encode_request(
                prompt,
                self._model,
                dialects[index],
                alternate=alternate,
                thinking_tokens=thinking_tokens,
            )
            opened = False
            try:
                async with self._client.stream(request_path(prompt), request) as chunks:
                    opened = True
                    if not prompt.skip_thought:
                        self._dialect_index[dialects] = index
                    self._alternate = alternate
                    yield chunks
                return
            except InferenceError as error:
                if opened:
                    raise
                if error.code == ErrorCode.CONTEXT_OVERFLOW and thinking_tokens:
                    thinking_tokens = 0
                elif error.code == ErrorCode.ENDPOINT_REFUSED and len(forms) > 1:
                    del forms[0]
                else:
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


def _extract(extractor: JsonExtractor | None, text: str) -> str:
    return extractor.feed(text) if extractor else text


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
