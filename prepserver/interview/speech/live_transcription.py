"""Live transcription of a recording while its audio is arriving."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog

from prepserver.clock import Clock, wait_for
from prepserver.engines.types import ExpectedSpeech, Transcription
from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.events import CaptionUpdated, TimedOut, WorkerLost
from prepserver.wire.error_codes import ErrorCode

__all__ = ["LiveTranscription"]

AUDIO_TIMEOUT = 30.0
"""Seconds without audio after which the live transcription of an unfinished recording releases the
transcriber, since the client may have disconnected."""

log = structlog.get_logger(__name__)


class LiveTranscription:
    """Live transcription of the audio that is passed to `feed`.

    `run` posts captions and sets `result`. Audio that the engine has consumed is not kept in
    memory, only in the interview's database.
    """

    def __init__(self, recording: str, clock: Clock) -> None:
        self.recording = recording
        self._clock = clock
        self.result: asyncio.Future[Transcription] = asyncio.get_running_loop().create_future()
        """Future that receives the transcription of the recording, or a PrepServerError."""
        self._chunks: deque[bytes] = deque()
        self._finished = False
        self._changed = asyncio.Event()
        self._consumed = False

    def feed(self, pcm: bytes) -> None:
        self._chunks.append(pcm)
        self._changed.set()

    def finish(self) -> None:
        """Mark the recording as complete, so that no more audio is awaited."""
        self._finished = True
        self._changed.set()

    async def run(
        self,
        gateway: Gateway,
        call: Call,
        expected: ExpectedSpeech,
        post: Callable[[CaptionUpdated | WorkerLost | TimedOut], None],
    ) -> None:
        """Transcribe until the recording is finished, and set `result` to the outcome.

        The loss of the speech engine and a timeout are posted as events.
        """
        try:
            async with aclosing(
                gateway.transcribe_live(call, self._read_audio, expected)
            ) as events:
                async for event in events:
                    if isinstance(event, Transcription):
                        self._set_result(event)
                    else:
                        post(CaptionUpdated(recording=self.recording, caption=event))
        except _AudioConsumed:
            log.info("live_transcription.worker_lost", interview=call.interview)
            post(WorkerLost(recording=self.recording))
        except TimeoutError:
            post(TimedOut(recording=self.recording))
        except PrepServerError as error:
            self._set_result(error)
        except Exception:
            log.exception("live_transcription.failed", interview=call.interview)
            self._set_result(InferenceError("Live transcription failed."))
        finally:
            self._set_result(
                InferenceError("Live transcription was stopped.", code=ErrorCode.NOT_HEARD)
            )

    def _set_result(self, result: Transcription | PrepServerError) -> None:
        """Set `result` to a transcription or an error, unless it is already set."""
        if self.result.done():
            return
        if isinstance(result, Transcription):
            self.result.set_result(result)
        else:
            self.result.set_exception(result)
            self.result.exception()  # mark as retrieved: no turn may be waiting for it

    async def _read_audio(self) -> AsyncGenerator[bytes, None]:
        """Yield the audio as it arrives. The gateway calls this method again to retry.

        Raises _AudioConsumed on a retry, because the audio is not kept, and TimeoutError if no
        audio arrives for `AUDIO_TIMEOUT` seconds.
        """
        if self._consumed:
            raise _AudioConsumed
        self._consumed = True
        while True:
            while self._chunks:
                yield self._chunks.popleft()
            if self._finished:
                return
            self._changed.clear()
            await wait_for(self._clock, self._changed.wait(), AUDIO_TIMEOUT)


class _AudioConsumed(Exception):
    """The audio was already consumed by an attempt that has failed."""
