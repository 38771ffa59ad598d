"""One exchange with the models, and what it reports."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from prepserver.accounts.rate_limits import RateLimiter
from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import Prompt
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway, GatewayPolicy
from prepserver.interview.events import (
    InterviewEvent,
    ReplyCompleted,
    ReplyRestarted,
    SkillsExtracted,
    TextProduced,
    TurnFailed,
)
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.questions import bank
from prepserver.interview.questions.plan import select_main_questions
from prepserver.interview.turns import runner
from prepserver.interview.turns.steps import Step
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import (
    InterviewSpec,
    Message,
    MessageKind,
    Role,
    Source,
)
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, Reply, advance_until_done, split_words

QUESTION = "How did you keep both systems in step during those six weeks?"
DIED = InferenceError("The engine has died.", code=ErrorCode.WORKER_DIED, retryable=True)
BROKEN = InferenceError("The prompt is too long.", code=ErrorCode.CONTEXT_OVERFLOW, retryable=False)


def message(position: int, kind: MessageKind, text: str) -> Message:
    return Message(
        id=f"m{position}",
        role=Role.CANDIDATE if kind is MessageKind.ANSWER else Role.INTERVIEWER,
        kind=kind,
        text=text,
        source=Source.TEXT,
        position=position,
        created_at=0.0,
    )


def work(step: Step, *asked: str) -> runner.TurnWork:
    spec = InterviewSpec(role="Backend Engineer", questions=5)
    said = [message(2 * i, MessageKind.QUESTION, text) for i, text in enumerate(asked)]
    said += [
        message(2 * i + 1, MessageKind.ANSWER, "We moved the ledger first.")
        for i in range(len(asked))
    ]
    return runner.TurnWork(
        epoch=1,
        step=step,
        call=Call(purpose=step, user="u", interview="i", request="i/t1"),
        prompt_context=PromptContext(
            spec=spec,
            skills=("python",),
            main_questions=select_main_questions(bank.load_bank(), spec, ("python",), 1),
            messages=tuple(sorted(said, key=lambda m: m.position)),
        ),
        seed=100,
    )


async def start_gateway(
    model: CuedLanguageModel, clock: ManualClock, tmp_path: Path, *, limit: int = 0
) -> tuple[Gateway, RateLimiter]:
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=limit)
    gateway = Gateway(model, ScriptedSpeechModel(clock), limiter, clock)
    gateway.start()
    await gateway.model_info()
    return gateway, limiter


async def run_work(
    job: runner.TurnWork,
    replies: Sequence[Reply],
    tmp_path: Path,
    *,
    pause: float = 0.0,
    limit: int = 0,
) -> tuple[list[InterviewEvent], CuedLanguageModel]:
    """Run a job to its end, time passing by as it goes."""
    clock = ManualClock()
    model = CuedLanguageModel(clock, replies, pause=pause)
    gateway, limiter = await start_gateway(model, clock, tmp_path, limit=limit)
    posted: list[InterviewEvent] = []
    running = asyncio.create_task(runner.run(job, gateway, bank.load_bank(), clock, posted.append))
    while not running.done():
        await clock.advance(0.005)
    await running
    await gateway.close()
    limiter.close()
    return posted, model


def spoken(posted: Sequence[InterviewEvent]) -> str:
    """What a client would have on its screen at the end."""
    text = ""
    for event in posted:
        match event:
            case TextProduced(text=more):
                text += more
            case ReplyRestarted():
                text = ""
    return text


@asynchronous
async def test_a_question_streams_and_then_is_written_whole(tmp_path: Path) -> None:
    """What was streamed and what is written are the same text."""
    posted, _ = await run_work(
        work(Step.QUESTION, "How are you today?"), [split_words(QUESTION)], tmp_path
    )
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].text == QUESTION == spoken(posted)
    assert posted[-1].source is Source.MODEL


@asynchronous
async def test_a_question_ends_with_its_question_mark(tmp_path: Path) -> None:
    """A model elsewhere, that no grammar holds, goes on talking; nobody hears it."""
    reply = split_words(f"{QUESTION} I would love to hear more. Is that fine?")
    posted, model = await run_work(
        work(Step.QUESTION, "How are you today?"), [reply], tmp_path, pause=0.1
    )
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].text == QUESTION == spoken(posted)
    assert model.closed_early == 1


@pytest.mark.parametrize(
    ("pause", "frames"), [(0.0, {2, 3, 4, 5}), (0.01, {3}), (1.0, {12})], ids=["all", "10ms", "1s"]
)
@asynchronous
async def test_words_within_eighty_milliseconds_share_a_frame(
    tmp_path: Path, pause: float, frames: set[int]
) -> None:
    """Twelve words: each alone when they come slowly, some together when they come fast."""
    posted, _ = await run_work(work(Step.QUESTION), [split_words(QUESTION)], tmp_path, pause=pause)
    said = [event for event in posted if isinstance(event, TextProduced)]
    assert said[0].text == "How"
    assert len(said) in frames


@asynchronous
async def test_an_engine_that_dies_half_way_doubles_no_text(tmp_path: Path) -> None:
    """The reply begins anew; what was said before the death is taken back."""
    replies: list[Reply] = [["How", " did", DIED], split_words(QUESTION)]
    posted, _ = await run_work(work(Step.QUESTION), replies, tmp_path)
    assert any(isinstance(event, ReplyRestarted) for event in posted)
    assert spoken(posted) == QUESTION
    assert isinstance(posted[-1], ReplyCompleted)


@asynchronous
async def test_an_engine_that_dies_before_the_first_word_is_retried_unseen(tmp_path: Path) -> None:
    """The gateway tries again by itself while nothing has been shown."""
    posted, model = await run_work(work(Step.QUESTION), [[DIED], split_words(QUESTION)], tmp_path)
    assert len(model.prompts) == 2
    assert not any(isinstance(event, ReplyRestarted) for event in posted)


@asynchronous
async def test_an_engine_that_keeps_dying_fails_the_turn(tmp_path: Path) -> None:
    """After the last attempt the error of the engine is what clients hear."""
    posted, _ = await run_work(work(Step.QUESTION), [["How", DIED]], tmp_path)
    assert isinstance(posted[-1], TurnFailed)
    assert posted[-1].error.code == ErrorCode.WORKER_DIED


@asynchronous
async def test_what_cannot_be_retried_is_not(tmp_path: Path) -> None:
    """A prompt that is too long stays too long."""
    posted, model = await run_work(work(Step.CLOSING), [[BROKEN]], tmp_path)
    assert len(model.prompts) == 1
    assert isinstance(posted[-1], TurnFailed)


@asynchronous
async def test_a_prompt_that_does_not_fit_gives_way_to_the_bank(tmp_path: Path) -> None:
    """The interview goes on: a main question needs no context."""
    posted, model = await run_work(work(Step.QUESTION), [[BROKEN]], tmp_path)
    assert len(model.prompts) == 1
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].source is Source.BANK


@pytest.mark.parametrize(
    "bad",
    [QUESTION, "I would say yes.", "Why?", "One? And two more of them?"],
    ids=["asked before", "no question", "too short", "two at once"],
)
@asynchronous
async def test_a_bad_question_gives_way_to_the_bank(tmp_path: Path, bad: str) -> None:
    """After three bad ones the next main question is asked, and marked as the bank's."""
    job = work(Step.QUESTION, QUESTION)
    posted, model = await run_work(job, [split_words(bad)], tmp_path)
    assert len(model.prompts) == 3
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].source is Source.BANK
    assert posted[-1].text == job.prompt_context.unasked_questions[0].text
    assert spoken(posted) == ""


