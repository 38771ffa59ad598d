"""The background task of a turn: its events, retries and fallback."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import Prompt
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway, GatewayPolicy
from prepserver.interview.agenda import plan_agenda
from prepserver.interview.events import (
    AgendaPlanned,
    AnswerAssessed,
    InterviewEvent,
    ReplyCompleted,
    ReplyRestarted,
    TextProduced,
    TurnFailed,
)
from prepserver.interview.prompts.wording import spare_questions
from prepserver.interview.questions import bank
from prepserver.interview.questions.plan import is_acceptable_question
from prepserver.interview.turns import runner
from prepserver.interview.turns.steps import Step
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    InterviewSpec,
    Message,
    MessageKind,
    Source,
)
from tests.support.clock import ManualClock
from tests.support.contexts import context_after, message
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, Reply, advance_until_done, one_set, split_words

CALL = Call(purpose="question", user="u", interview="i", request="i/t1")
QUESTION = "How did you keep both systems in step during those six weeks?"
DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
TOO_LONG = InferenceError(
    "The prompt is too long.", code=ErrorCode.CONTEXT_OVERFLOW, retryable=False
)


def work(step: Step, *asked: str) -> runner.TurnWork:
    """Return the work of a step after answers to the questions in `asked`."""
    spec = InterviewSpec(role="Backend Engineer", questions=5)
    messages: list[Message] = []
    for text in asked or ("How are you today?",):
        for kind, words in (
            (MessageKind.QUESTION, text),
            (MessageKind.ANSWER, "We moved the ledger first."),
        ):
            messages.append(message(kind, words, len(messages)))
    context = context_after(["We moved the ledger first."], spec)
    return runner.TurnWork(
        epoch=1,
        step=step,
        call=Call(purpose=step, user="u", interview="i", request="i/t1"),
        prompt_context=msgspec.structs.replace(context, messages=tuple(messages)),
        seed=100,
    )


async def start_gateway(
    model: CuedLanguageModel, clock: ManualClock, tmp_path: Path, *, limit: int = 0
) -> tuple[Gateway, RateLimiter]:
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=limit)
    gateway = Gateway(one_set(model, ScriptedSpeechModel(clock)), limiter, clock)
    gateway.start()
    await gateway.model_info(CALL)
    return gateway, limiter


async def run_work(
    job: runner.TurnWork,
    replies: Sequence[Reply],
    tmp_path: Path,
    *,
    pause: float = 0.0,
    limit: int = 0,
    parameters: int = 8_000_000_000,
) -> tuple[list[InterviewEvent], CuedLanguageModel]:
    """Run a step to its end in virtual time; return the events and the model."""
    clock = ManualClock()
    model = CuedLanguageModel(clock, replies, pause=pause, parameters=parameters)
    gateway, limiter = await start_gateway(model, clock, tmp_path, limit=limit)
    posted: list[InterviewEvent] = []
    running = asyncio.create_task(runner.run(job, gateway, bank.load_bank(), clock, posted.append))
    while not running.done():
        await clock.advance(0.005)
    await running
    await gateway.close()
    limiter.close()
    return posted, model


def streamed_text(posted: Sequence[InterviewEvent]) -> str:
    """Return the text that a client shows after the streamed events in `posted`."""
    text = ""
    for event in posted:
        match event:
            case TextProduced(text=more):
                text += more
            case ReplyRestarted():
                text = ""
    return text


@asynchronous
async def test_a_question_is_streamed_and_then_completed(tmp_path: Path) -> None:
    """The streamed text of a question equals the text of the completed reply."""
    posted, _ = await run_work(
        work(Step.QUESTION, "How are you today?"), [split_words(QUESTION)], tmp_path
    )
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].text == QUESTION == streamed_text(posted)
    assert posted[-1].source is Source.MODEL


@asynchronous
async def test_a_question_ends_with_its_question_mark(tmp_path: Path) -> None:
    """The reply in a question step ends with the first question mark, and later text is not
    streamed."""
    reply = split_words(f"{QUESTION} I would love to hear more. Is that fine?")
    posted, model = await run_work(
        work(Step.QUESTION, "How are you today?"), [reply], tmp_path, pause=0.1
    )
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].text == QUESTION == streamed_text(posted)
    assert model.closed_early == 1


@pytest.mark.parametrize(
    ("pause", "counts"), [(0.0, {2, 3, 4, 5}), (0.01, {3}), (1.0, {12})], ids=["all", "10ms", "1s"]
)
@asynchronous
async def test_words_within_eighty_milliseconds_share_a_piece(
    tmp_path: Path, pause: float, counts: set[int]
) -> None:
    """Words that the model generates slowly are sent one by one; words that it generates quickly
    are sent in groups, except for the first word."""
    posted, _ = await run_work(work(Step.QUESTION), [split_words(QUESTION)], tmp_path, pause=pause)
    pieces = [event for event in posted if isinstance(event, TextProduced)]
    assert pieces[0].text == "How"
    assert len(pieces) in counts


@asynchronous
async def test_a_reply_restarts_when_the_engine_dies(tmp_path: Path) -> None:
    """When the engine dies during a reply, the text streamed so far is dropped and the reply
    restarts, so that no text is repeated."""
    replies: list[Reply] = [["How", " did", DIED], split_words(QUESTION)]
    posted, _ = await run_work(work(Step.QUESTION), replies, tmp_path)
    assert any(isinstance(event, ReplyRestarted) for event in posted)
    assert streamed_text(posted) == QUESTION
    assert isinstance(posted[-1], ReplyCompleted)


@asynchronous
async def test_an_engine_that_dies_before_the_first_word_is_retried_silently(
    tmp_path: Path,
) -> None:
    """If the engine dies before it has produced text, the gateway retries, and no restart is
    posted."""
    posted, model = await run_work(work(Step.QUESTION), [[DIED], split_words(QUESTION)], tmp_path)
    assert len(model.prompts) == 2
    assert not any(isinstance(event, ReplyRestarted) for event in posted)


@asynchronous
async def test_an_engine_that_keeps_dying_fails_the_turn(tmp_path: Path) -> None:
    """If the engine dies at every attempt, the turn fails with the engine's error."""
    posted, _ = await run_work(work(Step.QUESTION), [["How", DIED]], tmp_path)
    assert isinstance(posted[-1], TurnFailed)
    assert posted[-1].error.code == ErrorCode.WORKER_DIED


