"""Records of the gateway's calls, deductions from budgets, and metrics computed from the
records."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import ChatTurn, Prompt, TextDelta
from prepserver.errors import BadRequest, InferenceError, RateLimited
from prepserver.gateway.gateway import Call, Gateway, GatewayPolicy
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.calls import CallRecord
from prepserver.telemetry.metrics import Metrics
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Quota
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, Reply, advance_until_done, one_set, split_words

DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
PROMPT = Prompt(turns=(ChatTurn("user", "I moved the ledger."),), opening="Why")


class MemoryAccounts:
    """Request limit and budget in memory, so that no test waits for a thread."""

    def __init__(self, *, requests: int = 100) -> None:
        self.requests = requests
        self.charged: set[str] = set()
        self.budget_spent = False
        self.usage: list[tuple[str, int, float]] = []
        """User, tokens and seconds of every deduction from the budget."""

    async def charge(self, user: str, request: str) -> Quota:
        if request not in self.charged and len(self.charged) >= self.requests:
            raise RateLimited("All used.", details={"reset": 1.0})
        self.charged.add(request)
        return await self.quota(user)

    async def quota(self, user: str) -> Quota:
        return Quota(limit=self.requests, remaining=self.requests - len(self.charged))

    async def check(self, user: str) -> None:
        if self.budget_spent:
            raise RateLimited("All spent.", code=ErrorCode.BUDGET_SPENT)

    async def spend(self, user: str, *, tokens: int = 0, seconds: float = 0.0) -> None:
        self.usage.append((user, tokens, seconds))


class GatewayHarness:
    """Gateway with accounts in memory, and the records of its calls."""

    def __init__(self, replies: Sequence[Reply], *, pause: float = 1.0, **options: Any) -> None:
        """Create the gateway with models that wait `pause` virtual seconds before each word or
        transcription."""
        self.clock = ManualClock()
        self.accounts = MemoryAccounts(requests=options.pop("requests", 100))
        self.records: list[CallRecord] = []
        self.model = CuedLanguageModel(self.clock, replies, pause=pause)
        fallback = [
            CuedLanguageModel(self.clock, cues, pause=pause) for cues in options.pop("fallback", [])
        ]
        self.gateway = Gateway(
            one_set(self.model, ScriptedSpeechModel(self.clock, delay=pause), fallback=fallback),
            self.accounts,
            self.clock,
            GatewayPolicy(**options.pop("policy", {})),
            budget=self.accounts,
            observers=[self.records.append],
            **options,
        )
        self.gateway.start()

    async def generate(self, request: str = "r1", purpose: str = "question", **fields: Any) -> str:
        call = Call(purpose=purpose, user="u", interview="i", request=request, **fields)
        async with aclosing(self.gateway.generate(call, PROMPT)) as events:
            return "".join([e.text async for e in events if isinstance(e, TextDelta)])

    async def reply(self, request: str = "r1", purpose: str = "question", **fields: Any) -> str:
        """Return a generated reply, advancing the clock until the reply is complete."""
        text: str = await advance_until_done(self.generate(request, purpose, **fields), self.clock)
        return text


@asynchronous
async def test_a_successful_call_is_recorded_and_deducted_from_the_budget() -> None:
    """A successful call is recorded with its origin, model, tokens and times, and its tokens are
    deducted from the budget."""
    harness = GatewayHarness([split_words("Three words long.")])
    await harness.reply(metadata={"question": "2"})
    (record,) = harness.records
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
        first_token=1.0,
        duration=3.0,
        compute=3.0,
    )
    assert harness.accounts.usage == [("u", 3, 0.0)]
    await harness.gateway.close()


@asynchronous
async def test_retries_and_the_fallback_model_are_recorded() -> None:
    """The record of a call gives the index of the fallback model and the number of retries, and the
    time to the first token includes failed attempts and the pauses between attempts."""
    harness = GatewayHarness([[DIED]], fallback=[[split_words("Mine.")]], policy={})
    await harness.reply()
    (record,) = harness.records
    assert (record.fallback_index, record.retries, record.outcome) == (1, 3, "ok")
    assert record.first_token == record.duration == 4 * 1.0 + 0.2 + 0.4 + 0.8 + 1.0
    await harness.gateway.close()


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(DIED, ErrorCode.WORKER_DIED), (ZeroDivisionError("a bug"), ErrorCode.INTERNAL)],
)
@asynchronous
async def test_a_failed_call_records_its_error_and_costs_nothing(
    failure: Exception, outcome: str
) -> None:
    """Calls that fail because of a dead engine or a bug are recorded with different outcomes and
    are not charged to the user."""
    harness = GatewayHarness([["Half", failure]])
    with pytest.raises(type(failure)):
        await harness.reply()
    assert [record.outcome for record in harness.records] == [outcome]
    assert harness.accounts.usage == []
    await harness.gateway.close()


@asynchronous
async def test_a_cancelled_call_is_charged_for_the_work_done() -> None:
    """A cancelled call is charged for the tokens and the time used before the cancellation."""
    harness = GatewayHarness([split_words("One two three four five.")])
    task = asyncio.create_task(harness.generate())
    await harness.clock.advance(0)
    await harness.clock.advance(2.5)
    task.cancel()
    await asyncio.wait({task})
    assert [record.outcome for record in harness.records] == ["cancelled"]
    assert harness.records[0].compute == 2.5
    assert harness.accounts.usage == [("u", 2, 2.5)]
    assert harness.model.closed_early == 1
    await harness.gateway.close()


@asynchronous
async def test_queue_time_is_recorded_and_not_charged() -> None:
    """When two calls share one slot, the second call's time in the queue is recorded but not
    charged."""
    harness = GatewayHarness([split_words("One two."), split_words("Three four.")])
    call = Call(purpose="question", user="u", interview="i", request="r2")

    async def other() -> None:
        async with aclosing(harness.gateway.generate(call, Prompt(text="Another"))) as events:
            async for _ in events:
                pass

    first, second = asyncio.create_task(harness.generate()), asyncio.create_task(other())
    await harness.clock.advance(0)
    await harness.clock.advance(4)
    await asyncio.gather(first, second)
    assert [(r.request, r.queued, r.first_token, r.compute) for r in harness.records] == [
        ("r1", 0.0, 1.0, 2.0),
        ("r2", 2.0, 3.0, 2.0),
    ]
    await harness.gateway.close()


@asynchronous
async def test_a_rejected_request_reaches_no_model_and_is_recorded() -> None:
    """A call that the request limit or the budget rejects reaches no model and is recorded with its
    error code."""
    harness = GatewayHarness([split_words("Fine.")], requests=1)
    await harness.reply("r1")
    with pytest.raises(RateLimited):
        await harness.reply("r2")
    harness.accounts.budget_spent = True
    with pytest.raises(RateLimited) as error:
        await harness.reply("r1")
    assert error.value.code == ErrorCode.BUDGET_SPENT
    assert [record.outcome for record in harness.records] == [
        "ok",
        ErrorCode.RATE_LIMITED,
        ErrorCode.BUDGET_SPENT,
    ]
    assert len(harness.model.prompts) == 1
    await harness.gateway.close()


@asynchronous
async def test_replies_of_a_cached_purpose_are_computed_once() -> None:
    """A reply from the cache counts as a request, but is neither computed nor deducted from the
    budget."""
    harness = GatewayHarness(
        [split_words("Kept words.")], policy={"reply_cache_purposes": frozenset({"hint"})}
    )
    assert await harness.reply("r1", "hint") == "Kept words."
    assert await harness.reply("r2", "hint") == "Kept words."
    assert await harness.reply("r3", "question") == "Kept words."
    assert len(harness.model.prompts) == 2
    assert [(r.shared, r.completion_tokens, r.model) for r in harness.records] == [
        ("", 2, "cued"),
        ("cache", 0, "cued"),
        ("", 2, "cued"),
    ]
    assert harness.accounts.charged == {"r1", "r2", "r3"}
    assert len(harness.accounts.usage) == 2
    await harness.gateway.close()


@asynchronous
async def test_equal_simultaneous_calls_are_computed_once() -> None:
    """Ten equal simultaneous calls cause one computation and one deduction, and nine records are
    marked as shared."""
    harness = GatewayHarness([split_words("Once for all.")])
    callers = [asyncio.create_task(harness.generate(f"r{number}")) for number in range(10)]
    await harness.clock.advance(0)
    await harness.clock.advance(3)
    assert await asyncio.gather(*callers) == ["Once for all."] * 10
    assert len(harness.model.prompts) == 1
    assert len(harness.accounts.usage) == 1
    assert sorted(record.shared for record in harness.records) == ["", *["in_flight"] * 9]
    assert sum(record.completion_tokens for record in harness.records) == 3
    await harness.gateway.close()


@asynchronous
async def test_transcriptions_are_charged_by_time() -> None:
    """Transcribing a whole recording is charged by the engine's time, and live transcription by the
    recording's duration."""
    harness = GatewayHarness([split_words("Fine.")])
    call = Call(purpose="transcribe", user="u", interview="i", request="r1")
    pcm = bytes(64_000)
    await advance_until_done(harness.gateway.transcribe(call, pcm), harness.clock)

    async def source() -> Any:
        for _ in range(2):
            await harness.clock.sleep(1)
            yield pcm[:32_000]

    async def transcribe_live() -> None:
        async for _ in harness.gateway.transcribe_live(call, source):
            pass

    await advance_until_done(transcribe_live(), harness.clock)
    assert [(r.kind, r.audio, r.compute, r.transcript_lag, r.model) for r in harness.records] == [
        ("transcribe", 2.0, 1.0, None, "scripted"),
        ("transcribe_live", 2.0, 2.0, 1.0, "scripted"),
    ]
    assert harness.accounts.usage == [("u", 0, 1.0), ("u", 0, 2.0)]
    await harness.gateway.close()