@asynchronous
async def test_the_attempts_differ(tmp_path: Path) -> None:
    """The same seed would only repeat what was refused."""
    _, model = await run_work(work(Step.QUESTION, QUESTION), [split_words(QUESTION)], tmp_path)
    assert len({prompt.seed for prompt in model.prompts}) == 3


@asynchronous
async def test_skills_are_read_from_json(tmp_path: Path) -> None:
    """The reply to the extraction is an object with a list."""
    posted, _ = await run_work(work(Step.EXTRACT), [['{"skills": ', '["sql"]}']], tmp_path)
    assert isinstance(posted[-1], SkillsExtracted)
    assert posted[-1].skills == ["sql"]


@asynchronous
async def test_unreadable_skills_are_none(tmp_path: Path) -> None:
    """A reply cut short does not stop the interview: the documents name skills too."""
    posted, _ = await run_work(work(Step.EXTRACT), [['{"skills": ["s']], tmp_path)
    assert isinstance(posted[-1], SkillsExtracted)
    assert posted[-1].skills == []


@asynchronous
async def test_a_used_up_allowance_fails_with_its_reset(tmp_path: Path) -> None:
    """The candidate hears when to go on."""
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


async def refused_at(
    tmp_path: Path, *, before: int, busy: int
) -> tuple[list[float], list[InterviewEvent]]:
    """Of a turn that finds the models busy for so many seconds, and no room to wait: when it began
    anew, in seconds from its beginning, and what it reported. A call of `before` seconds has told
    the gateway how long one takes."""
    clock = ManualClock()
    replies: list[Reply] = [["one"] * seconds for seconds in (before, busy) if seconds]
    model = CuedLanguageModel(clock, [*replies, split_words(QUESTION)], pause=1.0)
    limiter = RateLimiter(tmp_path / "limit.sqlite", clock, limit=0)
    gateway = Gateway(model, ScriptedSpeechModel(clock), limiter, clock, GatewayPolicy(max_queue=0))
    gateway.start()
    await gateway.model_info()

    async def occupy(request: str) -> None:
        call = Call(purpose="hint", user="v", interview="j", request=request)
        async for _ in gateway.generate(call, Prompt(text=request)):
            pass

    if before:
        await advance_until_done(occupy("before"), clock)
    occupant = asyncio.create_task(occupy("busy"))
    await clock.advance(0.5)
    begun, posted, times = clock.monotonic(), list[InterviewEvent](), list[float]()

    def post(event: InterviewEvent) -> None:
        posted.append(event)
        if isinstance(event, ReplyRestarted):
            times.append(clock.monotonic() - begun)

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
async def test_a_turn_that_finds_the_models_busy_waits_before_it_tries_again(
    tmp_path: Path, before: int, expected: list[float]
) -> None:
    """As long as the gateway expects, within bounds; longer each time when nobody knows. Who has
    tried three times is told."""
    times, posted = await refused_at(tmp_path, before=before, busy=100)
    assert times == pytest.approx(expected)
    assert isinstance(posted[-1], TurnFailed)
    assert (posted[-1].error.code, posted[-1].error.retryable) == ("overloaded", True)


