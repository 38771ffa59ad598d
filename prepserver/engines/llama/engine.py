"""Continuous batching of many prompts over one llama.cpp context, in the engine's process."""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from prepserver.clock import Clock, SystemClock
from prepserver.engines.ipc.runner import EngineCall
from prepserver.engines.llama.counters import EngineCounters
from prepserver.engines.llama.job import Job
from prepserver.engines.llama.kv_slots import (
    RECOMPUTE_LIMIT,
    KvSlot,
    KvSlots,
    shared_prefix_length,
)
from prepserver.engines.llama.kv_store import KvStore, model_identity
from prepserver.engines.llama.native import MAX_PREFILL_TOKENS, BatchTokens, LlamaContext
from prepserver.engines.llama.option_tree import OptionTree
from prepserver.engines.llama.options import (
    Discard,
    Generate,
    GetEngineStats,
    LlamaOptions,
    LlamaRequest,
    Offload,
    Prefill,
)
from prepserver.engines.llama.sampler import Sampler
from prepserver.engines.llama.schedule import (
    MIN_PREFILL_TOKENS,
    PRIORITY_AGING,
    TokenBudget,
    plan_batches,
    scheduling_order,
)
from prepserver.engines.llama.tokenizer import PromptTokenizer
from prepserver.engines.option_rules import bad_options, check_options
from prepserver.engines.types import ModelInfo, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["LlamaEngine", "load"]

HEARTBEAT_INTERVAL = 2.0
"""Minimum seconds between two heartbeats while the engine is computing."""

_request_decoder: msgspec.msgpack.Decoder[LlamaRequest] = msgspec.msgpack.Decoder(LlamaRequest)


