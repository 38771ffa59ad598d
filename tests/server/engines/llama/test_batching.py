"""Many conversations share one model and do not notice each other."""

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.types import Priority, Prompt
from tests.server.engines.llama.running import run, write

pytestmark = pytest.mark.models

HEAD = (
    "Candidate: I rebuilt the search page so that results load in under a second.\n"
    "Interviewer: How did you decide which queries were worth caching?\n\n"
    "Candidate: I wrote a script that checks the logs and sends an alert when errors go up.\n"
    "Interviewer: What happens when the script itself stops working?\n\n"
)
SAID = (
    "I led the migration of our payment service to a new database.",
    "We measured for a week and then cut two of the three caches. " * 4,
    "It was slow.",
    "My colleague and I disagreed on the design, so we each built a small one. " * 9,
    "The release was rolled back twice because of a missing index. " * 2,
)
QUESTION = r"""root ::= " " [A-Z] [a-zA-Z0-9 ,'-]{12,80} "?" """


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def prompts() -> list[Prompt]:
    """Hot, long and short, with and without a grammar."""
    return [
        Prompt(
            text=f"{HEAD}Candidate: {said}\nInterviewer:",
            grammar=QUESTION if number % 2 else "",
            conversation=f"conversation {number}",
            max_tokens=30,
            temperature=1.2,
            min_p=0.02,
            seed=number,
        )
        for number, said in enumerate(SAID)
    ]


def test_the_same_seed_gives_the_same_text_alone_and_among_others(models_dir: Path) -> None:
    """Five at once, one more than there are sequences, write what each writes alone."""

    async def scenario(model: LlamaModel) -> None:
        together = await asyncio.gather(*(write(model, prompt) for prompt in prompts()))
        for prompt in prompts():
            await model.discard(prompt.conversation)
        for prompt, (deltas, _) in zip(prompts(), together, strict=True):
            alone, usage = await write(model, prompt)
            assert "".join(deltas) == "".join(alone)
            assert usage.completion_tokens > 3

    run(models_dir, scenario)


def test_replies_are_written_side_by_side(models_dir: Path) -> None:
    """A short reply does not wait for the end of a long one that began before it."""

    async def scenario(model: LlamaModel) -> None:
        long = asyncio.create_task(write(model, Prompt(text=HEAD, max_tokens=400, seed=1)))
        await asyncio.sleep(0.3)
        await write(model, Prompt(text="One, two,", max_tokens=3))
        assert not long.done()
        stats = await model.stats()
        assert (stats.slots, stats.active) == (4, 1)
        long.cancel()
        await asyncio.wait([long])

    run(models_dir, scenario)


def test_a_prompt_that_was_read_ahead_is_not_read_again(models_dir: Path) -> None:
    """And where it turned out otherwise, what is common is kept."""

    async def scenario(model: LlamaModel) -> None:
        typed = Prompt(text=f"{HEAD}Candidate: I led the", conversation="a")
        await model.prefill(typed)
        sent = Prompt(text=f"{HEAD}Candidate: I led it.\nWhy?", conversation="a", max_tokens=4)
        _, usage = await write(model, sent)
        assert usage.cached_tokens >= usage.prompt_tokens - 8
        fresh = Prompt(text=f"{HEAD}Candidate: I led it.\nWhy?", max_tokens=4)
        assert (await write(model, fresh))[0] == (await write(model, sent))[0]

    run(models_dir, scenario)


def test_an_answer_does_not_wait_for_what_is_read_ahead(models_dir: Path) -> None:
    """What was read of it is kept, and whoever asked for it is told that it is over."""

    async def scenario(model: LlamaModel) -> None:
        text = " word" * 900
        ahead = asyncio.create_task(model.prefill(Prompt(text=text, conversation="a")))
        await asyncio.sleep(0.7)
        assert not ahead.done()
        short = Prompt(text=" word" * 300, conversation="a", max_tokens=1)
        _, usage = await write(model, short)
        await ahead
        assert usage.cached_tokens > 0

    run(models_dir, scenario, parallel=1)


def test_a_prompt_of_another_conversation_pre_empts_reading_ahead(models_dir: Path) -> None:
    """With one sequence only, the answer has it at once."""

    async def scenario(model: LlamaModel) -> None:
        ahead = asyncio.create_task(model.prefill(Prompt(text=" word" * 900, conversation="a")))
        await asyncio.sleep(0.3)
        assert not ahead.done()
        await write(model, Prompt(text="One, two,", max_tokens=1))
        await ahead
        assert (await model.stats()).cached_tokens == 0

    run(models_dir, scenario, parallel=1)


