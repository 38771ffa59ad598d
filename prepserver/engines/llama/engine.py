"""The language model's work on many prompts at once, in the engine's own process."""

from pathlib import Path

import msgspec
from msgspec import Raw

from prepserver.clock import Clock, SystemClock
from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.llama.counters import Counters
from prepserver.engines.llama.detokenizer import Detokenizer
from prepserver.engines.llama.job import Job
from prepserver.engines.llama.kv_slots import SHORT, KvSlot, KvSlots, common
from prepserver.engines.llama.kv_store import KvStore, identity
from prepserver.engines.llama.native import BATCH, BatchTokens, LlamaContext
from prepserver.engines.llama.options import (
    Discard,
    Generate,
    GetEngineStats,
    LlamaOptions,
    Offload,
    Order,
    Prefill,
)
from prepserver.engines.llama.sampler import Sampler
from prepserver.engines.llama.schedule import PATIENCE, TokenBudget, in_turn, plan_batches
from prepserver.engines.llama.tokenizer import PromptTokenizer
from prepserver.engines.types import ModelInfo, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["LlamaEngine", "load"]

QUIET = 2.0
"""Seconds of work without an event after which a sign of life is given."""

_orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)


class LlamaEngine:
    """Implements `prepserver.engines.ipc.runner.Engine`."""

    def __init__(self, native: LlamaContext, parked: KvStore, clock: Clock) -> None:
        self._native = native
        self._parked = parked
        self._clock = clock
        self._reading = PromptTokenizer(native)
        self._sequences = KvSlots(native.parallel)
        self._pace = TokenBudget(BATCH)
        self._counters = Counters()
        self._waiting: list[Job] = []
        self._active: list[Job] = []
        self._forgotten: set[int] = set()
        """Sequences whose conversation was forgotten while they were busy."""
        self._heard = clock.monotonic()

    # --- Requests -----------------------------------------------------------------------------

    def submit(self, call: EngineCall) -> None:
        """Raises InferenceError."""
        match _orders.decode(call.payload):
            case Generate(prompt=prompt):
                self._enter(self._job(call, prompt, ahead=False))
            case Prefill(prompt=prompt):
                self._enter(self._job(call, prompt, ahead=True))
            case Offload(conversation=conversation):
                self._park(conversation)
                call.complete()
            case Discard(conversation=conversation):
                self._forget(conversation)
                call.complete()
            case GetEngineStats():
                self._drop_cancelled()
                call.send_event(self._counters.report(self._sequences, self._waiting, self._parked))
                call.complete()

    def _job(self, call: EngineCall, prompt: Prompt, *, ahead: bool) -> Job:
        tokens = self._reading.tokens(prompt)
        room = self._native.n_ctx - len(tokens)
        wanted = 0 if ahead else prompt.max_tokens
        budget = min(wanted, room)
        if room < 0 or budget <= 0 < wanted:
            raise InferenceError(
                f"The prompt has {len(tokens)} tokens and the model's context {self._native.n_ctx}"
                "; shorten the prompt, or set a larger context if the model has one.",
                code=ErrorCode.CONTEXT_OVERFLOW,
                retryable=False,
                details={"tokens": len(tokens), "context": self._native.n_ctx},
            )
        now = self._clock.monotonic()
        return Job(call=call, wanted=prompt, prompt=tokens, budget=budget, arrived=now, ahead=ahead)

    def _enter(self, job: Job) -> None:
        """Queue a job. It takes the place of what was being read ahead for its conversation; what
        has been read of that stays in the cache."""
        for other in [*self._waiting, *self._active]:
            if other.ahead and job.conversation and other.conversation == job.conversation:
                self._end(other)
        self._waiting.append(job)

    def _park(self, conversation: str) -> None:
        """Move a conversation to disk; only copy it there while it is worked in."""
        sequence = self._sequences.of(conversation)
        if sequence is not None:
            self._save(sequence)
            if not sequence.busy:
                self._empty(sequence)

    def _save(self, sequence: KvSlot) -> None:
        if self._parked.is_open and len(sequence.tokens) > SHORT:
            # Most often it has not changed since it was brought back.
            if self._parked.tokens(sequence.conversation) == sequence.tokens:
                return
            state = self._native.state(sequence.number)
            self._parked.save(sequence.conversation, sequence.tokens, state)

    def _forget(self, conversation: str) -> None:
        self._parked.forget(conversation)
        sequence = self._sequences.of(conversation)
        if sequence is None:
            return
        sequence.conversation = ""
        if sequence.busy:
            self._forgotten.add(sequence.number)
        else:
            self._empty(sequence)

    def _empty(self, sequence: KvSlot) -> None:
        self._native.empty(sequence.number)
        sequence.tokens, sequence.conversation = [], ""

    # --- Work ---------------------------------------------------------------------------------

    def run_step(self) -> bool:
        """Compute a batch or two. False when there is nothing to compute."""
        self._drop_cancelled()
        self._make_way()
        for job in in_turn(self._waiting):
            self._start(job)
        if not self._active:
            return bool(self._waiting)
        try:
            self._compute()
        except Exception:
            self._reset()
            raise
        return bool(self._active or self._waiting)

    def _drop_cancelled(self) -> None:
        for job in [*self._waiting, *self._active]:
            if job.call.cancelled:
                self._end(job)

    def _make_way(self) -> None:
        """Let work that nobody waits for give up its sequence to a prompt that somebody does.
        What it has read stays in the cache."""
        ahead = [job for job in self._active if job.ahead]
        needed = sum(not job.ahead for job in self._waiting) - self._sequences.idle
        for job in in_turn(ahead)[::-1][: max(0, needed)]:
            self._end(job)

    def _start(self, job: Job) -> None:
        """Give a job that waits a sequence, if there is one for it."""
        spare = self._sequences.idle
        own = self._sequences.of(job.conversation)
        waited = self._clock.monotonic() - job.arrived
        if (
            not spare
            # The last one is for whoever answers next.
            or (spare == 1 < self._native.parallel and waited < PATIENCE[job.priority])
            # What is read ahead is of use in the conversation's own sequence only.
            or (job.ahead and own is not None and own.busy)
        ):
            return
        try:
            sampler = None if job.ahead else Sampler(self._native, job.wanted, job.prompt)
        except InferenceError as error:
            self._waiting.remove(job)
            job.call.fail(error)
            return
        job.started = self._clock.monotonic()
        job.sampler = sampler
        job.streaming = Detokenizer(job.wanted.stop)
        job.sequence, job.cached = self._take_up(job)
        self._waiting.remove(job)
        self._active.append(job)
        self._counters.started(job)
        if job.ahead and job.done == len(job.prompt) - 1:
            self._end(job)  # all of it is there, but for the token that is never taken from there

    def _take_up(self, job: Job) -> tuple[KvSlot, int]:
        """Prepare a sequence for a prompt; and how many of its tokens are there already."""
        native, sequences = self._native, self._sequences
        parked = common(self._parked.tokens(job.conversation), job.prompt)
        step = sequences.plan(job.conversation, job.prompt, parked)
        assert step is not None, "a sequence was idle"
        target = sequences[step.sequence]
        if step.evict:
            self._counters.evictions += 1
            self._save(target)
        if step.restore:
            unpacked = self._parked.load(job.conversation)
            if unpacked is None or not native.set_state(target.number, unpacked.state):
                self._parked.forget(job.conversation)
                self._empty(target)
                return self._take_up(job)
            self._counters.restores += 1
        elif step.copy_from is not None:
            native.copy(step.copy_from, target.number)
        keep = step.keep if native.cut(target.number, step.keep) else 0
        return sequences.take(step, job.conversation, job.prompt[:keep]), keep

    def _compute(self) -> None:
        jobs = list(self._active)
        for pieces in plan_batches(jobs, self._pace):
            parts: list[BatchTokens] = []
            for piece in pieces:
                job = jobs[piece.job]
                assert job.sequence is not None
                parts.append(BatchTokens(job.sequence.number, job.done, piece.tokens, piece.last))
            began = self._clock.monotonic()
            rows = self._native.decode(parts)
            seconds = self._clock.monotonic() - began
            if not pieces[0].last:
                self._pace.measured(len(pieces[0].tokens), seconds)
            self._counters.computed(pieces, seconds)
            for part, piece, row in zip(parts, pieces, rows, strict=True):
                job = jobs[piece.job]
                self._sequences[part.sequence].tokens.extend(piece.tokens)
                if piece.last:
                    self._draw(job, row)
                elif job.ahead and job.done == len(job.prompt) - 1:
                    self._end(job)
        if self._clock.monotonic() - self._heard > QUIET:
            self._heard = self._clock.monotonic()
            jobs[0].call.send_heartbeat()

    def _draw(self, job: Job, row: int) -> None:
        """The next token of a reply, from the logits of a row of the batch."""
        if job.written >= job.budget:
            self._end(job)
            return
        assert job.sampler is not None
        assert job.streaming is not None
        token = job.sampler.sample(row)
        if self._native.is_end(token):
            self._end(job)
            return
        job.written += 1
        self._counters.completion_tokens += 1
        if text := job.streaming.feed(self._native.piece(token)):
            job.call.send_event(TextDelta(text))
        job.upcoming = token
        if job.streaming.stopped or job.written >= job.budget:
            self._end(job)

    def _end(self, job: Job) -> None:
        """A job is finished, or nobody wants it any more."""
        if job in self._waiting:
            self._waiting.remove(job)
            job.call.complete()
            return
        self._active.remove(job)
        self._release(job)
        if not job.ahead and not job.call.cancelled:
            assert job.streaming is not None
            if text := job.streaming.finish():
                job.call.send_event(TextDelta(text))
            job.call.send_event(
                Usage(
                    prompt_tokens=len(job.prompt),
                    cached_tokens=job.cached,
                    completion_tokens=job.written,
                    seconds=self._clock.monotonic() - job.started,
                )
            )
        job.call.complete()

    def _release(self, job: Job) -> None:
        assert job.sequence is not None
        job.sequence.busy = False
        if job.sampler is not None:
            job.sampler.close()
        if job.sequence.number in self._forgotten:
            self._forgotten.remove(job.sequence.number)
            self._empty(job.sequence)

    def _reset(self) -> None:
        """After an error nothing in the cache is trusted; whoever calls fails all requests."""
        for job in self._active:
            if job.sampler is not None:
                job.sampler.close()
        self._active.clear()
        self._waiting.clear()
        self._forgotten.clear()
        self._native.clear()
        self._sequences.forget_all()


def load(options: Raw) -> tuple[ModelInfo, LlamaEngine]:
    """Raises InferenceError, code `model_not_loaded`."""
    wanted = msgspec.msgpack.decode(options, type=LlamaOptions)
    path = Path(wanted.path)
    if not path.is_file():
        raise InferenceError(
            f"There is no model file {path}. Pull one with `prep-server models pull starter`.",
            code=ErrorCode.MODEL_NOT_LOADED,
            retryable=False,
        )
    native = LlamaContext(wanted)
    parked = KvStore(
        Path(wanted.cache_dir) if wanted.cache_dir else None,
        identity(path, native.build, wanted.cache_type, str(native.flash_attention)),
        wanted.cache_bytes,
    )
    try:
        engine = LlamaEngine(native, parked, SystemClock())
    except InferenceError as error:
        raise InferenceError(
            f"The file {path} cannot be used: {error.message}",
            code=ErrorCode.MODEL_NOT_LOADED,
            retryable=False,
        ) from error
    info = ModelInfo(
        name=path.stem,
        parameters=native.parameters,
        context=native.n_ctx,
        parallel=native.parallel,
        computes_on=native.computes_on,
    )
    return info, engine