class LlamaEngine:
    """Inference engine with one llama.cpp context, its KV slots, and the waiting and active jobs.

    Implements `prepserver.engines.ipc.runner.Engine`.
    """

    def __init__(self, native: LlamaContext, store: KvStore, clock: Clock) -> None:
        """Create an idle engine."""
        self._native = native
        self._store = store
        self._clock = clock
        self._tokenizer = PromptTokenizer(native)
        self._slots = KvSlots(native.n_slots)
        self._budget = TokenBudget(MAX_PREFILL_TOKENS)
        self._counters = EngineCounters()
        self._waiting: list[Job] = []
        self._active: list[Job] = []
        self._slots_to_clear: set[int] = set()
        """Ids of busy slots whose conversations were discarded. Each slot is cleared when it is
        released."""
        self._last_heartbeat = clock.monotonic()

    def check_template(self) -> None:
        """Raise InferenceError, code `bad_chat`, if the model's chat template renders no chat."""
        if self._tokenizer.template.failure is not None:
            raise self._tokenizer.template.failure

    def warm_up(self) -> None:
        """Compute a few tokens, so that the engine knows its speed before the first prompt
        arrives."""
        began = self._clock.monotonic()
        self._native.decode([BatchTokens(0, 0, range(MIN_PREFILL_TOKENS), False)])
        self._budget.record_prefill(MIN_PREFILL_TOKENS, self._clock.monotonic() - began)
        self._native.clear_cache()

    # --- Requests -----------------------------------------------------------------------------

    def submit(self, call: EngineCall) -> None:
        """Queue a prompt, or complete a request of another kind at once.

        Raises InferenceError: code `context_overflow` if the prompt does not fit into the context
        or leaves no room for the requested reply, code `bad_chat` if a chat cannot be rendered.
        """
        match _request_decoder.decode(call.payload):
            case Generate(prompt=prompt):
                self._enqueue(self._create_job(call, prompt, is_prefill=False))
            case Prefill(prompt=prompt):
                self._enqueue(self._create_job(call, prompt, is_prefill=True))
            case Offload(conversation=conversation):
                self._offload(conversation)
                call.complete()
            case Discard(conversation=conversation):
                self._discard(conversation)
                call.complete()
            case GetEngineStats():
                self._end_cancelled_jobs()
                call.send_event(self._counters.stats(self._slots, self._waiting, self._store))
                call.complete()

    def _create_job(self, call: EngineCall, prompt: Prompt, *, is_prefill: bool) -> Job:
        tree = None if is_prefill else self._create_option_tree(prompt)
        tokens = tree.prompt_tokens if tree else self._tokenizer.tokenize(prompt)
        n_ctx = self._native.n_ctx
        free = n_ctx - len(tokens)
        requested = 0 if is_prefill else tree.depth if tree else prompt.max_tokens
        max_tokens = min(requested, free)
        if free < 0 or max_tokens <= 0 < requested:
            raise InferenceError(
                f"The prompt of {len(tokens)} tokens does not fit into the model's context of"
                f" {n_ctx} tokens. Shorten the prompt, or set a larger `context` if the"
                " model supports it.",
                code=ErrorCode.CONTEXT_OVERFLOW,
                retryable=False,
                details={"tokens": len(tokens), "context": n_ctx},
            )
        return Job(
            call=call,
            prompt=prompt,
            prompt_tokens=tokens,
            max_tokens=max_tokens,
            option_tree=tree,
            arrived_at=self._clock.monotonic(),
            is_prefill=is_prefill,
        )

    def _create_option_tree(self, prompt: Prompt) -> OptionTree | None:
        """Return the tree of the prompt's options, or None if the prompt has no options.

        Raises InferenceError, code `bad_grammar`, if the options break a rule.
        """
        if not prompt.options:
            return None
        check_options(prompt)
        tree = OptionTree(self._tokenizer.tokenize_options(prompt))
        if tree.depth > (MAX_PREFILL_TOKENS if self._native.can_truncate else 0):
            raise bad_options(
                "The options have too many tokens in common. Give options that differ in their"
                " first characters, such as numbers."
            )
        return tree

    def _enqueue(self, job: Job) -> None:
        """Queue a job and end any prefill of the same conversation. The prefill's tokens stay in
        the cache."""
        for other in [*self._waiting, *self._active]:
            if other.is_prefill and job.conversation and other.conversation == job.conversation:
                self._end(other)
        self._waiting.append(job)

    def _offload(self, conversation: str) -> None:
        """If the conversation has a slot, save the conversation's KV state to disk, and clear the
        slot unless the slot is busy.

        Nothing is saved if the store has no folder, the slot holds at most RECOMPUTE_LIMIT tokens,
        or the store already holds the same tokens.
        """
        slot = self._slots.find(conversation)
        if slot is not None:
            self._save(slot)
            if not slot.busy:
                self._clear_slot(slot)

    def _save(self, slot: KvSlot) -> None:
        if self._store.enabled and len(slot.tokens) > RECOMPUTE_LIMIT:
            # Usually nothing has changed since the conversation was restored.
            if self._store.stored_tokens(slot.conversation) == slot.tokens:
                return
            self._store.save(slot.conversation, slot.tokens, self._native.save_slot(slot.id))

    def _discard(self, conversation: str) -> None:
        self._store.delete(conversation)
        slot = self._slots.find(conversation)
        if slot is None:
            return
        slot.conversation = ""
        if slot.busy:
            self._slots_to_clear.add(slot.id)
        else:
            self._clear_slot(slot)

    def _clear_slot(self, slot: KvSlot) -> None:
        self._native.clear_slot(slot.id)
        slot.tokens, slot.conversation = [], ""

    # --- Steps --------------------------------------------------------------------------------

    def run_step(self) -> bool:
        """Start waiting jobs and compute the next batches. Return True while a job is open."""
        self._end_cancelled_jobs()
        self._preempt_prefills()
        for job in scheduling_order(self._waiting):
            self._try_start(job)
        if not self._active:
            return bool(self._waiting)
        try:
            self._compute()
        except Exception:
            self._reset()
            raise
        return bool(self._active or self._waiting)

    def _end_cancelled_jobs(self) -> None:
        for job in [*self._waiting, *self._active]:
            if job.call.cancelled:
                self._end(job)

    def _preempt_prefills(self) -> None:
        """Free slots for waiting replies by ending the least urgent prefills.

        The tokens that a prefill has computed stay in the cache.
        """
        prefills = [job for job in self._active if job.is_prefill]
        needed = sum(not job.is_prefill for job in self._waiting) - self._slots.idle_count
        for job in scheduling_order(prefills)[::-1][: max(0, needed)]:
            self._end(job)

    def _try_start(self, job: Job) -> None:
        """Start a waiting job if a slot is available to the job. Fail the job if its grammar or
        schema is invalid."""
        idle = self._slots.idle_count
        own = self._slots.find(job.conversation)
        waited = self._clock.monotonic() - job.arrived_at
        if (
            not idle
            # Reserve the last slot for answers, until the job has waited long enough.
            or (idle == 1 < self._native.n_slots and waited < PRIORITY_AGING[job.priority])
            # A prefill is useful only in its conversation's own slot.
            or (job.is_prefill and own is not None and own.busy)
        ):
            return
        try:
            sampler = (
                None
                if job.is_prefill or job.option_tree
                else Sampler(self._native, job.prompt, job.prompt_tokens)
            )
        except InferenceError as error:
            self._waiting.remove(job)
            job.call.fail(error)
            return
        job.started_at = self._clock.monotonic()
        job.sampler = sampler
        job.slot, job.cached = self._prepare_slot(job)
        self._waiting.remove(job)
        self._active.append(job)
        self._counters.record_start(job)
        if job.prefilled:
            self._end(job)

    def _prepare_slot(self, job: Job) -> tuple[KvSlot, int]:
        """Assign a slot to a job.

        Return the slot and the number of the prompt's leading tokens that the slot already holds.
        """
        native, slots = self._native, self._slots
        stored = shared_prefix_length(
            self._store.stored_tokens(job.conversation), job.prompt_tokens
        )
        plan = slots.plan(job.conversation, job.prompt_tokens, stored)
        assert plan is not None, "a slot was idle"
        slot = slots[plan.slot]
        if plan.evict:
            self._counters.evictions += 1
            self._save(slot)
        if plan.restore:
            restored = self._store.load(job.conversation)
            if restored is None or not native.restore_slot(slot.id, restored.state):
                self._store.delete(job.conversation)
                self._clear_slot(slot)
                return self._prepare_slot(job)
            self._counters.restores += 1
        elif plan.copy_from is not None:
            native.copy_slot(plan.copy_from, slot.id)
        keep = plan.keep if native.truncate_slot(slot.id, plan.keep) else 0
        return slots.assign(plan, job.conversation, job.prompt_tokens[:keep]), keep

    def _compute(self) -> None:
        jobs = list(self._active)
        for chunks in plan_batches(jobs, self._budget):
            parts: list[BatchTokens] = []
            for chunk in chunks:
                job = jobs[chunk.job]
                assert job.slot is not None
                parts.append(
                    BatchTokens(job.slot.id, job.computed, chunk.tokens, chunk.wants_logits)
                )
            began = self._clock.monotonic()
            indices = self._native.decode(parts)
            seconds = self._clock.monotonic() - began
            if not chunks[0].wants_logits:
                self._budget.record_prefill(len(chunks[0].tokens), seconds)
            self._counters.record_batch(chunks, seconds)
            scored: list[tuple[Job, NDArray[np.float32]]] = []
            for part, chunk, index in zip(parts, chunks, indices, strict=True):
                job = jobs[chunk.job]
                self._slots[part.slot].tokens.extend(chunk.tokens)
                if chunk.wants_logits and job.option_tree:
                    scored.append((job, self._native.logits(index)))
                elif chunk.wants_logits:
                    self._sample_token(job, index)
                elif job.prefilled:
                    self._end(job)
            # Last, because scoring may compute further batches, which replace the logits.
            for job, logits in scored:
                self._score_options(job, logits)
        if self._clock.monotonic() - self._last_heartbeat > HEARTBEAT_INTERVAL:
            self._last_heartbeat = self._clock.monotonic()
            jobs[0].call.send_heartbeat()

    def _sample_token(self, job: Job, index: int) -> None:
        """Sample a job's next token from the logits at `index` of the batch, and send the token's
        text.

        The job is ended when its reply is complete.
        """
        if job.generated >= job.max_tokens:
            self._end(job)
            return
        assert job.sampler is not None
        token = job.sampler.sample(index)
        if self._native.is_end_of_generation(token):
            self._end(job)
            return
        job.generated += 1
        self._counters.completion_tokens += 1
        if text := job.decoder.decode(self._native.token_to_piece(token)):
            job.call.send_event(TextDelta(text))
        job.next_token = token
        if job.generated >= job.max_tokens:
            self._end(job)

    def _score_options(self, job: Job, logits: NDArray[np.float32]) -> None:
        """Send the most probable option and end the job. `logits` are those after the prompt.

        The slot holds the prompt alone afterwards.
        """
        tree, slot = job.option_tree, job.slot
        assert tree is not None
        assert slot is not None

        def logits_after(path: tuple[int, ...]) -> NDArray[np.float32]:
            if not path:
                return logits
            indices = self._native.decode([BatchTokens(slot.id, job.computed, path, True)])
            self._native.truncate_slot(slot.id, job.computed)
            return self._native.logits(indices[0])

        job.probabilities = tree.probabilities(logits_after)
        best = max(job.probabilities)
        job.call.send_event(TextDelta(job.prompt.options[job.probabilities.index(best)]))
        self._end(job)

    def _end(self, job: Job) -> None:
        """End a job that is finished, cancelled or preempted."""
        if job in self._waiting:
            self._waiting.remove(job)
            job.call.complete()
            return
        self._active.remove(job)
        self._release_slot(job)
        if not job.is_prefill and not job.call.cancelled:
            job.call.send_event(
                Usage(
                    prompt_tokens=len(job.prompt_tokens),
                    cached_tokens=job.cached,
                    completion_tokens=job.generated,
                    seconds=self._clock.monotonic() - job.started_at,
                    probabilities=job.probabilities,
                )
            )
        job.call.complete()

    def _release_slot(self, job: Job) -> None:
        assert job.slot is not None
        job.slot.busy = False
        if job.sampler is not None:
            job.sampler.close()
        if job.slot.id in self._slots_to_clear:
            self._slots_to_clear.remove(job.slot.id)
            self._clear_slot(job.slot)

    def _reset(self) -> None:
        """Drop all jobs and clear the cache, whose content is unreliable after an error.

        The engine loop fails the open requests.
        """
        for job in self._active:
            if job.sampler is not None:
                job.sampler.close()
        self._active.clear()
        self._waiting.clear()
        self._slots_to_clear.clear()
        self._native.clear_cache()
        self._slots.reset()


