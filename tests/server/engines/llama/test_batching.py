"""Continuous batching: conversations share one model without affecting each other."""

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.types import Priority, Prompt
from tests.server.engines.llama.running import generate, run

pytestmark = pytest.mark.models

HEAD = (
    "Candidate: I rebuilt the search page so that results load in under a second.\n"
    "Interviewer: How did you decide which queries were worth caching?\n\n"
    "Candidate: I wrote a script that checks the logs and sends an alert when errors go up.\n"
    "Interviewer: What happens when the script itself stops working?\n\n"
)
ANSWERS = (
    "I led the migration of our payment service to a new database.",
    "We measured for a week and then cut two of the three caches. " * 4,
    "It was slow.",
    "My colleague and I disagreed on the design, so we each built a small one. " * 9,
    "The release was rolled back twice because of a missing index. " * 2,
)
QUESTION_GRAMMAR = r"""root ::= " " [A-Z] [a-zA-Z0-9 ,'-]{12,80} "?" """


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def total_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def prompts() -> list[Prompt]:
    """Return prompts of several lengths at a high temperature, some with a grammar."""
    return [
        Prompt(
            text=f"{HEAD}Candidate: {answer}\nInterviewer:",
            grammar=QUESTION_GRAMMAR if number % 2 else "",
            conversation=f"conversation {number}",
            max_tokens=30,
            temperature=1.2,
            min_p=0.02,
            seed=number,
        )
        for number, answer in enumerate(ANSWERS)
    ]


def test_a_reply_does_not_depend_on_concurrent_ones(models_dir: Path) -> None:
    """Five prompts get the same replies when they run concurrently in four slots as when they run
    one after the other."""

    async def scenario(model: LlamaModel) -> None:
        together = await asyncio.gather(*(generate(model, prompt) for prompt in prompts()))
        for prompt in prompts():
            await model.discard(prompt.conversation)
        for prompt, (deltas, _) in zip(prompts(), together, strict=True):
            alone, usage = await generate(model, prompt)
            assert "".join(deltas) == "".join(alone)
            assert usage.completion_tokens > 3

    run(models_dir, scenario)


def test_replies_are_generated_in_parallel(models_dir: Path) -> None:
    """A short reply is completed while a long reply that started earlier is still streaming."""

    async def scenario(model: LlamaModel) -> None:
        long = asyncio.create_task(generate(model, Prompt(text=HEAD, max_tokens=400, seed=1)))
        await asyncio.sleep(0.3)
        await generate(model, Prompt(text="One, two,", max_tokens=3))
        assert not long.done()
        stats = await model.stats()
        assert (stats.slots, stats.active) == (4, 1)
        long.cancel()
        await asyncio.wait([long])

    run(models_dir, scenario)


def test_a_prefilled_prompt_is_not_computed_again(models_dir: Path) -> None:
    """A prompt reuses the prefix that it shares with a prefilled prompt of the same
    conversation."""

    async def scenario(model: LlamaModel) -> None:
        typed = Prompt(text=f"{HEAD}Candidate: I led the", conversation="a")
        await model.prefill(typed)
        sent = Prompt(text=f"{HEAD}Candidate: I led it.\nWhy?", conversation="a", max_tokens=4)
        _, usage = await generate(model, sent)
        assert usage.cached_tokens >= usage.prompt_tokens - 8
        fresh = Prompt(text=f"{HEAD}Candidate: I led it.\nWhy?", max_tokens=4)
        assert (await generate(model, fresh))[0] == (await generate(model, sent))[0]

    run(models_dir, scenario)


def test_an_answer_ends_the_prefill_of_its_conversation(models_dir: Path) -> None:
    """An answer ends the prefill of its conversation early and reuses the tokens that the prefill
    has computed."""

    async def scenario(model: LlamaModel) -> None:
        text = " word" * 900
        prefill = asyncio.create_task(model.prefill(Prompt(text=text, conversation="a")))
        await asyncio.sleep(0.7)
        assert not prefill.done()
        short = Prompt(text=" word" * 300, conversation="a", max_tokens=1)
        _, usage = await generate(model, short)
        await prefill
        assert usage.cached_tokens > 0

    run(models_dir, scenario, parallel=1)


def test_replaced_prefills_compute_nothing_twice(models_dir: Path) -> None:
    """Of three drafts that replace each other, and the answer that replaces the last one, each
    token is computed once."""

    async def scenario(model: LlamaModel) -> None:
        drafts = []
        for words in (400, 450, 500):
            prompt = Prompt(text=" word" * words, conversation="a")
            drafts.append(asyncio.create_task(model.prefill(prompt)))
            while not (await model.stats()).batch_tokens:
                pass
        assert (await model.stats()).batch_tokens < 400
        answer = Prompt(text=" word" * 510, conversation="a", max_tokens=1)
        _, usage = await generate(model, answer)
        await asyncio.gather(*drafts)
        assert usage.cached_tokens > 0
        assert (await model.stats()).batch_tokens == 510

    run(models_dir, scenario)


