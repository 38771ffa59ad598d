"""Helpers that run the starter model in its own process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from prepserver.clock import SystemClock
from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.types import Prompt, TextDelta, Usage

STARTER = "smollm2-135m-instruct.q4_1.gguf"


@asynccontextmanager
async def loaded_model(
    models_dir: Path,
    *,
    name: str = STARTER,
    n_ctx: int = 1_024,
    parallel: int = 4,
    kv_store_dir: Path | None = None,
) -> AsyncIterator[LlamaModel]:
    options = LlamaOptions(
        path=str(models_dir / name),
        n_ctx=n_ctx,
        parallel=parallel,
        kv_store_dir=str(kv_store_dir or ""),
    )
    model = LlamaModel(options, SystemClock())
    try:
        await model.start()
        yield model
    finally:
        await model.close()


async def generate(model: LlamaModel, prompt: Prompt) -> tuple[list[str], Usage]:
    """Return the deltas and the usage of a reply, and check that exactly one usage arrives, after
    all deltas."""
    deltas: list[str] = []
    usages: list[Usage] = []
    async for event in model.generate(prompt):
        assert not usages
        match event:
            case TextDelta(text=text):
                assert text
                deltas.append(text)
            case Usage():
                usages.append(event)
    return deltas, usages[0]


def run(
    models_dir: Path,
    scenario: Callable[[LlamaModel], Awaitable[None]],
    *,
    parallel: int = 4,
    kv_store_dir: Path | None = None,
) -> None:
    async def with_model() -> None:
        async with loaded_model(models_dir, parallel=parallel, kv_store_dir=kv_store_dir) as model:
            await scenario(model)

    asyncio.run(with_model())
