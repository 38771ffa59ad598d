"""`prep-server models recommend`: a measurement of this machine, and the set of models for it.

The installed language model is measured for three seconds, through its engine. The speed of another
model is estimated from the sizes of the files: to generate a token, a processor reads every weight
once, so the speed is at best the memory bandwidth divided by the size (S. Williams, A. Waterman, D.
Patterson: Roofline, CACM 52, 2009). To read a token of a prompt, the work is proportional to the
number of weights as well. Small models fall short of that bound because of costs per layer, so an
estimate from a smaller model is pessimistic.
"""

import asyncio
import logging
from contextlib import aclosing
from pathlib import Path

import click
import structlog
from msgspec import Struct

from prepserver.clock import Clock, SystemClock
from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.types import Prompt, TextDelta
from prepserver.folders import default_models_dir
from prepserver.model_sets import this_machine
from prepserver.models.catalogue import ModelSet
from prepserver.models.sets import Machine, choose_set, find_obstacle, is_set_installed
from prepserver.models.store import ModelStore

__all__ = ["Speed", "measure", "print_recommendation", "report"]

MEASURED_SECONDS = 3.0
"""Seconds for which the model generates."""
PROMPT_WORDS = 64
"""Number of words in the prompt that the model reads for the measurement."""
MAX_FIRST_WORD = 5.0
"""Seconds until the first word of a reply above which a set is not recommended."""
UNREAD_TOKENS = 40
"""Tokens that are read between the end of an answer and the first word of the reply. The others
were read while the candidate spoke or typed."""


class Speed(Struct, frozen=True, kw_only=True):
    """Speed of a language model in tokens per second."""

    read: float
    """Tokens of a prompt."""
    write: float
    """Tokens of a reply."""
    gpu: bool = False

    @property
    def first_word(self) -> float:
        """Seconds from the end of an answer to the first word of the reply."""
        return UNREAD_TOKENS / self.read + 1 / self.write

    def scaled(self, factor: float) -> "Speed":
        """Return the speed of a model whose file is `factor` times as large."""
        return Speed(read=self.read / factor, write=self.write / factor, gpu=self.gpu)


def print_recommendation() -> None:
    """Measure the largest installed set that this machine can run, and print the recommendation.

    Raises InferenceError if its language model cannot be loaded, and ModelError if it is damaged.
    """
    # The engines' log lines would appear among the recommendation.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    store, machine = ModelStore(default_models_dir()), this_machine()
    installed = [each for each in store.catalogue.sets if is_set_installed(store, each)]
    measured, speed = choose_set(installed, machine), None
    if measured is not None:
        path = store.resolve(measured.language)
        click.echo(f"Measuring {measured.language} for {MEASURED_SECONDS:g} s.", err=True)
        speed = asyncio.run(measure(path, SystemClock()))
    for line in report(store, machine, measured, speed):
        click.echo(line)


async def measure(path: Path, clock: Clock) -> Speed:
    """Load a language model, and measure how fast it reads a prompt and writes a reply.

    Raises InferenceError if the model cannot be loaded or fails.
    """
    model = LlamaModel(LlamaOptions(path=str(path), n_ctx=1_024, parallel=1), clock)
    words = " ".join("one two three four five six seven eight".split() * (PROMPT_WORDS // 8))
    prompt = Prompt(text=words, max_tokens=512, temperature=0.0)
    try:
        info = await model.start()
        started = clock.monotonic()
        first, written, prompt_tokens = 0.0, 0, PROMPT_WORDS
        async with aclosing(model.generate(prompt)) as events:
            async for event in events:
                if not isinstance(event, TextDelta):
                    prompt_tokens = event.prompt_tokens
                elif not written:
                    first, written = clock.monotonic(), 1
                else:
                    written += 1
                if written > 1 and clock.monotonic() - first >= MEASURED_SECONDS:
                    break
        seconds = max(1e-6, clock.monotonic() - first)
    finally:
        await model.close()
    return Speed(
        read=prompt_tokens / max(1e-6, first - started),
        write=max(1, written - 1) / seconds,
        gpu=info.gpu,
    )


def report(
    store: ModelStore, machine: Machine, measured: ModelSet | None, speed: Speed | None
) -> list[str]:
    """Return the lines that describe the machine, what to expect of each set, and what to run.

    `measured` is the set whose language model has the given `speed`; without it, no set is
    installed and nothing is estimated.
    """
    cores = "1 processor core" if machine.cores == 1 else f"{machine.cores} processor cores"
    card = "a graphics card" if speed is not None and speed.gpu else "no graphics card in use"
    lines = [f"This machine: {machine.memory / 1e9:.0f} GB of memory, {cores}, {card}."]
    able: list[ModelSet] = []
    for each in store.catalogue.sets:
        obstacle = find_obstacle(each, machine)
        if obstacle:
            lines.append(f"{each.name}: {obstacle}.")
            continue
        if speed is None or measured is None:
            able.append(each)
            lines.append(f"{each.name}: not measured, because no models are installed.")
            continue
        size, known = (_language_size(store, one) for one in (each, measured))
        expected = speed.scaled(size / known)
        if expected.first_word <= MAX_FIRST_WORD:
            able.append(each)
        about = "measured" if each is measured else "estimated"
        lines.append(
            f"{each.name}: first word after about {expected.first_word:.1f} s, then "
            f"{expected.write:.2g} tokens a second ({about})."
        )
    best = choose_set(able, machine) or store.catalogue.sets[0]
    if is_set_installed(store, best):
        lines.append(f"Recommended: {best.name}. Use it with: prep models use {best.name}")
    else:
        lines.append(f"Recommended: {best.name}. Fetch it with: prep models get {best.name}")
    return lines


def _language_size(store: ModelStore, chosen: ModelSet) -> int:
    return store.catalogue.models_of(chosen)[0].size
