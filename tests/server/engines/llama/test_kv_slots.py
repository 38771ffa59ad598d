"""Assignment of prompts to KV slots and reuse of cached prefixes."""

import pytest

from prepserver.engines.llama.kv_slots import (
    RECOMPUTE_LIMIT,
    KvSlots,
    SlotPlan,
    shared_prefix_length,
)

HEAD = list(range(1_000, 1_300))
"""Tokens at the beginning of prompts that share a prefix."""


def start_prompt(
    slots: KvSlots, prompt: list[int], conversation: str = "", stored: int = 0
) -> SlotPlan:
    """Plan a prompt and assign the prompt to a slot, which is busy afterwards. Return the plan."""
    plan = slots.plan(conversation, prompt, stored)
    assert plan is not None
    if plan.copy_from is not None:
        assert slots[plan.copy_from].tokens[: plan.keep] == prompt[: plan.keep]
    elif not plan.restore:
        assert slots[plan.slot].tokens[: plan.keep] == prompt[: plan.keep]
    slots.assign(plan, conversation, prompt[: plan.keep])
    return plan


def run_prompt(
    slots: KvSlots,
    prompt: list[int],
    conversation: str = "",
    stored: int = 0,
    reply: int = 10,
) -> SlotPlan:
    """Start a prompt, fill its slot with the prompt and `reply` more tokens, and release the slot.
    Return the plan."""
    plan = start_prompt(slots, prompt, conversation, stored)
    slot = slots[plan.slot]
    slot.tokens = prompt + [9_000 + n for n in range(reply)]
    slot.busy = False
    return plan


def test_the_first_prompt_gets_an_empty_slot() -> None:
    """The first prompt gets an empty slot, and nothing is copied, kept or evicted."""
    assert KvSlots(4).plan("", [1, 2, 3]) == SlotPlan(slot=0)


def test_a_longer_prompt_reuses_its_slot() -> None:
    """A prompt that extends the previous prompt keeps the slot and reuses the whole previous
    prompt."""
    slots = KvSlots(4)
    first = run_prompt(slots, [*HEAD, 1, 2, 3])
    again = run_prompt(slots, [*HEAD, 1, 2, 3, 4, 5])
    assert again == SlotPlan(slot=first.slot, keep=303)


def test_the_last_token_is_always_recomputed() -> None:
    """A repeated prompt keeps all cached tokens except the last, whose logits are needed."""
    slots = KvSlots(4)
    run_prompt(slots, HEAD)
    assert run_prompt(slots, HEAD).keep == len(HEAD) - 1


@pytest.mark.parametrize("prompt", [[1], [1, 2]])
def test_the_last_token_of_a_short_prompt_is_recomputed(prompt: list[int]) -> None:
    """Even in a prompt of one token, the last token is computed rather than taken from the
    cache."""
    slots = KvSlots(2)
    run_prompt(slots, [1, 2, 3])
    plan = slots.plan("", prompt)
    assert plan is not None
    assert plan.keep == len(prompt) - 1


def test_a_prompt_that_repeats_the_reply_reuses_it() -> None:
    """A prompt that contains the last reply reuses the cached tokens of that reply."""
    slots = KvSlots(2)
    run_prompt(slots, HEAD, "a", reply=10)
    grown = [*HEAD, *(9_000 + n for n in range(10)), 5, 6]
    assert run_prompt(slots, grown, "a") == SlotPlan(slot=0, keep=len(HEAD) + 10)


def test_another_interview_copies_the_shared_prefix() -> None:
    """The second of two interviews with the same beginning copies the shared prefix, and each
    interview keeps its own slot."""
    slots = KvSlots(4)
    one, other = [*HEAD, *range(200)], [*HEAD, *range(500, 700)]
    assert run_prompt(slots, one, "a").slot == 0
    assert run_prompt(slots, other, "b") == SlotPlan(slot=1, copy_from=0, keep=len(HEAD))
    assert run_prompt(slots, [*one, 7], "a") == SlotPlan(slot=0, keep=len(one))
    assert run_prompt(slots, [*other, 7], "b") == SlotPlan(slot=1, keep=len(other))