@asynchronous
async def test_a_permanent_error_is_not_retried(tmp_path: Path) -> None:
    """A closing whose prompt exceeds the context fails at the first attempt."""
    posted, model = await run_work(work(Step.CLOSING), [[TOO_LONG]], tmp_path)
    assert len(model.prompts) == 1
    assert isinstance(posted[-1], TurnFailed)


@asynchronous
async def test_a_prompt_that_does_not_fit_falls_back_to_the_bank(tmp_path: Path) -> None:
    """If the prompt of a question exceeds the context, the question comes from the bank."""
    posted, model = await run_work(work(Step.QUESTION), [[TOO_LONG]], tmp_path)
    assert len(model.prompts) == 1
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].source is Source.BANK


@asynchronous
async def test_a_closing_without_text_fails_the_turn(tmp_path: Path) -> None:
    """A closing has no replacement in the bank, so the turn fails after three empty replies."""
    posted, model = await run_work(work(Step.CLOSING), [[" "]], tmp_path)
    assert len(model.prompts) == 3
    assert isinstance(posted[-1], TurnFailed)
    assert posted[-1].error.code == ErrorCode.NO_REPLY


@pytest.mark.parametrize(
    "bad",
    [QUESTION, "I would say yes.", "Why?", "One? And two more of them?"],
    ids=["asked before", "no question", "too short", "two at once"],
)
@asynchronous
async def test_an_unacceptable_question_falls_back_to_the_bank(tmp_path: Path, bad: str) -> None:
    """After three unacceptable replies, a spare question on the topic is asked, with the bank as
    its source."""
    job = work(Step.QUESTION, QUESTION)
    posted, model = await run_work(job, [split_words(bad)], tmp_path)
    assert len(model.prompts) == 3
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].source is Source.BANK
    assert posted[-1].text == spare_questions(job.prompt_context)[0]
    assert is_acceptable_question(posted[-1].text, [QUESTION])
    assert streamed_text(posted) == ""


@asynchronous
async def test_each_attempt_has_its_own_seed(tmp_path: Path) -> None:
    """Each attempt uses a new seed, since an equal seed would repeat the rejected reply."""
    _, model = await run_work(work(Step.QUESTION, QUESTION), [split_words(QUESTION)], tmp_path)
    assert len({prompt.seed for prompt in model.prompts}) == 3


@asynchronous
async def test_the_agenda_is_planned_without_a_model(tmp_path: Path) -> None:
    """The agenda is planned by rules, and is the same again when the step is repeated."""
    job = work(Step.EXTRACT)
    (first,), model = await run_work(job, [[DIED]], tmp_path)
    (again,), _ = await run_work(job, [[DIED]], tmp_path)
    assert isinstance(first, AgendaPlanned)
    assert first == again
    seed = int.from_bytes(b"i", "big")
    assert first.agenda == plan_agenda(bank.load_bank(), job.prompt_context.spec, seed)
    assert not model.prompts


@pytest.mark.parametrize(
    "reply", [[DIED], [TOO_LONG], ["?"], ["99"], [""]], ids=["died", "too long", "?", "99", "empty"]
)
@asynchronous
async def test_an_answer_is_assessed_whatever_the_model_says(tmp_path: Path, reply: Reply) -> None:
    """If the model fails or decides nothing, the rules alone choose the next move."""
    context = context_after(
        ["We moved the ledger out first, because of all parts it had the clearest boundary."]
    )
    agenda = msgspec.structs.replace(context.agenda, topics=context.agenda.topics[:2])
    *before, last = context.messages
    undecided = msgspec.structs.replace(last, intent=None)
    context = msgspec.structs.replace(context, agenda=agenda, messages=(*before, undecided))
    job = msgspec.structs.replace(work(Step.ASSESS), prompt_context=context)
    decided, model = await run_work(job, [reply], tmp_path)
    by_rules, _ = await run_work(job, [[ZeroDivisionError()]], tmp_path, parameters=1_000_000)
    assert {prompt.purpose for prompt in model.prompts} == {"decision"}
    assert isinstance(decided[-1], AnswerAssessed)
    assert decided == by_rules