def test_a_conversation_that_made_way_comes_back_from_disk(
    models_dir: Path, tmp_path: Path
) -> None:
    """Three conversations take turns in two sequences; each reads only what is new, and writes
    the same as if it had never gone."""

    async def scenario(model: LlamaModel) -> None:
        first = {}
        for prompt in prompts()[:3]:
            first[prompt.conversation] = await write(model, prompt)
        for prompt in prompts()[:3]:
            deltas, usage = await write(model, prompt)
            assert deltas == first[prompt.conversation][0]
            assert usage.cached_tokens == usage.prompt_tokens - 1
        stats = await model.stats()
        assert stats.evictions >= 3
        assert stats.restores >= 3
        assert stats.offloaded_bytes == size(tmp_path)

    run(models_dir, scenario, parallel=2, cache_dir=tmp_path)


def test_a_parked_conversation_survives_the_process(models_dir: Path, tmp_path: Path) -> None:
    """Parked by one process, read by the next; the same text comes of it."""
    prompt = prompts()[3]
    written = []

    async def park(model: LlamaModel) -> None:
        written.append((await write(model, prompt))[0])
        await model.offload(prompt.conversation)
        assert (await model.stats()).offloaded == 1

    async def take_up(model: LlamaModel) -> None:
        deltas, usage = await write(model, prompt)
        assert deltas == written[0]
        assert usage.cached_tokens == usage.prompt_tokens - 1

    run(models_dir, park, cache_dir=tmp_path)
    run(models_dir, take_up, cache_dir=tmp_path)


def test_a_damaged_parked_conversation_is_read_again(models_dir: Path, tmp_path: Path) -> None:
    """The text is the same, nothing of the file is believed."""
    prompt = prompts()[0]

    async def scenario(model: LlamaModel) -> None:
        before, _ = await write(model, prompt)
        await model.offload(prompt.conversation)
        (path,) = files(tmp_path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 16
        path.write_bytes(data)
        after, usage = await write(model, prompt)
        assert before == after
        assert usage.cached_tokens == 0
        assert files(tmp_path) == []

    run(models_dir, scenario, cache_dir=tmp_path)


def test_a_forgotten_conversation_leaves_nothing(models_dir: Path, tmp_path: Path) -> None:
    """Not in the cache, not on disk, not even when it is forgotten while it is being written."""

    async def scenario(model: LlamaModel) -> None:
        for prompt in prompts()[:2]:
            await write(model, prompt)
            await model.offload(prompt.conversation)
            await model.discard(prompt.conversation)
            assert files(tmp_path) == []
            assert (await write(model, prompt))[1].cached_tokens <= 80
            await model.discard(prompt.conversation)
        async with aclosing(model.generate(prompts()[0])) as reply:
            await anext(reply)
            await model.discard(prompts()[0].conversation)
            async for _ in reply:
                pass
        await model.offload(prompts()[0].conversation)
        assert files(tmp_path) == []
        assert (await write(model, prompts()[0]))[1].cached_tokens == 0

    run(models_dir, scenario, cache_dir=tmp_path)


def test_a_review_leaves_room_for_an_answer(models_dir: Path) -> None:
    """Reviews never take the last sequence, so an answer finds one at once."""

    async def scenario(model: LlamaModel) -> None:
        review = Prompt(text=HEAD, max_tokens=600, priority=Priority.REVIEW, min_p=0.0)
        reviews = [asyncio.create_task(write(model, review)) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert (await model.stats()).waiting == 2
        started = time.monotonic()
        await write(model, Prompt(text="One, two,", max_tokens=1))
        assert time.monotonic() - started < 5.0
        assert not any(each.done() for each in reviews)
        for each in reviews:
            each.cancel()
        await asyncio.wait(reviews)
        assert (await model.stats()).active == 0

    run(models_dir, scenario, parallel=2)


def test_a_reply_that_nobody_wants_frees_its_sequence(models_dir: Path) -> None:
    """Cancelled while waiting, reading or writing: the next one in line is taken up."""

    async def scenario(model: LlamaModel) -> None:
        long = Prompt(text=HEAD, max_tokens=600, min_p=0.0)
        writing = [asyncio.create_task(write(model, long)) for _ in range(4)]
        await asyncio.sleep(0.5)
        stats = await model.stats()
        assert (stats.active, stats.waiting) == (2, 2)
        writing[3].cancel()
        writing[0].cancel()
        await asyncio.wait([writing[0], writing[3]])
        stats = await model.stats()
        assert stats.active + stats.waiting == 2
        for each in writing:
            each.cancel()
        await asyncio.wait(writing)
        assert (await model.stats()).active == 0

    run(models_dir, scenario, parallel=2)