@asynchronous
async def test_a_turn_goes_on_when_the_models_have_become_free(tmp_path: Path) -> None:
    """Nobody has to ask again."""
    times, posted = await refused_at(tmp_path, before=2, busy=3)
    assert times == pytest.approx([2, 4])
    assert isinstance(posted[-1], ReplyCompleted)
    assert posted[-1].text == QUESTION == spoken(posted)


@asynchronous
async def test_a_cancelled_turn_frees_the_model(tmp_path: Path) -> None:
    """Closing reaches the engine's generator, so that nobody computes for nobody."""
    clock = ManualClock()
    model = CuedLanguageModel(clock, [split_words(QUESTION)], pause=1.0)
    gateway, limiter = await start_gateway(model, clock, tmp_path)
    said = asyncio.Event()
    running = asyncio.create_task(
        runner.run(work(Step.QUESTION), gateway, bank.load_bank(), clock, lambda event: said.set())
    )
    while not said.is_set():
        await clock.advance(1.0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await gateway.close()
    limiter.close()
    assert model.closed_early == 1


@asynchronous
async def test_an_unknown_failure_is_an_error_of_the_tree(tmp_path: Path) -> None:
    """A bug in an engine ends the turn, not the interview."""
    broken: Reply = [ZeroDivisionError("a bug")]
    posted, _ = await run_work(work(Step.QUESTION), [broken], tmp_path)
    assert isinstance(posted[-1], TurnFailed)
    assert isinstance(posted[-1].error, PrepServerError)
    assert posted[-1].error.code == ErrorCode.TURN_FAILED