@asynchronous
async def test_a_rate_limited_turn_fails_with_the_time_of_the_reset(tmp_path: Path) -> None:
    """The error of a rate-limited turn contains the time at which the limit resets."""
    job = work(Step.CLOSING)
    posted, _ = await run_work(job, [split_words("Thank you.")], tmp_path, limit=1)
    assert isinstance(posted[-1], ReplyCompleted)
    other = runner.TurnWork(
        **{
            **{name: getattr(job, name) for name in job.__struct_fields__},
            "call": Call(purpose="closing", user="u", interview="i", request="i/t2"),
        }
    )
    posted, _ = await run_work(other, [split_words("Thank you.")], tmp_path, limit=1)
    assert isinstance(posted[-1], TurnFailed)
    assert posted[-1].error.code == ErrorCode.RATE_LIMITED
    assert posted[-1].error.details["reset"] > 0


async def restart_times(
    tmp_path: Path, *, before: int, busy: int
) -> tuple[list[float], list[InterviewEvent]]:
    """Run a turn while the only model is busy for `busy` seconds and its queue accepts no calls.

    If `before` is not 0, an earlier call of `before` seconds gives the gateway an estimate. Return
    the seconds from the start of the turn to each restart of the reply, and the events.
    """
    clock = ManualClock()
    replies: list[Reply] = [["one"] * seconds for seconds in (before, busy) if seconds]
    model = CuedLanguageModel(clock, [*replies, split_words(QUESTION)], pause=1.0)
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    gateway = Gateway(
        one_set(model, ScriptedSpeechModel(clock)), limiter, clock, GatewayPolicy(max_queue=0)
    )
    gateway.start()
    await gateway.model_info(CALL)

    async def occupy(request: str) -> None:
        call = Call(purpose="hint", user="v", interview="j", request=request)
        async for _ in gateway.generate(call, Prompt(text=request)):
            pass

    if before:
        await advance_until_done(occupy("before"), clock)
    occupant = asyncio.create_task(occupy("busy"))
    await clock.advance(0.5)
    started, posted, times = clock.monotonic(), list[InterviewEvent](), list[float]()

    def post(event: InterviewEvent) -> None:
        posted.append(event)
        if isinstance(event, ReplyRestarted):
            times.append(clock.monotonic() - started)

    await advance_until_done(
        runner.run(work(Step.QUESTION), gateway, bank.load_bank(), clock, post), clock
    )
    occupant.cancel()
    await asyncio.wait([occupant])
    await gateway.close()
    limiter.close()
    return times, posted


@pytest.mark.parametrize(
    ("before", "expected"), [(0, [1, 3]), (2, [2, 4]), (60, [10, 20])], ids=["unknown", "2s", "60s"]
)
@asynchronous
async def test_a_turn_waits_before_it_retries_busy_models(
    tmp_path: Path, before: int, expected: list[float]
) -> None:
    """Before a turn retries busy models, it waits for the time that the gateway estimates, up to a
    maximum; without an estimate, it waits for a delay that doubles."""
    times, posted = await restart_times(tmp_path, before=before, busy=100)
    assert times == pytest.approx(expected)
    assert isinstance(posted[-1], TurnFailed)
    assert (posted[-1].error.code, posted[-1].error.retryable) == (ErrorCode.OVERLOADED, True)


@asynchronous
async def test_a_turn_continues_once_the_models_are_free(tmp_path: Path) -> None:
    """If the models become free before the third attempt, that attempt completes the reply."""
    times, posted = await restart_times(tmp_path, before=2, busy=3)
    assert times == pytest.approx([2, 4])
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].text == QUESTION == streamed_text(posted)


@asynchronous
async def test_a_cancelled_turn_frees_the_model(tmp_path: Path) -> None:
    """Cancelling a turn closes the engine's generator, which stops the computation."""
    clock = ManualClock()
    model = CuedLanguageModel(clock, [split_words(QUESTION)], pause=1.0)
    gateway, limiter = await start_gateway(model, clock, tmp_path)
    streaming = asyncio.Event()
    running = asyncio.create_task(
        runner.run(work(Step.QUESTION), gateway, bank.load_bank(), clock, lambda _: streaming.set())
    )
    while not streaming.is_set():
        await clock.advance(1.0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await gateway.close()
    limiter.close()
    assert model.closed_early == 1


@asynchronous
async def test_an_unexpected_exception_fails_the_turn(tmp_path: Path) -> None:
    """If an engine raises an unexpected exception, the turn fails with an error code."""
    broken: Reply = [ZeroDivisionError("a bug")]
    posted, _ = await run_work(work(Step.QUESTION), [broken], tmp_path)
    assert isinstance(posted[-1], TurnFailed)
    assert isinstance(posted[-1].error, PrepServerError)
    assert posted[-1].error.code == ErrorCode.TURN_FAILED