@pytest.mark.parametrize("keep", [False, True])
@asynchronous
async def test_text_is_logged_only_on_request(tmp_path: Path, keep: bool) -> None:
    """Text is logged only with `keep_text`, and is erased when the interview is discarded."""
    clock = ManualClock()
    call_log = CallLog(tmp_path / "calls.sqlite", clock, keep_text=keep)
    harness = GatewayHarness([split_words("A secret reply.")], call_log=call_log)
    await harness.reply()
    await call_log.flush()
    on_disk = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("calls.sqlite*")))  # noqa: ASYNC240
    for text in (b"I moved the ledger.", b"A secret reply."):
        assert (text in on_disk) == keep
    assert [record.prompt is not None for record in harness.records] == [keep]
    await harness.gateway.discard("i")
    await harness.gateway.close()
    await call_log.close()
    on_disk = b"".join(path.read_bytes() for path in sorted(tmp_path.glob("calls.sqlite*")))  # noqa: ASYNC240
    assert b"ledger" not in on_disk


@pytest.mark.parametrize(
    "metadata", [{str(n): "" for n in range(6)}, {"k" * 201: ""}, {"k": "v" * 201}]
)
def test_metadata_beyond_its_limits_is_rejected(metadata: dict[str, str]) -> None:
    """Metadata with more than five pairs, or with a key or a value of more than 200 characters, is
    rejected."""
    with pytest.raises(BadRequest) as error:
        Call(purpose="question", user="u", interview="i", request="r", metadata=metadata)
    assert error.value.code == ErrorCode.BAD_METADATA
    longest = {f"{n}" * 200: "v" * 200 for n in range(5)}
    Call(purpose="question", user="u", interview="i", request="r", metadata=longest)


