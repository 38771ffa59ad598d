"""What the gateway records of each call, and what it counts against budgets."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import ChatTurn, Prompt, TextDelta
from prepserver.errors import BadRequest, InferenceError, RateLimited
from prepserver.gateway.gateway import Call, Gateway, Policy
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.calls import CallRecord
from prepserver.telemetry.metrics import Metrics
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Quota
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguage, Reply, finished, words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
PROMPT = Prompt(turns=(ChatTurn("user", "I moved the ledger."),), opening="Why")


class Purse:
    """Counts requests and costs in memory, so that no thread is waited for."""

    def __init__(self, *, requests: int = 100) -> None:
        self.requests = requests
        self.charged: set[str] = set()
        self.empty = False
        self.bills: list[tuple[str, int, float]] = []

    async def charge(self, user: str, request: str) -> Quota:
        if request not in self.charged and len(self.charged) >= self.requests:
            raise RateLimited("All used.", details={"reset": 1.0})
        self.charged.add(request)
        return await self.quota(user)

    async def quota(self, user: str) -> Quota:
        return Quota(limit=self.requests, remaining=self.requests - len(self.charged))

    async def check(self, user: str) -> None:
        if self.empty:
            raise RateLimited("All spent.", code=ErrorCode.BUDGET_SPENT)

    async def spend(self, user: str, *, tokens: int = 0, seconds: float = 0.0) -> None:
        self.bills.append((user, tokens, seconds))


class Office:
    """A gateway, its purse, and the records of its calls."""

    def __init__(self, replies: Sequence[Reply], *, pause: float = 1.0, **options: Any) -> None:
        self.clock = ManualClock()
        self.purse = Purse(requests=options.pop("requests", 100))
        self.records: list[CallRecord] = []
        self.model = CuedLanguage(self.clock, replies, pause=pause)
        fallback = [CuedLanguage(self.clock, r, pause=pause) for r in options.pop("fallback", [])]
        self.gateway = Gateway(
            self.model,
            ScriptedSpeechModel(self.clock, delay=pause),
            self.purse,
            self.clock,
            Policy(**options.pop("policy", {})),
            fallback=fallback,
            spending=self.purse,
            observers=[self.records.append],
            **options,
        )
        self.gateway.start()

    async def say(self, request: str = "r1", purpose: str = "question", **fields: Any) -> str:
        call = Call(purpose=purpose, user="u", interview="i", request=request, **fields)
        async with aclosing(self.gateway.generate(call, PROMPT)) as events:
            return "".join([e.text async for e in events if isinstance(e, TextDelta)])

    async def said(self, request: str = "r1", purpose: str = "question", **fields: Any) -> str:
        text: str = await finished(self.say(request, purpose, **fields), self.clock)
        return text


@asynchronous
async def test_a_good_call() -> None:
    """Who asked, which model, how long: and what it cost."""
    office = Office([words("Three words long.")])
    await office.said(metadata={"question": "2"})
    (record,) = office.records
    assert record == CallRecord(
        at=record.at,
        kind="generate",
        purpose="question",
        user="u",
        interview="i",
        request="r1",
        metadata={"question": "2"},
        model="cued",
        completion_tokens=3,
        first=1.0,
        duration=3.0,
        compute=3.0,
    )
    assert office.purse.bills == [("u", 3, 0.0)]
    await office.gateway.close()


@asynchronous
async def test_retries_and_the_model_that_stepped_in_are_recorded() -> None:
    """With the time that they took before the first word."""
    office = Office([[DIED]], fallback=[[words("Mine.")]], policy={})
    await office.said()
    (record,) = office.records
    assert (record.step, record.retries, record.outcome) == (1, 3, "ok")
    assert record.first == record.duration == 4 * 1.0 + 0.2 + 0.4 + 0.8 + 1.0
    await office.gateway.close()


@pytest.mark.parametrize(
    ("failure", "outcome"), [(DIED, "worker_died"), (ZeroDivisionError("a bug"), "internal")]
)
@asynchronous
async def test_a_failed_call_says_how_and_costs_nothing(failure: Exception, outcome: str) -> None:
    """An engine's death is not the user's doing; a bug has a name too."""
    office = Office([["Half", failure]])
    with pytest.raises(type(failure)):
        await office.said()
    assert [record.outcome for record in office.records] == [outcome]
    assert office.purse.bills == []
    await office.gateway.close()


@asynchronous
async def test_a_call_that_was_given_up_is_paid_for() -> None:
    """As far as it came: stopping just before the end is no way around a budget."""
    office = Office([words("One two three four five.")])
    task = asyncio.create_task(office.say())
    await office.clock.advance(0)
    await office.clock.advance(2.5)
    task.cancel()
    await asyncio.wait({task})
    assert [record.outcome for record in office.records] == ["cancelled"]
    assert office.records[0].compute == 2.5
    assert office.purse.bills == [("u", 2, 2.5)]
    assert office.model.closed_early == 1
    await office.gateway.close()


@asynchronous
async def test_waiting_is_recorded_and_not_paid_for() -> None:
    """The second of two at a model that takes one at a time."""
    office = Office([words("One two."), words("Three four.")])
    call = Call(purpose="question", user="u", interview="i", request="r2")

    async def other() -> None:
        async with aclosing(office.gateway.generate(call, Prompt(text="Another"))) as events:
            async for _ in events:
                pass

    first, second = asyncio.create_task(office.say()), asyncio.create_task(other())
    await office.clock.advance(0)
    await office.clock.advance(4)
    await asyncio.gather(first, second)
    assert [(r.request, r.queued, r.first, r.compute) for r in office.records] == [
        ("r1", 0.0, 1.0, 2.0),
        ("r2", 2.0, 3.0, 2.0),
    ]
    await office.gateway.close()


@asynchronous
async def test_a_refused_request_reaches_no_model_and_is_recorded() -> None:
    """Over the limit of requests, and over a budget; the latter does not use up a request."""
    office = Office([words("Fine.")], requests=1)
    await office.said("r1")
    with pytest.raises(RateLimited):
        await office.said("r2")
    office.purse.empty = True
    with pytest.raises(RateLimited) as told:
        await office.said("r1")
    assert told.value.code == ErrorCode.BUDGET_SPENT
    assert [record.outcome for record in office.records] == ["ok", "rate_limited", "budget_spent"]
    assert len(office.model.prompts) == 1
    await office.gateway.close()


@asynchronous
async def test_a_purpose_that_is_kept_is_computed_once() -> None:
    """Each request is charged; the reply is computed, and paid for, by the first alone."""
    office = Office([words("Kept words.")], policy={"cache_purposes": frozenset({"hint"})})
    assert await office.said("r1", "hint") == "Kept words."
    assert await office.said("r2", "hint") == "Kept words."
    assert await office.said("r3", "question") == "Kept words."
    assert len(office.model.prompts) == 2
    assert [(r.shared, r.completion_tokens, r.model) for r in office.records] == [
        ("", 2, "cued"),
        ("cache", 0, "cued"),
        ("", 2, "cued"),
    ]
    assert office.purse.charged == {"r1", "r2", "r3"}
    assert len(office.purse.bills) == 2
    await office.gateway.close()


@asynchronous
async def test_equal_calls_at_once_are_one_computation() -> None:
    """Ten callers, one prompt, one bill; nine records say that they shared it."""
    office = Office([words("Once for all.")])
    callers = [asyncio.create_task(office.say(f"r{number}")) for number in range(10)]
    await office.clock.advance(0)
    await office.clock.advance(3)
    assert await asyncio.gather(*callers) == ["Once for all."] * 10
    assert len(office.model.prompts) == 1
    assert len(office.purse.bills) == 1
    assert sorted(record.shared for record in office.records) == ["", *["flight"] * 9]
    assert sum(record.completion_tokens for record in office.records) == 3
    await office.gateway.close()


@asynchronous
async def test_a_transcript_is_recorded_and_paid_for_by_time() -> None:
    """Of the engine; a recording that is listened to, by its own length."""
    office = Office([words("Fine.")])
    call = Call(purpose="transcribe", user="u", interview="i", request="r1")
    pcm = bytes(64_000)
    await finished(office.gateway.transcribe(call, pcm), office.clock)

    async def source() -> Any:
        for _ in range(2):
            await office.clock.sleep(1)
            yield pcm[:32_000]

    async def listen() -> None:
        async for _ in office.gateway.transcribe_live(call, source):
            pass

    await finished(listen(), office.clock)
    assert [(r.kind, r.audio, r.compute, r.lag, r.model) for r in office.records] == [
        ("transcribe", 2.0, 1.0, None, "scripted"),
        ("listen", 2.0, 2.0, 1.0, "scripted"),
    ]
    assert office.purse.bills == [("u", 0, 1.0), ("u", 0, 2.0)]
    await office.gateway.close()


@pytest.mark.parametrize("keep", [False, True])
@asynchronous
async def test_text_is_logged_only_when_asked(tmp_path: Path, keep: bool) -> None:
    """By default there is not a word of it on disk."""
    clock = ManualClock()
    calls = CallLog(tmp_path / "calls.sqlite", clock, keep_text=keep)
    office = Office([words("A secret reply.")], calls=calls)
    await office.said()
    await calls.flush()
    on_disk = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("calls.sqlite*")))  # noqa: ASYNC240
    for text in (b"I moved the ledger.", b"A secret reply."):
        assert (text in on_disk) == keep
    assert [record.prompt is not None for record in office.records] == [keep]
    await office.gateway.discard("i")
    await office.gateway.close()
    await calls.close()
    on_disk = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("calls.sqlite*")))  # noqa: ASYNC240
    assert b"ledger" not in on_disk


@pytest.mark.parametrize(
    "metadata", [{str(n): "" for n in range(6)}, {"k" * 201: ""}, {"k": "v" * 201}]
)
def test_more_metadata_than_a_log_should_hold_is_refused(metadata: dict[str, str]) -> None:
    """Five pairs of two hundred characters are enough."""
    with pytest.raises(BadRequest):
        Call(purpose="question", user="u", interview="i", request="r", metadata=metadata)
    longest = {f"{n}" * 200: "v" * 200 for n in range(5)}
    Call(purpose="question", user="u", interview="i", request="r", metadata=longest)


@asynchronous
async def test_the_metrics_say_what_the_records_do() -> None:
    """Counted by purpose and outcome; nobody is named."""
    office = Office([words("Fine."), [DIED]])
    metrics = Metrics()
    await office.said()
    with suppress(InferenceError):
        await office.said("r2", "hint")
    for record in office.records:
        metrics.observe(record)
    engines = await finished(office.gateway.engines(), office.clock)
    text = metrics.page(office.gateway.loads(), engines, [("prep_x", "An x.", 3)]).decode()
    labels = 'kind="generate",model="cued"'
    assert f'prep_calls_total{{{labels},outcome="ok",purpose="question"}} 1.0' in text
    assert f'prep_calls_total{{{labels},outcome="worker_died",purpose="hint"}} 1.0' in text
    assert 'prep_tokens_total{model="cued",what="completion"} 1.0' in text
    assert 'prep_retries_total{model="cued"} 3.0' in text
    assert 'prep_first_token_seconds_bucket{le="1.0",purpose="question"} 1.0' in text
    assert 'prep_model_queue{job="interviewer",model="cued"} 0.0' in text
    assert 'prep_engine_batches_total{model="cued"} 0.0' in text
    assert 'prep_ears_waiting{model="scripted"} 0.0' in text
    assert "prep_x 3.0" in text
    assert metrics.page([], [], []).decode().count("prep_model_queue{") == 0
    await office.gateway.close()
