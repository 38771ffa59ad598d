"""How soon and how well a spoken answer is written down, and whether captions keep up."""

import asyncio
import statistics
import tempfile
from contextlib import aclosing
from pathlib import Path

import msgspec

from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.gateway.gateway import Call
from prepserver.wire.protocol import BYTES_PER_SECOND
from tests.bench.models import SPEECH, THREADS, Ours, Plain
from tests.bench.report import Row, p95, row
from tests.bench.sounds import CLIP, Player, files, long_answer, pcm
from tests.server.engines.whisper.sounds import reference_transcripts
from tests.support.wer import normalise, wer

__all__ = ["run"]

WORDS = reference_transcripts()
PYWHISPERCPP = "pywhispercpp on the whole clip"


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    repetitions: int = 5
    answer: tuple[str, ...] = CLIP
    """Recordings, one behind the other."""
    recordings: tuple[str, ...] = tuple(WORDS)
    """Whose words are counted."""
    long: float = 600.0
    """Seconds of a long answer."""
    part: float = 60.0
    """Seconds at its beginning, and at its end, that are compared."""


QUICK = Sizes(
    repetitions=1, answer=("short-answer",), recordings=("short-answer",), long=20.0, part=8.0
)


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a recording that was played at the pace of speech."""

    text: str
    waited: float
    """Seconds from its end to the transcript."""
    lags: tuple[tuple[float, float], ...]
    """Of each caption: how much of the recording it was made of, and how many seconds after the
    last of that had been played it came."""


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(QUICK if quick else Sizes()))


async def _run(sizes: Sizes) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as folder:
        async with (
            Ours.running(Path(folder)) as ours,
            Plain.running("plain_whisper", str(SPEECH), str(THREADS)) as ears,
        ):
            return [
                *await _end(ours, ears, sizes),
                *await _words(ours, ears, sizes),
                *await _captions(ours, sizes),
            ]


async def _end(ours: Ours, ears: Plain, sizes: Sizes) -> list[Row]:
    """The wait for the transcript."""
    mine: list[float] = []
    theirs: list[float] = []
    answer = pcm(sizes.answer)
    for n in range(sizes.repetitions):
        mine.append((await heard(ours, f"answer {n}", answer)).waited)
        theirs.append((await ears.ask(files=files(sizes.answer)))["seconds"])
    return [
        row(
            f"end of an answer of {len(answer) / BYTES_PER_SECOND:.0f} s to its transcript",
            "s",
            mine,
            theirs,
            peer_name=PYWHISPERCPP,
            target=0.3,
        )
    ]


async def _words(ours: Ours, ears: Plain, sizes: Sizes) -> list[Row]:
    """How many are wrong, of all recordings together."""
    mine = theirs = said = 0.0
    for name in sizes.recordings:
        words, count = WORDS[name], len(normalise(WORDS[name]))
        said += count
        mine += count * wer(words, (await heard(ours, name, pcm([name]))).text)
        theirs += count * wer(words, (await ears.ask(files=files([name])))["text"])
    return [
        row(
            f"words wrong, of the {said:.0f} of {len(sizes.recordings)} recordings",
            "%",
            [100 * mine / said],
            [100 * theirs / said],
            peer_name=PYWHISPERCPP,
            target=1.0,
            difference=True,
            note="written down while they are spoken",
        )
    ]


async def _captions(ours: Ours, sizes: Sizes) -> list[Row]:
    """Whether they come as soon after what was said at the end of a long answer."""
    long = await heard(ours, "long", long_answer(sizes.recordings, sizes.long))
    first = [lag for end, lag in long.lags if end <= sizes.part]
    last = [lag for end, lag in long.lags if end > sizes.long - sizes.part]
    count = f"{len(last)} of them beside {len(first)}"
    return [
        row(
            f"how late captions are, in the last {sizes.part:.0f} s of an answer of "
            f"{sizes.long:.0f} s, {which}",
            "s",
            [rank(last)],
            [rank(first)],
            peer_name=f"ours, in its first {sizes.part:.0f} s",
            target=1.0,
            difference=True,
            note=count,
        )
        for which, rank in (("p50", statistics.median), ("p95", p95))
    ]


async def heard(ours: Ours, name: str, recording: bytes) -> Heard:
    """Play a recording to our ears."""
    loop = asyncio.get_running_loop()
    player = Player(recording)
    lags = []
    call = Call(purpose="transcribe", user="bench", interview="speech", request=f"speech/{name}")
    async with aclosing(ours.gateway.transcribe_live(call, player.play)) as events:
        async for event in events:
            match event:
                case PartialTranscript(seconds=end):
                    lags.append((end, loop.time() - player.began - end))
                case Transcription(text=text):
                    waited = loop.time() - player.ended
                    return Heard(text=text, waited=waited, lags=tuple(lags))
    raise AssertionError("there was no transcript")
