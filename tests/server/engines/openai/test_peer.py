"""Remote language model on the llama-cpp-python server, which runs the starter model."""

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
from tests.server.engines.openai.fake_endpoint import KEY
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
async def connect(
    peer: LlamaCppServer, name: str = "smollm2", key: str = KEY
) -> AsyncIterator[OpenAILanguageModel]:
    model = OpenAILanguageModel(Endpoint.parse(f"openai:{peer.url}#{name}"), SystemClock(), key=key)
    try:
        yield model
    finally:
        await model.close()


async def generate(model: OpenAILanguageModel, prompt: Prompt) -> tuple[list[str], Usage]:
    """Return the texts of all deltas of a reply, and the reply's usage."""
    events = [event async for event in model.generate(prompt)]
    usage = events.pop()
    assert isinstance(usage, Usage)
    return [event.text for event in events if isinstance(event, TextDelta)], usage


@asynchronous
async def test_the_model_is_found(peer: LlamaCppServer) -> None:
    """The only model on a server is found whether or not the address contains the model's name."""
    for name in ("smollm2", ""):
        async with connect(peer, name) as model:
            assert await model.start() == ModelInfo(
                name="smollm2", parameters=0, context=4_096, parallel=16
            )


@asynchronous
async def test_a_wrong_key_is_refused(peer: LlamaCppServer) -> None:
    """A request with a wrong key fails with the code `endpoint_unauthorized`."""
    async with connect(peer, key="sk-wrong") as model:
        with pytest.raises(InferenceError) as caught:
            await generate(model, CHAT)
    assert caught.value.code == ErrorCode.ENDPOINT_UNAUTHORIZED


@asynchronous
async def test_a_chat_streams_and_is_reproducible(peer: LlamaCppServer) -> None:
    """A chat reply streams in several deltas, and the same seed gives the same reply."""
    async with connect(peer) as model:
        texts, usage = await generate(model, CHAT)
        again, _ = await generate(model, CHAT)
    assert len(texts) > 5
    assert usage.completion_tokens >= len(texts)
    assert usage.seconds > 0
    assert "".join(texts) == "".join(again)


@asynchronous
async def test_a_text_prompt_is_completed(peer: LlamaCppServer) -> None:
    """A text prompt is continued after the prescribed first words of the reply."""
    async with connect(peer) as model:
        texts, _ = await generate(
            model,
            Prompt(text="One, two, three, four,", opening=" five,", max_tokens=8, temperature=0.0),
        )
    assert "".join(texts).startswith(" six")


@asynchronous
async def test_a_grammar_is_enforced(peer: LlamaCppServer) -> None:
    """The llama-cpp-python server enforces a grammar, although grammars are not part of OpenAI's
    protocol."""
    prompt = msgspec.structs.replace(CHAT, grammar='root ::= "Why " [a-z ]{10,40} "?"')
    async with connect(peer) as model:
        texts, _ = await generate(model, prompt)
    assert re.fullmatch(r"Why [a-z ]{10,40}\?", "".join(texts))


@asynchronous
async def test_a_schema_is_enforced(peer: LlamaCppServer) -> None:
    """The llama-cpp-python server enforces a schema that is sent in the format of that server."""
    schema = {
        "type": "object",
        "properties": {
            "skills": {"type": "array", "items": {"enum": ["sql", "go", "css"]}, "maxItems": 2}
        },
        "required": ["skills"],
    }
    async with connect(peer) as model:
        texts, _ = await generate(model, msgspec.structs.replace(CHAT, schema=schema))
    skills = msgspec.json.decode("".join(texts))["skills"]
    assert len(skills) <= 2
    assert set(skills) <= {"sql", "go", "css"}


@asynchronous
async def test_closing_the_reply_frees_the_server(peer: LlamaCppServer) -> None:
    """After a reply is closed, the server stops generating and handles the next request."""
    long = msgspec.structs.replace(CHAT, max_tokens=1_500, temperature=1.0)
    async with connect(peer) as model:
        async with aclosing(model.generate(long)) as events:
            assert isinstance(await anext(events), TextDelta)
        texts, _ = await asyncio.wait_for(generate(model, CHAT), 20.0)
    assert texts


@asynchronous
async def test_a_reply_that_another_request_interrupts_is_an_error(peer: LlamaCppServer) -> None:
    """If the server silently ends a reply to serve another request, the reply fails as
    `endpoint_cut`."""
    long = msgspec.structs.replace(CHAT, max_tokens=1_500, temperature=1.5, min_p=0.0)
    async with connect(peer) as model:
        async with aclosing(model.generate(long)) as events:
            assert isinstance(await anext(events), TextDelta)
            other = asyncio.create_task(generate(model, CHAT))
            with pytest.raises(InferenceError) as caught:
                async for _ in events:
                    pass
        await other
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.ENDPOINT_CUT, True)


@asynchronous
async def test_a_killed_server_gives_retryable_errors(models_dir: Path, tmp_path: Path) -> None:
    """When the server is killed, the interrupted reply and the next request both fail with
    retryable errors."""
    model_file = models_dir / "smollm2-135m-instruct.q4_1.gguf"
    long = msgspec.structs.replace(CHAT, max_tokens=1_500, temperature=1.5, min_p=0.0)
    with LlamaCppServer(tmp_path, model_file) as peer:
        async with connect(peer, "") as model:
            await model.start()
            events = model.generate(long)
            assert isinstance(await anext(events), TextDelta)
            peer.kill()
            with pytest.raises(InferenceError) as cut:
                async for _ in events:
                    pass
            with pytest.raises(InferenceError) as gone:
                await generate(model, CHAT)
    assert (cut.value.code, cut.value.retryable) == (ErrorCode.ENDPOINT_CUT, True)
    assert (gone.value.code, gone.value.retryable) == (ErrorCode.ENDPOINT_UNREACHABLE, True)
