"""Two sets of real models, open at once and one after the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.clock import SystemClock
from prepserver.config import Config
from prepserver.engines.types import Prompt, TextDelta
from prepserver.gateway.gateway import Call, Gateway, GatewayPolicy
from prepserver.model_sets import InstalledSets
from prepserver.models import store as store_module
from prepserver.models.sets import Machine
from tests.server.models.builders import catalogue, hub_entry
from tests.support.loop import asynchronous

pytestmark = pytest.mark.models

MEMORY = 1_000_000
"""Memory that each set of `catalogue` states, in bytes."""


def link_starters(folder: Path, models_dir: Path) -> list[dict[str, Any]]:
    """Link each starter model into `folder` under two names, and return the catalogue entries."""
    folder.mkdir()
    entries = []
    for number in ("one", "two"):
        for kind, pattern in (("llm", "smollm2*.gguf"), ("stt", "whisper-tiny.en.bin")):
            (path,) = models_dir.glob(pattern)
            name = f"{number}-{kind}"
            (folder / f"{name}{path.suffix}").symlink_to(path)
            described = hub_entry(name, b"", kind=kind, file=f"{name}{path.suffix}", sha256="")
            entries.append(described | {"size": path.stat().st_size})
    return entries


@asynccontextmanager
async def gateway_to_two_sets(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> AsyncIterator[Gateway]:
    """Yield a gateway to the sets `one` and `two`, both made of the starter models."""
    folder = tmp_path / "models"
    entries = link_starters(folder, models_dir)
    known = catalogue(*entries, one=("one-llm", "one-stt"), two=("two-llm", "two-stt"))
    monkeypatch.setattr(store_module, "builtin_catalogue", lambda: known)
    config = Config(data_dir=tmp_path / "data", models_dir=folder, context=1_024, parallel=1)
    clock = SystemClock()
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    source = InstalledSets(config, clock, Machine(memory=10 * MEMORY, cores=2))
    gateway = Gateway(source, limiter, clock, GatewayPolicy(memory=memory))
    gateway.start()
    try:
        yield gateway
    finally:
        await gateway.close()
        limiter.close()


async def speak(gateway: Gateway, model_set: str, speech_dir: Path) -> tuple[str, str]:
    """Generate a reply and transcribe a recording with a set, and return both texts."""
    call = Call(purpose="question", user="u", interview=model_set, request="r", model_set=model_set)
    info = await gateway.model_info(call)
    assert info.name == f"{model_set}-llm"
    prompt = Prompt(
        text="The capital of France is", max_tokens=8, temperature=0.0, conversation=model_set
    )
    events = gateway.generate(call, prompt)
    reply = "".join([event.text async for event in events if isinstance(event, TextDelta)])
    pcm = (speech_dir / "short-answer.wav").read_bytes()[44:]
    return reply, (await gateway.transcribe(call, pcm)).text


@asynchronous
async def test_two_sets_are_open_at_once(
    tmp_path: Path, models_dir: Path, speech_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With enough memory, two sets run side by side in processes of their own, and equal models
    give equal replies; figures are reported for each model."""
    async with gateway_to_two_sets(tmp_path, models_dir, monkeypatch, 2 * MEMORY) as gateway:
        one = await speak(gateway, "one", speech_dir)
        two = await speak(gateway, "two", speech_dir)
        assert one == two
        assert all(one)
        loads = [(load.job, load.model, load.state) for load in gateway.model_loads()]
        assert sorted(loads) == [
            ("interviewer", "one-llm", "ready"),
            ("interviewer", "two-llm", "ready"),
            ("transcriber", "one-stt", "ready"),
            ("transcriber", "two-stt", "ready"),
        ]
        assert len(await gateway.engine_stats()) == 4
        assert await speak(gateway, "one", speech_dir) == one


@asynchronous
async def test_a_set_is_unloaded_for_another_and_loaded_again(
    tmp_path: Path, models_dir: Path, speech_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memory for one set, the sets replace each other, and an offloaded conversation
    continues after its set has been loaded again."""
    async with gateway_to_two_sets(tmp_path, models_dir, monkeypatch, MEMORY) as gateway:
        one = await speak(gateway, "one", speech_dir)
        await gateway.offload("one")
        await speak(gateway, "two", speech_dir)
        assert {load.model for load in gateway.model_loads()} == {"two-llm", "two-stt"}
        assert await speak(gateway, "one", speech_dir) == one
        assert {load.model for load in gateway.model_loads()} == {"one-llm", "one-stt"}
