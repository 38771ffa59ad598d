"""Prefilling, offloading and discarding conversations through the gateway."""

import asyncio
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import Prompt, TextDelta
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway, GatewayPolicy
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, advance_until_done, one_set, split_words

CALL = Call(purpose="question", user="u", interview="i", request="i/t1")
DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)


class PrefillHarness:
    """Gateway to one model that takes a second for each word and each prefill."""

    def __init__(
        self,
        tmp_path: Path,
        model: type[CuedLanguageModel] = CuedLanguageModel,
        *,
        parallel: int = 1,
        limit: int = 0,
    ) -> None:
        self.clock = ManualClock()
        self.model = model(self.clock, [split_words("One two.")], pause=1.0)
        self.limiter = RateLimiter(tmp_path / "limit.sqlite", self.clock, limit=limit)
        self.gateway = Gateway(
            one_set(self.model, ScriptedSpeechModel(self.clock)),
            self.limiter,
            self.clock,
            GatewayPolicy(parallel=parallel),
        )

    async def start(self) -> "PrefillHarness":
        self.gateway.start()
        await self.gateway.model_info(CALL)
        return self

    async def start_prefill(self, conversation: str, text: str = "ahead") -> asyncio.Task[bool]:
        call = Call(purpose="prefill", user="u", interview=conversation, request="never charged")
        prompt = Prompt(conversation=conversation, text=text)
        task = asyncio.create_task(self.gateway.prefill(call, prompt))
        await self.clock.advance(0)
        return task

    async def generate(self, conversation: str, request: str = "r1") -> str:
        call = Call(purpose="question", user="u", interview=conversation, request=request)
        prompt = Prompt(conversation=conversation, text="now")
        events = self.gateway.generate(call, prompt)
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])

    async def reply(self, conversation: str) -> str:
        """Advance the clock until a reply is complete, and return the reply."""
        text: str = await advance_until_done(self.generate(conversation), self.clock)
        return text

    def prefilled_texts(self) -> list[str]:
        return [prompt.text for prompt in self.model.prefilled]

    async def close(self) -> None:
        await self.gateway.close()
        self.limiter.close()


@asynchronous
async def test_a_prefill_is_free_of_charge(tmp_path: Path) -> None:
    """After a prefill, a user whose limit is one request can still make that request."""
    harness = await PrefillHarness(tmp_path, limit=1).start()
    task = await harness.start_prefill("i1")
    await harness.clock.advance(1)
    assert await task
    assert harness.prefilled_texts() == ["ahead"]
    assert await harness.reply("i1") == "One two."
    await harness.close()


@asynchronous
async def test_a_call_preempts_a_prefill_at_once(tmp_path: Path) -> None:
    """A call cancels a running prefill at once and takes no longer than without the prefill."""
    harness = await PrefillHarness(tmp_path).start()
    task = await harness.start_prefill("i1")
    started_at = harness.clock.monotonic()
    assert await harness.reply("i2") == "One two."
    assert harness.clock.monotonic() - started_at == 2.0
    assert not await task
    assert harness.model.prefilled == []
    await harness.close()


@asynchronous
async def test_a_prefill_is_dropped_while_every_slot_is_taken(tmp_path: Path) -> None:
    """A prefill that finds no free slot is dropped and never enters the queue."""
    harness = await PrefillHarness(tmp_path).start()
    reply = asyncio.create_task(harness.generate("i1"))
    while not harness.model.prompts:
        await harness.clock.advance(0)
    task = await harness.start_prefill("i2")
    assert not await task
    await harness.clock.advance(2)
    assert await reply == "One two."
    assert harness.model.prefilled == []
    await harness.close()


@asynchronous
async def test_a_newer_prompt_replaces_the_conversations_prefill(tmp_path: Path) -> None:
    """A new prefill or a call ends the running prefill of its conversation, but not the prefills of
    other conversations."""
    harness = await PrefillHarness(tmp_path, parallel=8).start()
    tasks = [await harness.start_prefill("i1", "old"), await harness.start_prefill("i2", "other")]
    tasks.append(await harness.start_prefill("i1", "new"))
    await harness.clock.advance(1)
    assert harness.prefilled_texts() == ["other", "new"]
    tasks.append(await harness.start_prefill("i1", "too late"))
    assert await harness.reply("i1") == "One two."
    await asyncio.gather(*tasks)
    assert harness.prefilled_texts() == ["other", "new"]
    await harness.close()


@asynchronous
async def test_of_simultaneous_prefills_only_the_last_is_run(tmp_path: Path) -> None:
    """Only the last of ten simultaneous prefills of a conversation runs, and no slot is leaked."""
    harness = await PrefillHarness(tmp_path, parallel=3).start()
    prompts = [Prompt(conversation="i1", text=str(number)) for number in range(10)]
    call = Call(purpose="prefill", user="u", interview="i1", request="")
    tasks = [asyncio.create_task(harness.gateway.prefill(call, prompt)) for prompt in prompts]

    async def all_done() -> None:
        await asyncio.gather(*tasks)

    await advance_until_done(all_done(), harness.clock)
    assert harness.prefilled_texts() == ["9"]
    assert harness.gateway.model_loads()[0].running == 0
    await harness.close()


@pytest.mark.parametrize("failure", [DIED, ZeroDivisionError("a bug")], ids=["died", "bug"])
@asynchronous
async def test_failures_of_prefill_offload_and_discard_are_not_raised(
    tmp_path: Path, failure: Exception
) -> None:
    """Failures of prefill, offload and discard are not raised; no slot leaks, and the next call
    succeeds."""

    class Failing(CuedLanguageModel):
        async def prefill(self, prompt: Prompt) -> None:
            raise failure

        async def offload(self, conversation: str) -> None:
            raise failure

        async def discard(self, conversation: str) -> None:
            raise failure

    harness = await PrefillHarness(tmp_path, Failing).start()
    await (await harness.start_prefill("i1"))
    await harness.gateway.offload("i1")
    await harness.gateway.discard("i1")
    assert harness.gateway.model_loads()[0].running == 0
    assert await harness.reply("i1") == "One two."
    await harness.close()


@asynchronous
async def test_a_caller_can_cancel_its_prefill(tmp_path: Path) -> None:
    """Cancelling a prefill stops the model and raises CancelledError in the caller."""
    harness = await PrefillHarness(tmp_path).start()
    task = await harness.start_prefill("i1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await harness.clock.advance(1)
    assert harness.model.prefilled == []
    assert harness.gateway.model_loads()[0].running == 0
    await harness.close()


@asynchronous
async def test_offload_and_discard_cancel_the_prefill_and_reach_the_model(tmp_path: Path) -> None:
    """Offloading or discarding a conversation first ends the conversation's prefill and then calls
    the model."""
    harness = await PrefillHarness(tmp_path).start()
    task = await harness.start_prefill("i1")
    await harness.gateway.offload("i1")
    assert task.done() or not harness.model.prefilled
    await harness.gateway.discard("i1")
    await task
    assert harness.model.conversation_calls == [("offload", "i1"), ("discard", "i1")]
    assert harness.model.prefilled == []
    await harness.close()


@asynchronous
async def test_a_prompt_without_a_conversation_is_not_prefilled(tmp_path: Path) -> None:
    """A prompt without a conversation is not prefilled, since the prompt's KV state could not be
    found again."""
    harness = await PrefillHarness(tmp_path).start()
    await (await harness.start_prefill(""))
    assert harness.model.prefilled == []
    await harness.close()