def load(raw_options: Raw) -> tuple[ModelInfo, LlamaEngine]:
    """Load the model described by the encoded LlamaOptions. Return the model's properties and an
    engine.

    Raises InferenceError, code `model_not_loaded`, if the model cannot be loaded.
    """
    options = msgspec.msgpack.decode(raw_options, type=LlamaOptions)
    path = Path(options.path)
    if not path.is_file():
        raise InferenceError(
            f"There is no model file {path}. Fetch one with `prep-server models pull starter`.",
            code=ErrorCode.MODEL_NOT_LOADED,
            retryable=False,
        )
    native = LlamaContext(options)
    store = KvStore(
        Path(options.kv_store_dir) if options.kv_store_dir else None,
        model_identity(path, native.build, options.cache_type, str(native.flash_attention)),
        options.kv_store_limit,
    )
    engine = LlamaEngine(native, store, SystemClock())
    info = ModelInfo(
        name=native.name,
        parameters=native.parameters,
        context=native.n_ctx,
        parallel=native.n_slots,
        gpu=native.uses_gpu,
    )
    if not info.few_shot:
        try:
            engine.check_template()
        except InferenceError as error:
            raise InferenceError(
                f"The model file {path} cannot be used: {error.message}",
                code=ErrorCode.MODEL_NOT_LOADED,
                retryable=False,
            ) from error
    engine.warm_up()
    return info, engine
