"""The language model's work on one prompt, in the engine's own process."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Raw

from prepserver.ai.child import Call, Serial
from prepserver.ai.llama.chat import ChatTemplate, Mask
from prepserver.ai.llama.kept import Kept
from prepserver.ai.llama.native import BATCH, Native
from prepserver.ai.llama.options import LlamaOptions
from prepserver.ai.llama.sampler import Sampler
from prepserver.ai.llama.streaming import Streaming
from prepserver.ai.values import Delta, ModelInfo, Prompt, Usage
from prepserver.clock import Clock, SystemClock
from prepserver.errors import InferenceError

__all__ = ["LlamaEngine", "load"]


class LlamaEngine:
    """One prompt at a time; several conversations are kept in the cache."""

    def __init__(self, native: Native, conversations: int, clock: Clock) -> None:
        self._native = native
        self._clock = clock
        self._kept = Kept(conversations, native.n_ctx)
        self._mask = Mask(native.control_texts())
        source = native.chat_template
        self._template = (
            ChatTemplate(source, bos=native.bos_text, eos=native.eos_text) if source else None
        )

    def run(self, call: Call) -> Generator[Delta | Usage, None, None]:
        """Deltas, then one Usage. Raises InferenceError."""
        prompt = msgspec.msgpack.decode(call.payload, type=Prompt)
        started = self._clock.monotonic()
        tokens = self._tokens(prompt)
        budget = min(prompt.max_tokens, self._native.n_ctx - len(tokens))
        if budget <= 0 < prompt.max_tokens:
            raise InferenceError(
                f"The prompt has {len(tokens)} tokens and the model's context {self._native.n_ctx}"
                "; shorten the prompt, or set a larger context if the model has one.",
                code="context_overflow",
                retryable=False,
                details={"tokens": len(tokens), "context": self._native.n_ctx},
            )
        with closing(Sampler(self._native, prompt, tokens)) as sampler:
            sequence, cached = self._take_up(tokens, budget)
            if not self._read(call, tokens, sequence):
                return
            count = yield from self._write(call, sampler, sequence, prompt, budget)
        yield Usage(
            prompt_tokens=len(tokens),
            cached_tokens=cached,
            completion_tokens=count,
            seconds=self._clock.monotonic() - started,
        )

    def _tokens(self, prompt: Prompt) -> list[int]:
        if not prompt.turns:
            # A model must be given something to go on from, and so that control tokens in what
            # people said stay text, none are read here.
            text = prompt.text + prompt.opening
            tokens = self._native.tokenize(text, control=False)
            return tokens or self._native.tokenize("\n", control=False)
        if self._template is None:
            raise InferenceError(
                "This model's file has no chat template; give it text to go on from instead.",
                code="bad_chat",
                retryable=False,
            )
        turns = [msgspec.structs.replace(t, content=self._mask(t.content)) for t in prompt.turns]
        text = self._template.render(turns) + self._mask(prompt.opening)
        return self._native.tokenize(text, control=True)

    def _take_up(self, tokens: list[int], budget: int) -> tuple[int, int]:
        """Prepare a sequence for the prompt: its number, and how many tokens it has already."""
        native, kept = self._native, self._kept
        step = kept.plan(tokens, len(tokens) + budget)
        if step.copy_from is not None:
            native.copy(step.copy_from, step.sequence)
        for evicted in step.evict:
            native.empty(evicted)
        whole = native.cut(step.sequence, step.keep)
        kept.begin(step if whole else msgspec.structs.replace(step, keep=0))
        return step.sequence, step.keep if whole else 0

    def _read(self, call: Call, tokens: list[int], sequence: int) -> bool:
        """Compute what is not in the cache yet; False when the request was cancelled."""
        done = self._kept.tokens[sequence]
        # The last token always goes alone: a batch's logits differ in the last digits from one
        # token's, and a prompt that is asked again, all but one token of it cached, must give
        # the same text as it did the first time.
        last = len(tokens) - 1
        self._native.abort_when(lambda: call.cancelled)
        try:
            while len(done) < len(tokens):
                part = tokens[len(done) : min(len(done) + BATCH, max(last, len(done) + 1))]
                if call.cancelled or not self._decode(part, sequence):
                    return False
                call.alive()
        finally:
            self._native.abort_when(None)
        return True

    def _write(
        self, call: Call, sampler: Sampler, sequence: int, prompt: Prompt, budget: int
    ) -> Generator[Delta, None, int]:
        """Text as it becomes certain; returns how many tokens were drawn."""
        streaming = Streaming(prompt.stop)
        count = 0
        while count < budget and not call.cancelled:
            token = sampler.sample()
            if self._native.is_end(token):
                break
            count += 1
            if text := streaming.feed(self._native.piece(token)):
                yield Delta(text)
            else:
                call.alive()
            if streaming.stopped or count == budget:
                break
            self._decode([token], sequence)
        if text := streaming.finish():
            yield Delta(text)
        return count

    def _decode(self, tokens: list[int], sequence: int) -> bool:
        done = self._kept.tokens[sequence]
        try:
            complete = self._native.decode(tokens, len(done), sequence)
        except InferenceError:
            self._kept.forget()
            raise
        if complete:
            done.extend(tokens)
        return complete


def load(options: Raw) -> tuple[ModelInfo, Serial]:
    """Raises InferenceError, code `model_not_loaded`."""
    wanted = msgspec.msgpack.decode(options, type=LlamaOptions)
    path = Path(wanted.path)
    if not path.is_file():
        raise InferenceError(
            f"There is no model file {path}. Pull one with `prep-server models pull starter`.",
            code="model_not_loaded",
            retryable=False,
        )
    native = Native(wanted)
    info = ModelInfo(name=path.stem, parameters=native.parameters, context=native.n_ctx)
    return info, Serial(LlamaEngine(native, wanted.conversations, SystemClock()).run)
