"""Fake endpoints, which return the responses that a test prescribes."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx

from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.language import OpenAILanguageModel
from prepserver.engines.types import ChatTurn, Prompt, TextDelta, Usage
from tests.support.clock import ManualClock

KEY = "sk-very-secret"
CHAT = Prompt(purpose="question", turns=(ChatTurn("user", "Ask."),), max_tokens=50)

Handler = Callable[[httpx.Request], httpx.Response]


class FakeEndpoint:
    """Endpoint that returns the given responses in order, repeats the last response, and records
    requests."""

    def __init__(self, *responses: Handler | httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self._responses = responses

    def __call__(self, request: httpx.Request) -> httpx.Response:
        response = self._responses[min(len(self.requests), len(self._responses) - 1)]
        self.requests.append(request)
        return response if isinstance(response, httpx.Response) else response(request)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Return the decoded JSON of all requests."""
        return [json.loads(request.content) for request in self.requests]


def new_model(handler: Handler, **options: Any) -> OpenAILanguageModel:
    return OpenAILanguageModel(
        Endpoint.parse("openai:http://endpoint.test/v1#gpt"),
        ManualClock(),
        transport=httpx.MockTransport(handler),
        **{"key": KEY, **options},
    )


class ByteStream(httpx.AsyncByteStream):
    """Response body in pieces. An exception among the pieces is raised instead of being sent."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self.closed = False
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


def stream_response(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, stream=ByteStream(pieces))


def event(value: Any) -> bytes:
    """Encode a server-sent event that contains bytes unchanged, or any other value as JSON."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def delta(text: str | None, finish_reason: str | None = None) -> bytes:
    """Encode a server-sent event with one delta of a chat reply."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return event({"choices": [choice]})


DONE = event(b"[DONE]")


def reply_response(*texts: str) -> httpx.Response:
    """Return a complete chat reply with one event for each text."""
    return stream_response(*(delta(text) for text in texts), delta(None, "stop"), DONE)


def error_response(status: int, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


async def generate(model: OpenAILanguageModel, prompt: Prompt = CHAT) -> tuple[str, Usage]:
    """Return the text and the usage of one reply, and close the model."""
    text, usage = "", None
    try:
        async for part in model.generate(prompt):
            match part:
                case TextDelta(text=more):
                    text += more
                case Usage():
                    assert usage is None
                    usage = part
    finally:
        await model.close()
    assert usage is not None
    return text, usage