@asynchronous
async def test_the_metrics_agree_with_the_records() -> None:
    """The metrics count calls by purpose and outcome, and report the state of models and
    engines."""
    harness = GatewayHarness([split_words("Fine."), [DIED]])
    metrics = Metrics()
    await harness.reply()
    with suppress(InferenceError):
        await harness.reply("r2", "hint")
    for record in harness.records:
        metrics.observe_call(record)
    engines = await advance_until_done(harness.gateway.engine_stats(), harness.clock)
    gauges = [("prep_x", "An x.", 3.0)]
    text = metrics.render(harness.gateway.model_loads(), engines, gauges).decode()
    labels = 'kind="generate",model="cued"'
    assert f'prep_calls_total{{{labels},outcome="ok",purpose="question"}} 1.0' in text
    assert f'prep_calls_total{{{labels},outcome="worker_died",purpose="hint"}} 1.0' in text
    assert 'prep_tokens_total{model="cued",type="completion"} 1.0' in text
    assert 'prep_retries_total{model="cued"} 3.0' in text
    assert 'prep_time_to_first_token_seconds_bucket{le="1.0",purpose="question"} 1.0' in text
    assert 'prep_model_calls_queued{job="interviewer",model="cued"} 0.0' in text
    assert 'prep_engine_batches_total{model="cued"} 0.0' in text
    assert 'prep_transcriber_waiting_spans{model="scripted"} 0.0' in text
    assert "prep_x 3.0" in text
    assert metrics.render([], [], []).decode().count("prep_model_calls_queued{") == 0
    await harness.gateway.close()
