"""Pool of model sets. A set is opened by its first call and closed when another needs its memory.

Sets are closed in the order of their last use, never while a call is using them. The bound is on
the memory that the sets state. A set that alone exceeds the bound is opened once no other is open.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog
from msgspec import Struct

from prepserver.clock import Clock, wait_for
from prepserver.engines.types import LanguageModel, SpeechModel
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.admission import Admission
from prepserver.gateway.fallback import Backend, FallbackChain, RetryPolicy
from prepserver.wire.error_codes import ErrorCode

__all__ = ["FixedSet", "ModelPool", "ModelSource", "OpenSet", "SetModels"]

ROOM_TIMEOUT = 120.0
"""Maximum seconds that a call waits until the sets in use leave enough memory for its set."""

log = structlog.get_logger(__name__)


class SetModels(Struct, frozen=True, kw_only=True):
    """Models of one set, which are not loaded yet. The first of each kind is the primary model."""

    language: Sequence[LanguageModel]
    speech: Sequence[SpeechModel]
    memory: int = 0
    """Bytes of this machine's memory that the loaded models use; 0 for remote models."""


class ModelSource(Protocol):
    """Source of the sets that the server offers."""

    def resolve(self, name: str) -> str:
        """Return `name` if that set can be used now, otherwise the set that replaces it; for the
        empty name, the set that new interviews use."""

    def create(self, name: str) -> SetModels:
        """Return the models of a set that `resolve` has returned.

        The call may block on the disk. Raises PrepServerError if a model is missing or damaged; the
        source then no longer resolves to this set if it offers another.
        """


class FixedSet:
    """Source of a single set, whatever name is asked for."""

    NAME = "custom"

    def __init__(self, models: SetModels) -> None:
        self._models = models

    def resolve(self, name: str) -> str:
        return self.NAME

    def create(self, name: str) -> SetModels:
        return self._models


class OpenSet:
    """Set whose models are loaded or being loaded."""

    def __init__(
        self,
        name: str,
        models: SetModels,
        clock: Clock,
        retries: RetryPolicy,
        admission: Callable[[bool], Admission],
    ) -> None:
        """Chain the models. `admission` returns the admission control of a new backend; its
        argument is True for a speech model."""
        self.name = name
        self.memory = models.memory
        self.users = 0
        """Number of calls that are using the set."""
        self.language = FallbackChain(
            [
                Backend(model, "interviewer", clock, retries, admission(False))
                for model in models.language
            ],
            clock,
            retries,
        )
        self.speech = FallbackChain(
            [
                Backend(model, model.name, clock, retries, admission(True))
                for model in models.speech
            ],
            clock,
            retries,
        )

    def start(self) -> None:
        """Start loading every model; calls made in the meantime wait."""
        self.language.start()
        self.speech.start()

    async def close(self) -> None:
        await asyncio.gather(self.language.close(), self.speech.close())


class ModelPool:
    """Open sets within a bound on their memory."""

    def __init__(
        self,
        source: ModelSource,
        clock: Clock,
        retries: RetryPolicy,
        admission: Callable[[bool], Admission],
        memory: int = 0,
    ) -> None:
        """`memory` is the bound in bytes; 0 means no bound. `admission` is that of `OpenSet`."""
        self._source = source
        self._clock = clock
        self._retries = retries
        self._admission = admission
        self._memory = memory
        self._sets: dict[str, OpenSet] = {}
        """Open sets by name; the least recently used comes first."""
        self._opening = asyncio.Lock()
        self._idle = asyncio.Event()
        """Set when a call has left a set without users."""

    @property
    def sets(self) -> tuple[OpenSet, ...]:
        """Open sets, the least recently used first."""
        return tuple(self._sets.values())

    @property
    def current(self) -> OpenSet | None:
        """Set that new interviews use or, while it is not loaded, another open set that is; None if
        no set is open."""
        current = self._sets.get(self._source.resolve(""))
        ordered = [*([current] if current else []), *reversed(self.sets)]
        loaded = (
            each for each in ordered if "loading" not in (each.language.state, each.speech.state)
        )
        return next(loaded, ordered[0] if ordered else None)

    def resolve(self, name: str) -> str:
        """Return the name of the set that replaces `name`; see `ModelSource.resolve`."""
        return self._source.resolve(name)

    def start(self) -> None:
        """Start loading the set that new interviews use. Raises PrepServerError if it cannot be
        created."""
        name = self._source.resolve("")
        self._add(self._build(name, self._source.create(name)))

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[OpenSet]:
        """Keep a set open within the `async with` block, and open it first if necessary.

        Raises InferenceError if no set can be created, or with the code `overloaded` if the sets in
        use leave too little memory for `ROOM_TIMEOUT` seconds.
        """
        opened = self._find(name) or await self._open(name)
        opened.users += 1
        self._sets[opened.name] = self._sets.pop(opened.name)
        try:
            yield opened
        finally:
            opened.users -= 1
            if not opened.users:
                self._idle.set()

    def _find(self, name: str) -> OpenSet | None:
        return self._sets.get(self._source.resolve(name))

    async def _open(self, name: str) -> OpenSet:
        async with self._opening:
            while (opened := self._find(name)) is None:
                resolved = self._source.resolve(name)
                try:
                    models = await asyncio.to_thread(self._source.create, resolved)
                except PrepServerError as error:
                    log.error("model_set.not_opened", set=resolved, message=error.message)
                    if self._source.resolve(name) == resolved:
                        raise InferenceError(
                            error.message, code=error.code, retryable=error.retryable
                        ) from error
                    continue
                opened = self._build(resolved, models)
                try:
                    await self._make_room(models.memory)
                except BaseException:
                    await opened.close()
                    raise
                self._add(opened)
            return opened

    def _build(self, name: str, models: SetModels) -> OpenSet:
        return OpenSet(name, models, self._clock, self._retries, self._admission)

    def _add(self, opened: OpenSet) -> None:
        self._sets[opened.name] = opened
        log.info("model_set.opened", set=opened.name, memory=opened.memory)
        opened.start()

    async def _make_room(self, needed: int) -> None:
        """Close idle sets until `needed` bytes fit into the bound, waiting for sets in use."""
        while self._memory and needed and self._used + needed > self._memory:
            victim = next((each for each in self.sets if each.memory and not each.users), None)
            if victim is not None:
                del self._sets[victim.name]
                log.info("model_set.closed", set=victim.name)
                await victim.close()
            elif not self._used:
                return  # the set alone exceeds the bound
            else:
                await self._wait_for_idle()

    @property
    def _used(self) -> int:
        return sum(each.memory for each in self.sets)

    async def _wait_for_idle(self) -> None:
        self._idle.clear()
        try:
            await wait_for(self._clock, self._idle.wait(), ROOM_TIMEOUT)
        except TimeoutError:
            raise InferenceError(
                "Other interviews are using the machine's memory for other models. Try again in a "
                "minute.",
                code=ErrorCode.OVERLOADED,
            ) from None

    async def close(self) -> None:
        """Close all sets."""
        await asyncio.gather(*(each.close() for each in self.sets))