def test_a_conversation_keeps_its_slot_for_every_prompt() -> None:
    """A conversation keeps its slot even for a prompt that shares only a prefix, or nothing, with
    the last prompt."""
    slots = KvSlots(4)
    run_prompt(slots, [*HEAD, *range(200)], "a")
    assert run_prompt(slots, [*HEAD, *range(500, 900)], "a") == SlotPlan(slot=0, keep=len(HEAD))
    assert run_prompt(slots, [7, 8, 9], "a") == SlotPlan(slot=0)


def test_a_second_prompt_of_a_busy_conversation_uses_another_slot() -> None:
    """A second prompt of a busy conversation copies the shared prefix to another slot, and the
    conversation still owns its first slot."""
    slots = KvSlots(3)
    start_prompt(slots, HEAD, "a")
    slots[0].tokens = list(HEAD)
    plan = start_prompt(slots, [*HEAD, 1, 2], "a")
    assert plan == SlotPlan(slot=1, copy_from=0, keep=len(HEAD))
    own = slots.find("a")
    assert own is not None
    assert own.id == 0


def test_a_retried_prompt_without_a_conversation_reuses_its_slot() -> None:
    """A prompt without a conversation reuses the slot with the longest shared prefix if at most
    RECOMPUTE_LIMIT tokens are dropped."""
    slots = KvSlots(4)
    run_prompt(slots, HEAD, reply=RECOMPUTE_LIMIT)
    assert run_prompt(slots, [*HEAD, 1, 2, 3]) == SlotPlan(slot=0, keep=len(HEAD))


def test_a_busy_slot_is_never_chosen() -> None:
    """While every slot is busy, a prompt gets no plan; once a slot is idle, the prompt evicts the
    slot's conversation."""
    slots = KvSlots(2)
    start_prompt(slots, HEAD, "a")
    start_prompt(slots, [1, 2, 3], "b")
    assert slots.plan("c", [1, 2, 3]) is None
    slots[1].busy = False
    assert start_prompt(slots, [1, 2, 4], "c") == SlotPlan(slot=1, evict=True)


def test_the_least_recently_used_conversation_is_evicted() -> None:
    """If every slot is occupied, a new conversation evicts the least recently used conversation."""
    slots = KvSlots(3)
    prompts = {name: [ord(name) * 100 + k for k in range(90)] for name in "abcd"}
    for name in "abc":
        run_prompt(slots, prompts[name], name)
    run_prompt(slots, [*prompts["a"], 5], "a")
    assert run_prompt(slots, prompts["d"], "d") == SlotPlan(slot=1, evict=True)
    assert slots.find("b") is None


def test_a_slot_without_an_owner_is_taken_before_a_conversation_is_evicted() -> None:
    """The slot of a prompt without a conversation is reused before any conversation is evicted."""
    slots = KvSlots(2)
    run_prompt(slots, [1, 2, 3], "a")
    run_prompt(slots, [4, 5, 6])
    run_prompt(slots, [7, 8, 9], "b")
    assert slots.find("a") is not None
    assert slots.find("b") is not None


def test_an_offloaded_conversation_is_restored_if_it_saves_the_most() -> None:
    """A conversation is restored from disk only if its stored state covers more of the prompt than
    any slot does."""
    slots = KvSlots(2)
    run_prompt(slots, [*HEAD, 1], "a")
    longer = [*HEAD, *range(100)]
    assert slots.plan("b", longer, stored=350) == SlotPlan(slot=1, restore=True, keep=350)
    assert slots.plan("b", longer, stored=200) == SlotPlan(slot=1, copy_from=0, keep=300)
    assert slots.plan("b", longer, stored=400) == SlotPlan(slot=1, restore=True, keep=399)


def test_a_reset_empties_and_frees_every_slot() -> None:
    """After a reset, no slot is busy and no token is reused."""
    slots = KvSlots(2)
    start_prompt(slots, HEAD, "a")
    slots.reset()
    assert slots.idle_count == 2
    assert run_prompt(slots, HEAD, "a").keep == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 5, 3], 1), ([2], [1], 0)],
)
def test_the_length_of_a_shared_prefix(one: list[int], other: list[int], expected: int) -> None:
    """The shared prefix of two token sequences ends at their first difference or at the end of the
    shorter sequence, in either order of the arguments."""
    assert shared_prefix_length(one, other) == shared_prefix_length(other, one) == expected
