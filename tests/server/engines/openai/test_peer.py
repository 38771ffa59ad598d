"""The same against llama-cpp-python's own server, with the starter model."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from prepserver.clock import SystemClock
from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.language import OpenAILanguageModel
from prepserver.engines.types import ChatTurn, ModelInfo, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.openai.replies import KEY
from tests.support.llama_cpp_server import LlamaCppServer
from tests.support.loop import asynchronous

pytestmark = pytest.mark.models

CHAT = Prompt(
    turns=(
        ChatTurn("system", "You interview a candidate for a job."),
        ChatTurn("user", "Ask me about my work with databases."),
    ),
    max_tokens=60,
    seed=3,
)


@pytest.fixture(scope="module")
def peer(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppServer]:
    folder = tmp_path_factory.mktemp("peer")
    model = models_dir / "smollm2-135m-instruct.q4_1.gguf"
    with LlamaCppServer(folder, model, "--api_key", KEY, "--model_alias", "smollm2") as running:
        yield running


@asynccontextmanager
async def connected(
    peer: LlamaCppServer, name: str = "smollm2", key: str = KEY
) -> AsyncIterator[OpenAILanguageModel]:
    model = OpenAILanguageModel(Endpoint.parse(f"openai:{peer.url}#{name}"), SystemClock(), key=key)
    try:
        yield model
    finally:
        await model.close()


async def replied(model: OpenAILanguageModel, prompt: Prompt) -> tuple[list[str], Usage]:
    events = [event async for event in model.generate(prompt)]
    usage = events.pop()
    assert isinstance(usage, Usage)
    return [event.text for event in events if isinstance(event, TextDelta)], usage


@asynchronous
async def test_the_model_is_found(peer: LlamaCppServer) -> None:
    """By its name, or without one, since there is only one."""
    for name in ("smollm2", ""):
        async with connected(peer, name) as model:
            assert await model.start() == ModelInfo(
                name="smollm2", parameters=0, context=4_096, parallel=16
            )


@asynchronous
async def test_a_wrong_key_is_refused(peer: LlamaCppServer) -> None:
    """At the start and at each request."""
    async with connected(peer, key="sk-wrong") as model:
        with pytest.raises(InferenceError) as caught:
            await replied(model, CHAT)
    assert caught.value.code == ErrorCode.ENDPOINT_UNAUTHORIZED


@asynchronous
async def test_a_chat_streams_and_a_seed_repeats_it(peer: LlamaCppServer) -> None:
    """Word by word, and the same words again."""
    async with connected(peer) as model:
        texts, usage = await replied(model, CHAT)
        again, _ = await replied(model, CHAT)
    assert len(texts) > 5
    assert usage.completion_tokens >= len(texts)
    assert usage.seconds > 0
    assert texts == again


@asynchronous
async def test_text_is_gone_on_from(peer: LlamaCppServer) -> None:
    """A text prompt is sent as a completion, with the first words of the reply."""
    async with connected(peer) as model:
        texts, _ = await replied(
            model,
            Prompt(text="One, two, three, four,", opening=" five,", max_tokens=8, temperature=0.0),
        )
    assert "".join(texts).startswith(" six")


@asynchronous
async def test_this_server_heeds_a_grammar(peer: LlamaCppServer) -> None:
    """llama.cpp's extension to the protocol is used where it exists."""
    prompt = msgspec.structs.replace(CHAT, grammar='root ::= "Why " [a-z ]{10,40} "?"')
    async with connected(peer) as model:
        texts, _ = await replied(model, prompt)
    assert re.fullmatch(r"Why [a-z ]{10,40}\?", "".join(texts))


@asynchronous
async def test_a_schema_holds(peer: LlamaCppServer) -> None:
    """Though this server knows it under another name than OpenAI's."""
    schema = {
        "type": "object",
        "properties": {
            "skills": {"type": "array", "items": {"enum": ["sql", "go", "css"]}, "maxItems": 2}
        },
        "required": ["skills"],
    }
    async with connected(peer) as model:
        texts, _ = await replied(model, msgspec.structs.replace(CHAT, schema=schema))
    skills = msgspec.json.decode("".join(texts))["skills"]
    assert len(skills) <= 2
    assert set(skills) <= {"sql", "go", "css"}


@asynchronous
async def test_closing_the_reply_frees_the_server(peer: LlamaCppServer) -> None:
    """It stops writing, and answers the next request."""
    long = msgspec.structs.replace(CHAT, max_tokens=1_500, temperature=1.0)
    async with connected(peer) as model:
        async with aclosing(model.generate(long)) as events:
            assert isinstance(await anext(events), TextDelta)
        texts, _ = await asyncio.wait_for(replied(model, CHAT), 20.0)
    assert texts


@asynchronous
async def test_a_reply_that_another_request_cut_off_is_an_error(peer: LlamaCppServer) -> None:
    """This server, as it comes, breaks off a stream for the next request; it looks like the end."""
    long = msgspec.structs.replace(CHAT, max_tokens=1_500, temperature=1.5, min_p=0.0)
    async with connected(peer) as model:
        async with aclosing(model.generate(long)) as events:
            assert isinstance(await anext(events), TextDelta)
            other = asyncio.create_task(replied(model, CHAT))
            with pytest.raises(InferenceError) as caught:
                async for _ in events:
                    pass
        await other
    assert (caught.value.code, caught.value.retryable) == ("endpoint_cut", True)


@asynchronous
async def test_a_server_that_is_killed_breaks_its_reply_off(
    models_dir: Path, tmp_path: Path
) -> None:
    """kill -9 in mid-sentence, and then nobody there: both may be tried again."""
    model_file = models_dir / "smollm2-135m-instruct.q4_1.gguf"
    long = msgspec.structs.replace(CHAT, max_tokens=1_500, temperature=1.5, min_p=0.0)
    with LlamaCppServer(tmp_path, model_file) as peer:
        async with connected(peer, "") as model:
            await model.start()
            reply = model.generate(long)
            assert isinstance(await anext(reply), TextDelta)
            peer.kill()
            with pytest.raises(InferenceError) as cut:
                async for _ in reply:
                    pass
            with pytest.raises(InferenceError) as gone:
                await replied(model, CHAT)
    assert (cut.value.code, cut.value.retryable) == ("endpoint_cut", True)
    assert (gone.value.code, gone.value.retryable) == ("endpoint_unreachable", True)
