"""Scheduling of prompts and replies into batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from prepserver.engines.llama.schedule import (
    IDLE_STEP,
    MIN_IDLE_PREFILL_TOKENS,
    MIN_PREFILL_TOKENS,
    PRIORITY_AGING,
    STREAMING_STEP,
    TokenBudget,
    TokenChunk,
    plan_batches,
    scheduling_order,
)
from prepserver.engines.types import Priority

BATCH_TOKENS = 256


@dataclass
class FakeJob:
    """Job with a given progress in its prefill or reply."""

    prompt_tokens: Sequence[int] = field(default_factory=lambda: list(range(100)))
    computed: int = 0
    next_token: int | None = None
    priority: Priority = Priority.ANSWER
    arrived_at: float = 0.0


def test_every_reply_gets_a_token_in_each_step() -> None:
    """In each step, all replies share one batch with one token each, even if a long prompt is
    waiting."""
    jobs = [FakeJob(computed=100, next_token=n) for n in range(8)]
    jobs.append(FakeJob(prompt_tokens=list(range(4_000))))
    replies, prefill = plan_batches(jobs, TokenBudget(BATCH_TOKENS))
    assert replies == [TokenChunk(n, (n,), True) for n in range(8)]
    assert [chunk.job for chunk in prefill] == [8]


def test_a_prefill_beside_a_reply_fits_the_streaming_step() -> None:
    """While a reply is streaming, a chunk of a long prompt has as many tokens as can be computed in
    STREAMING_STEP seconds at the measured speed."""
    budget = TokenBudget(BATCH_TOKENS)
    for _ in range(50):
        budget.record_prefill(100, 0.5)
    prompt = FakeJob(prompt_tokens=list(range(4_000)))
    ((alone,),) = plan_batches([prompt], budget)
    _, (beside,) = plan_batches([prompt, FakeJob(computed=100, next_token=7)], budget)
    assert len(alone.tokens) > len(beside.tokens)
    assert abs(len(beside.tokens) - STREAMING_STEP / 0.005) <= 1


def test_the_chunks_of_a_prompt_add_up_to_the_prompt() -> None:
    """Whatever the prompt's length and the measured speed, each token is computed once, and only
    the last token is computed in a chunk of its own."""
    for length in range(4, 300):
        job = FakeJob(prompt_tokens=list(range(length)))
        budget = TokenBudget(BATCH_TOKENS)
        budget.record_prefill(100, 0.1 + length % 7)
        computed: list[int] = []
        while job.computed < length:
            ((chunk,),) = plan_batches([job], budget)
            assert len(chunk.tokens) <= BATCH_TOKENS
            is_last_token = job.computed == length - 1
            assert chunk.wants_logits == is_last_token == (len(chunk.tokens) == 1)
            computed += chunk.tokens
            job.computed += len(chunk.tokens)
        assert computed == list(job.prompt_tokens)


def test_the_budget_is_bounded() -> None:
    """The budget of a step is at least MIN_PREFILL_TOKENS prompt tokens while a reply is streaming,
    more otherwise, and at most one token fewer than a batch holds."""
    slow, fast = TokenBudget(BATCH_TOKENS), TokenBudget(BATCH_TOKENS)
    for _ in range(50):
        slow.record_prefill(16, 60.0)
        fast.record_prefill(256, 0.001)
    assert slow.prefill_tokens(streaming=True) == MIN_PREFILL_TOKENS
    assert slow.prefill_tokens(streaming=False) == MIN_IDLE_PREFILL_TOKENS
    assert fast.prefill_tokens(streaming=True) == BATCH_TOKENS - 1


def test_very_small_prefills_do_not_count_as_measurements() -> None:
    """The time of a batch with at most one prompt token does not change the budget."""
    budget = TokenBudget(BATCH_TOKENS)
    before = budget.prefill_tokens(streaming=False)
    budget.record_prefill(0, 100.0)
    budget.record_prefill(1, 100.0)
    assert budget.prefill_tokens(streaming=False) == before


def test_prompts_are_computed_in_order_of_arrival() -> None:
    """The oldest prompt gets the budget first, and the next prompt gets only what is left."""
    short = list(range(31))
    jobs = [FakeJob(short, arrived_at=arrived_at) for arrived_at in (3.0, 1.0, 2.0)]
    budget = TokenBudget(41)
    assert plan_batches(jobs, budget) == [
        [TokenChunk(1, short[:30], False)],
        [TokenChunk(2, short[:10], False)],
    ]


def test_answers_precede_reviews_and_reviews_precede_prefills() -> None:
    """Among prompts that arrive at about the same time, answers precede reviews, which precede
    prefills."""
    prefill = FakeJob(priority=Priority.PREFILL, arrived_at=0.0)
    review = FakeJob(priority=Priority.REVIEW, arrived_at=1.0)
    answer = FakeJob(priority=Priority.ANSWER, arrived_at=2.0)
    assert scheduling_order([prefill, review, answer]) == [answer, review, prefill]


def test_priority_aging_prevents_starvation() -> None:
    """A review that has waited longer than the aging time for reviews precedes a new answer."""
    review = FakeJob(priority=Priority.REVIEW, arrived_at=0.0)
    answer = FakeJob(arrived_at=PRIORITY_AGING[Priority.REVIEW] + 1.0)
    assert scheduling_order([answer, review]) == [review, answer]


def slow_budget() -> TokenBudget:
    """Return the budget of a model that prefills 35 tokens a second."""
    budget = TokenBudget(BATCH_TOKENS)
    budget.record_prefill(350, 10.0)
    return budget


def test_the_first_measurement_replaces_the_estimate() -> None:
    """After one measurement, the budget is that of the measured speed."""
    assert slow_budget().affordable_tokens(streaming=False) == int(IDLE_STEP * 35)


@pytest.mark.parametrize("priority", [Priority.REVIEW, Priority.PREFILL])
@pytest.mark.parametrize("streaming", [True, False])
def test_on_a_slow_model_less_urgent_prompts_wait_for_answers(
    priority: Priority, streaming: bool
) -> None:
    """While an answer is prefilled or streams on a slow model, reviews and prefills wait; alone,
    they continue."""
    waiting = FakeJob(prompt_tokens=list(range(1_500)), priority=priority)
    answer = FakeJob(computed=100, next_token=7) if streaming else FakeJob(computed=96)
    ((chunk,),) = plan_batches([waiting, answer], slow_budget())
    assert chunk.job == 1
    ((chunk,),) = plan_batches([waiting], slow_budget())
    assert len(chunk.tokens) == MIN_IDLE_PREFILL_TOKENS


def test_on_a_slow_model_an_answer_does_not_wait_for_another() -> None:
    """While an answer streams on a slow model, another answer's prompt gets the smallest chunk."""
    jobs = [FakeJob(computed=100, next_token=7), FakeJob(list(range(500)), arrived_at=9.0)]
    _, (chunk,) = plan_batches(jobs, slow_budget())
    assert (chunk.job, len(chunk.tokens)) == (1, MIN_PREFILL_TOKENS)


@pytest.mark.parametrize("priority", [Priority.REVIEW, Priority.PREFILL])
def test_on_a_slow_model_nothing_starves(priority: Priority) -> None:
    """A review or a prefill that has waited for its aging time continues beside new answers."""
    waiting = FakeJob(prompt_tokens=list(range(1_500)), priority=priority)
    answer = FakeJob(computed=100, next_token=7, arrived_at=PRIORITY_AGING[priority] + 1.0)
    _, (chunk,) = plan_batches([waiting, answer], slow_budget())
    assert chunk.job == 0


def test_on_a_fast_model_prefills_continue_beside_replies() -> None:
    """On a model that prefills 1,000 tokens a second, a prefill uses the time that a streaming
    reply leaves."""
    budget = TokenBudget(BATCH_TOKENS)
    budget.record_prefill(1_000, 1.0)
    prefill = FakeJob(prompt_tokens=list(range(1_500)), priority=Priority.PREFILL)
    _, (chunk,) = plan_batches([prefill, FakeJob(computed=100, next_token=7)], budget)
    assert (chunk.job, len(chunk.tokens)) == (0, 100)