def test_an_answer_preempts_a_prefill_of_another_conversation(models_dir: Path) -> None:
    """An answer takes the only slot at once, and the prefill of another conversation in that slot
    returns early."""

    async def scenario(model: LlamaModel) -> None:
        prefill = asyncio.create_task(model.prefill(Prompt(text=" word" * 900, conversation="a")))
        await asyncio.sleep(0.3)
        assert not prefill.done()
        await generate(model, Prompt(text="One, two,", max_tokens=1))
        await prefill
        assert (await model.stats()).cached_tokens == 0

    run(models_dir, scenario, parallel=1)


def test_an_evicted_conversation_is_restored_from_disk(models_dir: Path, tmp_path: Path) -> None:
    """When three conversations alternate in two slots, each is restored from disk: only one token
    of its prompt is recomputed, and the reply is the same as before."""

    async def scenario(model: LlamaModel) -> None:
        first = {}
        for prompt in prompts()[:3]:
            first[prompt.conversation] = await generate(model, prompt)
        for prompt in prompts()[:3]:
            deltas, usage = await generate(model, prompt)
            assert deltas == first[prompt.conversation][0]
            assert usage.cached_tokens == usage.prompt_tokens - 1
        stats = await model.stats()
        assert stats.evictions >= 3
        assert stats.restores >= 3
        assert stats.offloaded_bytes == total_size(tmp_path)

    run(models_dir, scenario, parallel=2, kv_store_dir=tmp_path)


def test_an_offloaded_conversation_survives_a_restart(models_dir: Path, tmp_path: Path) -> None:
    """After a restart, the engine restores an offloaded conversation and generates the same text as
    before."""
    prompt = prompts()[3]
    replies = []

    async def offload(model: LlamaModel) -> None:
        replies.append((await generate(model, prompt))[0])
        await model.offload(prompt.conversation)
        assert (await model.stats()).offloaded == 1

    async def restore(model: LlamaModel) -> None:
        deltas, usage = await generate(model, prompt)
        assert deltas == replies[0]
        assert usage.cached_tokens == usage.prompt_tokens - 1

    run(models_dir, offload, kv_store_dir=tmp_path)
    run(models_dir, restore, kv_store_dir=tmp_path)


def test_a_damaged_offloaded_conversation_is_recomputed(models_dir: Path, tmp_path: Path) -> None:
    """An offloaded conversation with a flipped bit is deleted and recomputed, and the reply stays
    the same."""
    prompt = prompts()[0]

    async def scenario(model: LlamaModel) -> None:
        before, _ = await generate(model, prompt)
        await model.offload(prompt.conversation)
        (path,) = files(tmp_path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 16
        path.write_bytes(data)
        after, usage = await generate(model, prompt)
        assert before == after
        assert usage.cached_tokens == 0
        assert files(tmp_path) == []

    run(models_dir, scenario, kv_store_dir=tmp_path)


def test_a_discarded_conversation_leaves_nothing(models_dir: Path, tmp_path: Path) -> None:
    """A discarded conversation is deleted from the cache and the disk, even if it is discarded
    during its reply."""

    async def scenario(model: LlamaModel) -> None:
        for prompt in prompts()[:2]:
            await generate(model, prompt)
            await model.offload(prompt.conversation)
            await model.discard(prompt.conversation)
            assert files(tmp_path) == []
            assert (await generate(model, prompt))[1].cached_tokens <= 80
            await model.discard(prompt.conversation)
        async with aclosing(model.generate(prompts()[0])) as reply:
            await anext(reply)
            await model.discard(prompts()[0].conversation)
            async for _ in reply:
                pass
        await model.offload(prompts()[0].conversation)
        assert files(tmp_path) == []
        assert (await generate(model, prompts()[0]))[1].cached_tokens == 0

    run(models_dir, scenario, kv_store_dir=tmp_path)


def test_reviews_leave_a_slot_for_an_answer(models_dir: Path) -> None:
    """Reviews never take the last slot, so that an answer can start at once."""

    async def scenario(model: LlamaModel) -> None:
        review = Prompt(text=HEAD, max_tokens=600, priority=Priority.REVIEW, min_p=0.0)
        reviews = [asyncio.create_task(generate(model, review)) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert (await model.stats()).waiting == 2
        started = time.monotonic()
        await generate(model, Prompt(text="One, two,", max_tokens=1))
        assert time.monotonic() - started < 5.0
        assert not any(each.done() for each in reviews)
        for each in reviews:
            each.cancel()
        await asyncio.wait(reviews)
        assert (await model.stats()).active == 0

    run(models_dir, scenario, parallel=2)


def test_a_cancelled_reply_frees_its_slot(models_dir: Path) -> None:
    """A cancelled reply frees its slot, or its place in the queue if the reply has not started."""

    async def scenario(model: LlamaModel) -> None:
        long = Prompt(text=HEAD, max_tokens=600, min_p=0.0)
        replies = [asyncio.create_task(generate(model, long)) for _ in range(4)]
        await asyncio.sleep(0.5)
        stats = await model.stats()
        assert (stats.active, stats.waiting) == (2, 2)
        replies[3].cancel()
        replies[0].cancel()
        await asyncio.wait([replies[0], replies[3]])
        stats = await model.stats()
        assert stats.active + stats.waiting == 2
        for each in replies:
            each.cancel()
        await asyncio.wait(replies)
        assert (await model.stats()).active == 0

    run(models_dir, scenario, parallel=2)
