"""Endpoints that say what a test tells them to."""

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

Answer = Callable[[httpx.Request], httpx.Response]


class Script:
    """Answers requests in order, the last answer again and again; remembers what it was asked."""

    def __init__(self, *answers: Answer | httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = answers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
        self.requests.append(request)
        return answer if isinstance(answer, httpx.Response) else answer(request)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.requests]


def language(answer: Answer, **options: Any) -> OpenAILanguageModel:
    return OpenAILanguageModel(
        Endpoint.parse("openai:http://endpoint.test/v1#gpt"),
        ManualClock(),
        transport=httpx.MockTransport(answer),
        **{"key": KEY, **options},
    )


class Stream(httpx.AsyncByteStream):
    """A body in pieces, which may break off; knows whether it was closed."""

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


def streamed(*pieces: bytes | Exception) -> httpx.Response:
    return httpx.Response(200, stream=Stream(pieces))


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def said(text: str | None, finish: str | None = None) -> bytes:
    """A piece of a chat's reply."""
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})


DONE = event(b"[DONE]")


def spoken(*texts: str) -> httpx.Response:
    """A whole reply."""
    return streamed(*(said(text) for text in texts), said(None, "stop"), DONE)


def refused(status: int, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


async def reply(model: OpenAILanguageModel, prompt: Prompt = CHAT) -> tuple[str, Usage]:
    """The text and the usage; the model is closed."""
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
