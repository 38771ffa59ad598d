"""A recording on its way to an engine."""

from collections.abc import AsyncGenerator, AsyncIterable

from prepserver.clock import Clock
from prepserver.wire.protocol import BYTES_PER_SECOND

__all__ = ["AudioFeed"]


class AudioFeed:
    """A source of sound that is counted, and can be closed whatever it is made of."""

    def __init__(self, source: AsyncIterable[bytes], clock: Clock) -> None:
        self.ended: float | None = None
        """On the monotonic clock: when all of it had come."""
        self._source = source
        self._clock = clock
        self._bytes = 0

    @property
    def seconds(self) -> float:
        """Of sound that has come so far."""
        return self._bytes / BYTES_PER_SECOND

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            async for piece in self._source:
                self._bytes += len(piece)
                yield piece
            self.ended = self._clock.monotonic()
        finally:
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()
