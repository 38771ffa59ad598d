"""Prompts go on from what earlier prompts left in the cache."""

import pytest

from prepserver.engines.llama.kv_slots import (
    RECOMPUTE_LIMIT,
    KvSlots,
    SlotPlan,
    shared_prefix_length,
)

HEAD = list(range(1_000, 1_300))
"""The same beginning of every interview."""


def begin(slots: KvSlots, prompt: list[int], conversation: str = "", stored: int = 0) -> SlotPlan:
    """Do as the plan says, and leave the sequence busy."""
    step = slots.plan(conversation, prompt, stored)
    assert step is not None
    if step.copy_from is not None:
        assert slots[step.copy_from].tokens[: step.keep] == prompt[: step.keep]
    elif not step.restore:
        assert slots[step.slot].tokens[: step.keep] == prompt[: step.keep]
    slots.assign(step, conversation, prompt[: step.keep])
    return step


def follow(
    slots: KvSlots,
    prompt: list[int],
    conversation: str = "",
    stored: int = 0,
    reply: int = 10,
) -> SlotPlan:
    """Do as the plan says, read the prompt, write a reply, and be done."""
    step = begin(slots, prompt, conversation, stored)
    taken = slots[step.slot]
    taken.tokens = prompt + [9_000 + n for n in range(reply)]
    taken.busy = False
    return step


def test_the_first_prompt_finds_nothing() -> None:
    """An empty cache gives an empty sequence."""
    assert KvSlots(4).plan("", [1, 2, 3]) == SlotPlan(slot=0)


def test_a_longer_prompt_goes_on_where_it_is() -> None:
    """A prompt that only grew stays in its sequence and computes only what is new."""
    slots = KvSlots(4)
    first = follow(slots, [*HEAD, 1, 2, 3])
    again = follow(slots, [*HEAD, 1, 2, 3, 4, 5])
    assert again == SlotPlan(slot=first.slot, keep=303)


def test_the_last_token_is_always_computed() -> None:
    """The same prompt again leaves one token to compute, for its logits."""
    slots = KvSlots(4)
    follow(slots, HEAD)
    assert follow(slots, HEAD).keep == len(HEAD) - 1


@pytest.mark.parametrize("prompt", [[1], [1, 2]])
def test_a_short_prompt_is_no_special_case(prompt: list[int]) -> None:
    """Even one token is computed, never taken from the cache alone."""
    slots = KvSlots(2)
    follow(slots, [1, 2, 3])
    step = slots.plan("", prompt)
    assert step is not None
    assert step.keep == len(prompt) - 1


def test_what_the_reply_said_is_not_read_again() -> None:
    """A prompt that repeats the reply, as the next turn's does, keeps it."""
    slots = KvSlots(2)
    follow(slots, HEAD, "a", reply=10)
    grown = [*HEAD, *(9_000 + n for n in range(10)), 5, 6]
    assert follow(slots, grown, "a") == SlotPlan(slot=0, keep=len(HEAD) + 10)


def test_another_interview_gets_a_copy_of_the_common_beginning() -> None:
    """Two interviews that begin alike do not throw each other out."""
    slots = KvSlots(4)
    one, other = [*HEAD, *range(200)], [*HEAD, *range(500, 700)]
    assert follow(slots, one, "a").slot == 0
    assert follow(slots, other, "b") == SlotPlan(slot=1, copy_from=0, keep=len(HEAD))
    assert follow(slots, [*one, 7], "a") == SlotPlan(slot=0, keep=len(one))
    assert follow(slots, [*other, 7], "b") == SlotPlan(slot=1, keep=len(other))


def test_a_conversation_stays_in_its_sequence_whatever_it_asks() -> None:
    """A hint and a summary begin alike and end otherwise: the end is replaced in place."""
    slots = KvSlots(4)
    follow(slots, [*HEAD, *range(200)], "a")
    assert follow(slots, [*HEAD, *range(500, 900)], "a") == SlotPlan(slot=0, keep=len(HEAD))
    assert follow(slots, [7, 8, 9], "a") == SlotPlan(slot=0)


def test_a_second_prompt_of_a_busy_conversation_is_a_guest_elsewhere() -> None:
    """It takes a copy of what there is, and the conversation's place stays where it was."""
    slots = KvSlots(3)
    begin(slots, HEAD, "a")
    slots[0].tokens = list(HEAD)
    assert begin(slots, [*HEAD, 1, 2], "a") == SlotPlan(slot=1, copy_from=0, keep=len(HEAD))
    own = slots.find("a")
    assert own is not None
    assert own.id == 0


def test_a_nameless_reply_that_is_redone_is_replaced_in_place() -> None:
    """A tail that is cheap to compute again takes no second sequence."""
    slots = KvSlots(4)
    follow(slots, HEAD, reply=RECOMPUTE_LIMIT)
    assert follow(slots, [*HEAD, 1, 2, 3]) == SlotPlan(slot=0, keep=len(HEAD))


def test_nobody_works_in_a_busy_sequence() -> None:
    """With every sequence busy there is no plan, and a copy is made of one that is."""
    slots = KvSlots(2)
    begin(slots, HEAD, "a")
    begin(slots, [1, 2, 3], "b")
    assert slots.plan("c", [1, 2, 3]) is None
    slots[1].busy = False
    assert begin(slots, [1, 2, 4], "c") == SlotPlan(slot=1, evict=True)


def test_the_longest_unused_conversation_makes_way_for_a_new_one() -> None:
    """With every sequence taken, the oldest goes, and is said to be evicted."""
    slots = KvSlots(3)
    prompts = {name: [ord(name) * 100 + k for k in range(90)] for name in "abcd"}
    for name in "abc":
        follow(slots, prompts[name], name)
    follow(slots, [*prompts["a"], 5], "a")
    assert follow(slots, prompts["d"], "d") == SlotPlan(slot=1, evict=True)
    assert slots.find("b") is None


def test_a_nameless_prompt_makes_way_before_a_conversation() -> None:
    """Nobody comes back for it by name, so nothing is parked."""
    slots = KvSlots(2)
    follow(slots, [1, 2, 3], "a")
    follow(slots, [4, 5, 6])
    follow(slots, [7, 8, 9], "b")
    assert slots.find("a") is not None
    assert slots.find("b") is not None


def test_a_parked_conversation_is_brought_back() -> None:
    """When the disk has more of it than any sequence does, and only then."""
    slots = KvSlots(2)
    follow(slots, [*HEAD, 1], "a")
    longer = [*HEAD, *range(100)]
    assert slots.plan("b", longer, stored=350) == SlotPlan(slot=1, restore=True, keep=350)
    assert slots.plan("b", longer, stored=200) == SlotPlan(slot=1, copy_from=0, keep=300)
    assert slots.plan("b", longer, stored=400) == SlotPlan(slot=1, restore=True, keep=399)


def test_nothing_is_found_after_the_cache_was_emptied() -> None:
    """After an error the cache is not trusted, and nobody works in it."""
    slots = KvSlots(2)
    begin(slots, HEAD, "a")
    slots.reset()
    assert slots.idle_count == 2
    assert follow(slots, HEAD, "a").keep == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 5, 3], 1), ([2], [1], 0)],
)
def test_the_common_beginning(one: list[int], other: list[int], expected: int) -> None:
    """Of two slots, in either order."""
    assert shared_prefix_length(one, other) == shared_prefix_length(other, one) == expected
