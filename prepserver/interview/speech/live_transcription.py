"""A recording that is written down while it is spoken. Runs beside the interview."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog
from msgspec import Struct

from prepserver.clock import Clock, wait_for
from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.wire.error_codes import ErrorCode

__all__ = ["CaptionUpdated", "LiveTranscription", "TimedOut", "WorkerLost"]

AUDIO_TIMEOUT = 30.0
"""Seconds without a sound of a recording that is not whole, as when its speaker has gone, before
the ears are free again."""

log = structlog.get_logger(__name__)


class CaptionUpdated(Struct, frozen=True, kw_only=True):
    """Event: a caption of a recording."""

    recording: str
    caption: PartialTranscript


class WorkerLost(Struct, frozen=True, kw_only=True):
    """Event: the ears died, and what they had heard with them; they must hear it all again."""

    recording: str


class TimedOut(Struct, frozen=True, kw_only=True):
    """Event: no sound came for a while, and the ears were given to somebody else."""

    recording: str


class LiveTranscription:
    """Sound goes in by `feed`, captions come out by `run`, and `speech` has the whole at the end.

    Sound that the ears have taken is not kept here: it is in the interview's database.
    """

    def __init__(self, recording: str, clock: Clock) -> None:
        self.recording = recording
        self._clock = clock
        self.speech: asyncio.Future[Transcription] = asyncio.get_running_loop().create_future()
        """What was said. Raises PrepServerError."""
        self._pieces: deque[bytes] = deque()
        self._whole = False
        self._news = asyncio.Event()
        self._begun = False

    def feed(self, pcm: bytes) -> None:
        self._pieces.append(pcm)
        self._news.set()

    def finish(self) -> None:
        """The recording is whole."""
        self._whole = True
        self._news.set()

    async def run(
        self,
        gateway: Gateway,
        call: Call,
        vocabulary: str,
        post: Callable[[CaptionUpdated | WorkerLost | TimedOut], None],
    ) -> None:
        try:
            async with aclosing(gateway.transcribe_live(call, self._audio, vocabulary)) as events:
                async for event in events:
                    if isinstance(event, Transcription):
                        self._settle(event)
                    else:
                        post(CaptionUpdated(recording=self.recording, caption=event))
        except _AudioConsumed:
            log.info("listening.lost", interview=call.interview)
            post(WorkerLost(recording=self.recording))
        except TimeoutError:
            post(TimedOut(recording=self.recording))
        except PrepServerError as error:
            self._settle(error)
        except Exception:
            log.exception("listening.failed", interview=call.interview)
            self._settle(InferenceError("The recording could not be followed."))
        finally:
            self._settle(InferenceError("Listening was given up.", code=ErrorCode.NOT_HEARD))

    def _settle(self, outcome: Transcription | PrepServerError) -> None:
        if self.speech.done():
            return
        if isinstance(outcome, Transcription):
            self.speech.set_result(outcome)
        else:
            self.speech.set_exception(outcome)
            self.speech.exception()  # there may be nobody who waits

    async def _audio(self) -> AsyncGenerator[bytes, None]:
        if self._begun:
            raise _AudioConsumed
        self._begun = True
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self._whole:
                return
            self._news.clear()
            await wait_for(self._clock, self._news.wait(), AUDIO_TIMEOUT)


class _AudioConsumed(Exception):
    """The sound was given to ears that are gone."""
