"""Reading ahead, parking and forgetting, through the gateway."""

import asyncio
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import Prompt, TextDelta
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway, Policy
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguage, finished, words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)


class Desk:
    """A gateway to one model that takes a second for each word and each prefill."""

    def __init__(
        self,
        tmp_path: Path,
        model: type[CuedLanguage] = CuedLanguage,
        *,
        parallel: int = 1,
        limit: int = 0,
    ) -> None:
        self.clock = ManualClock()
        self.model = model(self.clock, [words("One two.")], pause=1.0)
        self.limiter = RateLimiter(tmp_path / "limit.sqlite", self.clock, limit=limit)
        self.gateway = Gateway(
            self.model,
            ScriptedSpeechModel(self.clock),
            self.limiter,
            self.clock,
            Policy(parallel=parallel),
        )
        self.tasks: list[asyncio.Task[bool]] = []

    async def open(self) -> "Desk":
        self.gateway.start()
        await self.gateway.info()
        return self

    async def prefill(self, conversation: str, text: str = "ahead") -> asyncio.Task[bool]:
        """Begin to read ahead."""
        call = Call(purpose="prefill", user="u", interview=conversation, request="never charged")
        prompt = Prompt(conversation=conversation, text=text)
        task = asyncio.create_task(self.gateway.prefill(call, prompt))
        await self.clock.advance(0)
        return task

    async def answer(self, conversation: str, request: str = "r1") -> str:
        call = Call(purpose="question", user="u", interview=conversation, request=request)
        prompt = Prompt(conversation=conversation, text="now")
        events = self.gateway.generate(call, prompt)
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])

    async def close(self) -> None:
        await self.gateway.close()
        self.limiter.close()


@asynchronous
async def test_a_prompt_is_read_ahead_and_not_charged(tmp_path: Path) -> None:
    """The user's only request is still there afterwards."""
    desk = await Desk(tmp_path, limit=1).open()
    task = await desk.prefill("i1")
    await desk.clock.advance(1)
    assert await task
    assert [prompt.text for prompt in desk.model.prefilled] == ["ahead"]
    assert await finished(desk.answer("i1"), desk.clock) == "One two."
    await desk.close()


@asynchronous
async def test_reading_ahead_gives_way_to_an_answer_at_once(tmp_path: Path) -> None:
    """The answer takes its two seconds, as if nobody had been there."""
    desk = await Desk(tmp_path).open()
    task = await desk.prefill("i1")
    begun = desk.clock.monotonic()
    assert await finished(desk.answer("i2"), desk.clock) == "One two."
    assert desk.clock.monotonic() - begun == 2.0
    assert not await task
    assert desk.model.prefilled == []
    await desk.close()


@asynchronous
async def test_nothing_is_read_ahead_while_every_place_is_taken(tmp_path: Path) -> None:
    """It is dropped, not put into the queue."""
    desk = await Desk(tmp_path).open()
    answer = asyncio.create_task(desk.answer("i1"))
    while not desk.model.prompts:
        await desk.clock.advance(0)
    task = await desk.prefill("i2")
    assert not await task
    await desk.clock.advance(2)
    assert await answer == "One two."
    assert desk.model.prefilled == []
    await desk.close()


@asynchronous
async def test_a_newer_prompt_of_a_conversation_replaces_an_older_one(tmp_path: Path) -> None:
    """A prefill replaces a prefill, an answer replaces it too; other conversations are left."""
    desk = await Desk(tmp_path, parallel=8).open()
    tasks = [await desk.prefill("i1", "old"), await desk.prefill("i2", "other")]
    tasks.append(await desk.prefill("i1", "new"))
    await desk.clock.advance(1)
    assert [prompt.text for prompt in desk.model.prefilled] == ["other", "new"]
    tasks.append(await desk.prefill("i1", "too late"))
    assert await finished(desk.answer("i1"), desk.clock) == "One two."
    await asyncio.gather(*tasks)
    assert [prompt.text for prompt in desk.model.prefilled] == ["other", "new"]
    await desk.close()


@asynchronous
async def test_many_at_once_leave_one(tmp_path: Path) -> None:
    """Ten prompts of one conversation in the same moment: the last is read, no place is lost."""
    desk = await Desk(tmp_path, parallel=3).open()
    prompts = [Prompt(conversation="i1", text=str(number)) for number in range(10)]
    call = Call(purpose="prefill", user="u", interview="i1", request="")
    tasks = [asyncio.create_task(desk.gateway.prefill(call, prompt)) for prompt in prompts]

    async def done() -> None:
        await asyncio.gather(*tasks)

    await finished(done(), desk.clock)
    assert [prompt.text for prompt in desk.model.prefilled] == ["9"]
    assert desk.gateway.loads()[0].running == 0
    await desk.close()


@pytest.mark.parametrize("failure", [DIED, ZeroDivisionError("a bug")], ids=["died", "bug"])
@asynchronous
async def test_a_failure_is_nobodys_business(tmp_path: Path, failure: Exception) -> None:
    """Work done ahead, parking and forgetting do not fail what they are for."""

    class Failing(CuedLanguage):
        async def prefill(self, prompt: Prompt) -> None:
            raise failure

        async def offload(self, conversation: str) -> None:
            raise failure

        async def discard(self, conversation: str) -> None:
            raise failure

    desk = await Desk(tmp_path, Failing).open()
    await (await desk.prefill("i1"))
    await desk.gateway.offload("i1")
    await desk.gateway.discard("i1")
    assert desk.gateway.loads()[0].running == 0
    assert await finished(desk.answer("i1"), desk.clock) == "One two."
    await desk.close()


@asynchronous
async def test_whoever_asked_can_take_it_back(tmp_path: Path) -> None:
    """Cancelling is passed on to the model, and still is a cancellation."""
    desk = await Desk(tmp_path).open()
    task = await desk.prefill("i1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await desk.clock.advance(1)
    assert desk.model.prefilled == []
    assert desk.gateway.loads()[0].running == 0
    await desk.close()


@asynchronous
async def test_parking_and_forgetting_reach_the_model(tmp_path: Path) -> None:
    """And what is being read for the conversation ends first."""
    desk = await Desk(tmp_path).open()
    task = await desk.prefill("i1")
    await desk.gateway.offload("i1")
    assert task.done() or not desk.model.prefilled
    await desk.gateway.discard("i1")
    await task
    assert desk.model.kept == [("offload", "i1"), ("discard", "i1")]
    assert desk.model.prefilled == []
    await desk.close()


@asynchronous
async def test_nothing_is_read_ahead_for_nobody(tmp_path: Path) -> None:
    """Without a conversation there is nothing to keep it for."""
    desk = await Desk(tmp_path).open()
    await (await desk.prefill(""))
    assert desk.model.prefilled == []
    await desk.close()
