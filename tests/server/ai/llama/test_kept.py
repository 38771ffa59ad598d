"""Prompts go on from what earlier prompts left in the cache."""

import pytest

from prepserver.ai.llama.kept import SHORT, Kept, Step

HEAD = list(range(1_000, 1_300))
"""The same beginning of every interview."""


def follow(kept: Kept, prompt: list[int], reply: int = 10) -> Step:
    """Do as the plan says, then read the prompt and write a reply."""
    step = kept.plan(prompt, len(prompt) + reply)
    kept.begin(step)
    assert kept.tokens[step.sequence] == prompt[: step.keep]
    kept.tokens[step.sequence] = prompt + [9_000 + n for n in range(reply)]
    return step


def test_the_first_prompt_finds_nothing() -> None:
    """An empty cache gives an empty sequence."""
    assert Kept(4, 4_096).plan([1, 2, 3], 10) == Step(sequence=0, keep=0)


def test_a_longer_prompt_goes_on_where_it_is() -> None:
    """An interview that only grew stays in its sequence and computes only what is new."""
    kept = Kept(4, 4_096)
    first = follow(kept, [*HEAD, 1, 2, 3])
    assert follow(kept, [*HEAD, 1, 2, 3, 4, 5]) == Step(sequence=first.sequence, keep=303)


def test_the_last_token_is_always_computed() -> None:
    """The same prompt again leaves one token to compute, for its logits."""
    kept = Kept(4, 4_096)
    follow(kept, HEAD)
    assert follow(kept, HEAD).keep == len(HEAD) - 1


def test_another_interview_gets_a_copy_of_the_common_beginning() -> None:
    """Two interviews that begin alike do not throw each other out."""
    kept = Kept(4, 4_096)
    one = [*HEAD, *range(200)]
    other = [*HEAD, *range(500, 700)]
    assert follow(kept, one).sequence == 0
    step = follow(kept, other)
    assert step.sequence != 0
    assert (step.copy_from, step.keep) == (0, len(HEAD))
    assert follow(kept, [*one, 7]).keep == len(one)
    assert follow(kept, [*other, 7]).keep == len(other)


def test_a_redone_reply_is_replaced_in_place() -> None:
    """A tail that is cheap to compute again takes no second sequence."""
    kept = Kept(4, 4_096)
    follow(kept, HEAD, reply=SHORT)
    assert follow(kept, [*HEAD, 1, 2, 3]) == Step(sequence=0, keep=len(HEAD))


def test_the_longest_unused_conversation_makes_way_for_a_new_one() -> None:
    """With every sequence taken, the oldest goes."""
    kept = Kept(3, 4_096)
    prompts = [[n * 100 + k for k in range(90)] for n in range(1, 5)]
    for prompt in prompts[:3]:
        follow(kept, prompt)
    follow(kept, [*prompts[0], 5])
    assert follow(kept, prompts[3]).sequence == 1


def test_conversations_are_evicted_until_the_prompt_has_room() -> None:
    """The cache never holds more than its capacity, whatever is asked of it."""
    kept = Kept(4, 1_000)
    follow(kept, [1, *range(2_000, 2_400)])
    follow(kept, [2, *range(3_000, 3_400)])
    step = follow(kept, [3, *range(4_000, 4_500)])
    assert step.evict == (0,)
    assert sum(map(len, kept.tokens)) <= 1_000
    assert follow(kept, [4, *range(5_000, 5_900)]).evict == (1, 2)


def test_a_copy_may_come_from_a_conversation_that_is_evicted() -> None:
    """What is shared is kept even if the one it was shared with has to go."""
    kept = Kept(2, 1_000)
    follow(kept, [*HEAD, *range(400)])
    step = follow(kept, [*HEAD, *range(500, 900)])
    assert step == Step(sequence=1, keep=len(HEAD), copy_from=0, evict=(0,))
    assert kept.tokens[0] == []


def test_nothing_is_found_after_the_cache_was_emptied() -> None:
    """After an error the cache is not trusted."""
    kept = Kept(2, 1_000)
    follow(kept, HEAD)
    kept.forget()
    assert follow(kept, HEAD).keep == 0


@pytest.mark.parametrize("prompt", [[1], [1, 2]])
def test_a_short_prompt_is_no_special_case(prompt: list[int]) -> None:
    """Even one token is computed, never taken from the cache alone."""
    kept = Kept(2, 1_000)
    follow(kept, [1, 2, 3])
    assert kept.plan(prompt, 10).keep == len(prompt) - 1
