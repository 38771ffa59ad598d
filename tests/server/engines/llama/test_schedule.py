"""Many prompts share one model, and who waits longest goes first."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from prepserver.engines.llama.schedule import (
    PATIENCE,
    SMALLEST,
    SMOOTH,
    PrefillChunk,
    TokenBudget,
    in_turn,
    plan_batches,
)
from prepserver.engines.types import Priority

BATCH = 256


@dataclass
class Prompted:
    """A prompt or reply at some point of its way."""

    prompt: Sequence[int] = field(default_factory=lambda: list(range(100)))
    done: int = 0
    upcoming: int | None = None
    priority: Priority = Priority.ANSWER
    arrived: float = 0.0


def test_every_reply_gets_a_token_in_each_step() -> None:
    """However many are written, and however much there is to read."""
    jobs = [Prompted(done=100, upcoming=n) for n in range(8)]
    jobs.append(Prompted(prompt=list(range(4_000))))
    writing, reading = plan_batches(jobs, TokenBudget(BATCH))
    assert writing == [PrefillChunk(n, (n,), True) for n in range(8)]
    assert [piece.job for piece in reading] == [8]


def test_a_long_prompt_is_read_in_parts_that_do_not_stall_a_stream() -> None:
    """Beside a reply a part is what can be read in the time a reader does not notice."""
    pace = TokenBudget(BATCH)
    for _ in range(50):
        pace.measured(100, 0.5)
    reading = Prompted(prompt=list(range(4_000)))
    ((alone,),) = plan_batches([reading], pace)
    _, (beside,) = plan_batches([reading, Prompted(done=100, upcoming=7)], pace)
    assert len(alone.tokens) > len(beside.tokens)
    assert abs(len(beside.tokens) - SMOOTH / 0.005) <= 1


def test_the_parts_of_a_prompt_are_the_prompt() -> None:
    """Read to its end, nothing is left out or read twice; the last token goes alone and no
    other does, whatever the length and the pace."""
    for length in range(4, 300):
        job = Prompted(prompt=list(range(length)))
        pace = TokenBudget(BATCH)
        pace.measured(100, 0.1 + length % 7)
        read: list[int] = []
        while job.done < length:
            ((piece,),) = plan_batches([job], pace)
            assert len(piece.tokens) <= BATCH
            assert piece.last == (job.done == length - 1) == (len(piece.tokens) == 1)
            read += piece.tokens
            job.done += len(piece.tokens)
        assert read == list(job.prompt)


def test_a_slow_machine_still_reads() -> None:
    """A step never reads less than some tokens, and never more than a batch holds."""
    slow, fast = TokenBudget(BATCH), TokenBudget(BATCH)
    for _ in range(50):
        slow.measured(16, 60.0)
        fast.measured(256, 0.001)
    assert slow.budget(streaming=True) == SMALLEST
    assert fast.budget(streaming=True) == BATCH - 1


def test_a_step_that_read_next_to_nothing_says_nothing_about_reading() -> None:
    """The time of a step that only wrote does not count as the time of reading."""
    pace = TokenBudget(BATCH)
    before = pace.budget(streaming=False)
    pace.measured(0, 100.0)
    pace.measured(1, 100.0)
    assert pace.budget(streaming=False) == before


def test_who_waits_longest_is_read_first() -> None:
    """One prompt after the other: half of two prompts is of use to nobody."""
    short = list(range(31))
    jobs = [Prompted(short, arrived=arrived) for arrived in (3.0, 1.0, 2.0)]
    pace = TokenBudget(41)
    assert plan_batches(jobs, pace) == [
        [PrefillChunk(1, short[:30], False)],
        [PrefillChunk(2, short[:10], False)],
    ]


def test_a_live_answer_goes_before_a_review_before_reading_ahead() -> None:
    """Also when it comes last."""
    ahead = Prompted(priority=Priority.PREFILL, arrived=0.0)
    review = Prompted(priority=Priority.REVIEW, arrived=1.0)
    answer = Prompted(priority=Priority.ANSWER, arrived=2.0)
    assert in_turn([ahead, review, answer]) == [answer, review, ahead]


def test_nothing_waits_for_ever() -> None:
    """A review that has waited long goes before an answer that has just come."""
    review = Prompted(priority=Priority.REVIEW, arrived=0.0)
    answer = Prompted(arrived=PATIENCE[Priority.REVIEW] + 1.0)
    assert in_turn([answer, review]) == [review, answer]
