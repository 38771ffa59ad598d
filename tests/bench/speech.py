"""Latency and accuracy of transcripts, and the lag of live captions."""

import asyncio
import statistics
import tempfile
from contextlib import aclosing
from pathlib import Path

import msgspec

from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.gateway.gateway import Call
from prepserver.wire.protocol import BYTES_PER_SECOND
from tests.bench.models import (
    MULTILINGUAL_SPEECH_MODEL,
    SPEECH_MODEL,
    THREADS,
    PrepModels,
    ScriptPeer,
)
from tests.bench.report import Row, make_row, p95
from tests.bench.sounds import ANSWER_CLIPS, PacedPlayer, clip_paths, clip_pcm, long_recording
from tests.server.engines.whisper.sounds import reference_transcripts
from tests.support.wer import normalise, wer

__all__ = ["run"]

SYNTHETIC, REAL = reference_transcripts(), reference_transcripts("real/")
REFERENCES = SYNTHETIC | REAL
PYWHISPERCPP = "pywhispercpp on the whole clip"


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    repetitions: int = 5
    answer: tuple[str, ...] = ANSWER_CLIPS
    """Names of the recordings that are joined into one answer."""
    recordings: tuple[str, ...] = tuple(SYNTHETIC)
    """Names of the recordings used for the word error rate and for the long answer."""
    real: tuple[str, ...] = tuple(REAL)
    """Names of the recordings of people used for the word error rate."""
    long: float = 600.0
    """Duration of the long answer in seconds."""
    part: float = 60.0
    """Seconds at the beginning and at the end of the long answer whose caption lags are
    compared."""


QUICK = Sizes(
    repetitions=1,
    answer=("short-answer",),
    recordings=("short-answer",),
    real=(),
    long=20.0,
    part=8.0,
)


class TimedTranscription(msgspec.Struct, frozen=True, kw_only=True):
    """Transcript of a recording that was played at speaking pace, with its timing."""

    text: str
    waited: float
    """Seconds from the end of the recording to the transcript."""
    lags: tuple[tuple[float, float], ...]
    """For each caption, the seconds of audio that the caption covers, and the delay of the caption
    in seconds after the end of that audio."""


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(QUICK if quick else Sizes()))


async def _run(sizes: Sizes) -> list[Row]:
    rows = await _measure_model(SPEECH_MODEL, sizes)
    if sizes.real and not MULTILINGUAL_SPEECH_MODEL.exists():
        print(
            "whisper-base is not measured, because it is not installed: run `prep-server models "
            "pull whisper-base`, or set PREP_BENCH_WHISPER_BASE to its path."
        )
    elif sizes.real:
        short = msgspec.structs.replace(sizes, long=2 * sizes.part)
        rows += await _measure_model(MULTILINGUAL_SPEECH_MODEL, short)
    return rows


async def _measure_model(model: Path, sizes: Sizes) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as folder:
        async with (
            PrepModels.running(Path(folder), speech_model=model) as prep,
            ScriptPeer.running("peer_whisper", str(model), str(THREADS)) as whisper,
        ):
            rows = [
                *await _measure_latency(prep, whisper, sizes),
                *await _measure_word_errors(prep, whisper, sizes.recordings, "synthetic voices"),
                *await _measure_word_errors(prep, whisper, sizes.real, "people"),
                *await _measure_caption_lag(prep, sizes),
            ]
    return [msgspec.structs.replace(row, name=f"{model.stem}: {row.name}") for row in rows]


async def _measure_latency(prep: PrepModels, whisper: ScriptPeer, sizes: Sizes) -> list[Row]:
    prep_waits: list[float] = []
    peer_waits: list[float] = []
    answer = clip_pcm(sizes.answer)
    for n in range(sizes.repetitions):
        prep_waits.append((await play_and_transcribe(prep, f"answer {n}", answer)).waited)
        peer_waits.append((await whisper.ask(paths=clip_paths(sizes.answer)))["seconds"])
    return [
        make_row(
            f"time from the end of a {len(answer) / BYTES_PER_SECOND:.0f} s answer to its "
            "transcript",
            "s",
            prep_waits,
            peer_waits,
            peer_name=PYWHISPERCPP,
            target=0.3,
        )
    ]


async def _measure_word_errors(
    prep: PrepModels, whisper: ScriptPeer, recordings: tuple[str, ...], speakers: str
) -> list[Row]:
    """Compare the word error rate over all recordings with that of the peer."""
    if not recordings:
        return []
    prep_errors = peer_errors = total = 0.0
    for name in recordings:
        reference = REFERENCES[name]
        words = len(normalise(reference))
        total += words
        transcription = await play_and_transcribe(prep, name, clip_pcm([name]))
        prep_errors += words * wer(reference, transcription.text)
        peer_transcript = await whisper.ask(paths=clip_paths([name]))
        peer_errors += words * wer(reference, peer_transcript["text"])
    return [
        make_row(
            f"word error rate over {len(recordings)} recordings of {speakers}, {total:.0f} words",
            "%",
            [100 * prep_errors / total],
            [100 * peer_errors / total],
            peer_name=PYWHISPERCPP,
            target=1.0,
            difference=True,
            note="transcribed live",
        )
    ]


async def _measure_caption_lag(prep: PrepModels, sizes: Sizes) -> list[Row]:
    """Compare the delay of captions at the end of a long answer with the delay at its beginning."""
    recording = long_recording(sizes.recordings, sizes.long)
    transcription = await play_and_transcribe(prep, "long", recording)
    first = [lag for covered, lag in transcription.lags if covered <= sizes.part]
    last = [lag for covered, lag in transcription.lags if covered > sizes.long - sizes.part]
    return [
        make_row(
            f"caption lag in the last {sizes.part:.0f} s of a {sizes.long:.0f} s answer, {rank}",
            "s",
            [statistic(last)],
            [statistic(first)],
            peer_name=f"prep, in the first {sizes.part:.0f} s",
            target=1.0,
            difference=True,
            note=f"{len(last)} captions against {len(first)}",
        )
        for rank, statistic in (("p50", statistics.median), ("p95", p95))
    ]


async def play_and_transcribe(prep: PrepModels, name: str, recording: bytes) -> TimedTranscription:
    """Transcribe a recording live while it is played at speaking pace."""
    loop = asyncio.get_running_loop()
    player = PacedPlayer(recording)
    lags = []
    call = Call(purpose="transcribe", user="bench", interview="speech", request=f"speech/{name}")
    async with aclosing(prep.gateway.transcribe_live(call, player.play)) as events:
        async for event in events:
            match event:
                case PartialTranscript(seconds=covered):
                    lags.append((covered, loop.time() - player.began - covered))
                case Transcription(text=text):
                    waited = loop.time() - player.ended
                    return TimedTranscription(text=text, waited=waited, lags=tuple(lags))
    raise AssertionError("there was no transcript")
