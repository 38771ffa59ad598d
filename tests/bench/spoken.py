"""How long a candidate who has spoken waits for the next question."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import soundfile

from prepserver.ai.gateway import Call
from prepserver.ai.values import Caption, Speech
from prepserver.protocol import SAMPLE_RATE
from tests.bench.models import CONTEXT, LANGUAGE, SPEECH, THREADS, Ours, Plain, sampling
from tests.bench.report import Row, row
from tests.bench.talks import Talk

__all__ = ["run"]

FOLDER = Path(__file__).parent.parent / "speech"
CLIP = tuple(str(FOLDER / f"{name}.wav") for name in ("payments-migration", "short-answer"))
"""Two bundled recordings, one behind the other: 21 s."""
FRAME = 0.04
"""Seconds of sound that a client sends at once."""
TURN = 5
"""Of the interview, which has five questions by default."""


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(1 if quick else 5))


async def _run(repetitions: int) -> list[Row]:
    mine: list[float] = []
    theirs: list[float] = []
    pcm = b"".join(soundfile.read(name, dtype="int16")[0].tobytes() for name in CLIP)
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as folder:
        async with (
            Ours.running(Path(folder)) as ours,
            Plain.running("plain_whisper", str(SPEECH), str(THREADS)) as ears,
            Plain.running("plain_llama", str(LANGUAGE), str(THREADS), str(CONTEXT)) as writer,
        ):
            for n in range(repetitions):
                talk = Talk(n).until(TURN - 1)
                talk.ask((await ours.next_question(talk, ahead=False)).text)
                mine.append(await _ours(ours, talk, pcm))
                heard = await ears.ask(files=CLIP)
                talk = Talk(n).until(TURN - 1)
                talk.ask("What was your own part in the migration?")
                talk.answer(heard["text"])
                prompt = talk.prompt(ours.info)
                reply = await writer.ask(low_level=False, uncached=True, **sampling(prompt))
                theirs.append(heard["seconds"] + reply["first"])
    return [
        row(
            f"end of an answer of {len(pcm) / 2 / SAMPLE_RATE:.0f} s to the next question's first "
            "token",
            "s",
            mine,
            theirs,
            peer_name="pywhispercpp on the whole clip, then llama-cpp-python",
            target=0.25,
            note=f"turn {TURN}, the answer heard and read while it is spoken",
        )
    ]


async def _ours(ours: Ours, talk: Talk, pcm: bytes) -> float:
    """Hear the answer at the pace it is spoken, read ahead what is certain, ask on."""
    loop = asyncio.get_running_loop()
    ended = 0.0

    async def spoken() -> AsyncIterator[bytes]:
        nonlocal ended
        started, size = loop.time(), 2 * round(FRAME * SAMPLE_RATE)
        for n, begin in enumerate(range(0, len(pcm), size), 1):
            await asyncio.sleep(started + n * FRAME - loop.time())
            yield pcm[begin : begin + size]
        ended = loop.time()

    call = Call(purpose="transcribe", user="bench", interview=talk.name, request=f"{talk.name}/0")
    reading: asyncio.Task[None] | None = None
    async with aclosing(ours.gateway.listen(call, spoken)) as events:
        async for event in events:
            match event:
                case Caption(final=final, stable=stable):
                    if reading is not None:
                        reading.cancel()
                    draft = " ".join(part for part in (final, stable) if part)
                    reading = asyncio.create_task(ours.read(talk.reading(ours.info, draft)))
                case Speech(text=text):
                    talk.answer(text)
    reply = await ours.next_question(talk, ahead=False)
    waited = loop.time() - ended - (reply.seconds - reply.first)
    if reading is not None:
        await asyncio.gather(reading, return_exceptions=True)
    return waited
