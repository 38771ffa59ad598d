"""How long a candidate who has spoken waits for the next question."""

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.gateway.gateway import Call
from prepserver.wire.protocol import BYTES_PER_SECOND
from tests.bench.models import CONTEXT, LANGUAGE, SPEECH, THREADS, Ours, Plain, sampling
from tests.bench.report import Row, row
from tests.bench.sounds import CLIP, Player, files, pcm
from tests.bench.talks import Talk

__all__ = ["run"]

TURN = 5
"""Of the interview, which has five questions by default."""


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(1 if quick else 5))


async def _run(repetitions: int) -> list[Row]:
    mine: list[float] = []
    theirs: list[float] = []
    recording = pcm(CLIP)
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as folder:
        async with (
            Ours.running(Path(folder)) as ours,
            Plain.running("plain_whisper", str(SPEECH), str(THREADS)) as ears,
            Plain.running("plain_llama", str(LANGUAGE), str(THREADS), str(CONTEXT)) as writer,
        ):
            for n in range(repetitions):
                talk = Talk(n, ours.info).advance_to(TURN - 1)
                talk.add_question((await ours.next_question(talk, ahead=False)).text)
                mine.append(await _ours(ours, talk, recording))
                heard = await ears.ask(files=files(CLIP))
                talk = Talk(n, ours.info).advance_to(TURN - 1)
                talk.add_question("What was your own part in the migration?")
                talk.add_answer(heard["text"])
                prompt = talk.question_prompt()
                reply = await writer.ask(low_level=False, uncached=True, **sampling(prompt))
                theirs.append(heard["seconds"] + reply["first"])
    return [
        row(
            f"end of an answer of {len(recording) / BYTES_PER_SECOND:.0f} s to the next "
            "question's first token",
            "s",
            mine,
            theirs,
            peer_name="pywhispercpp on the whole clip, then llama-cpp-python",
            target=0.25,
            note=f"turn {TURN}, the answer heard and read while it is spoken",
        )
    ]


async def _ours(ours: Ours, talk: Talk, recording: bytes) -> float:
    """Return the seconds from the end of the spoken answer to the first token of the question."""
    player = Player(recording)
    call = Call(purpose="transcribe", user="bench", interview=talk.name, request=f"{talk.name}/0")
    prefill_task: asyncio.Task[None] | None = None
    async with aclosing(ours.gateway.transcribe_live(call, player.play)) as events:
        async for event in events:
            match event:
                case PartialTranscript(final=final, committed=committed):
                    if prefill_task is not None:
                        prefill_task.cancel()
                    draft = " ".join(part for part in (final, committed) if part)
                    prefill_task = asyncio.create_task(ours.prefill(talk.prefill_prompt(draft)))
                case Transcription(text=text):
                    talk.add_answer(text)
    reply = await ours.next_question(talk, ahead=False)
    waited = asyncio.get_running_loop().time() - player.ended - (reply.seconds - reply.first)
    if prefill_task is not None:
        await asyncio.gather(prefill_task, return_exceptions=True)
    return waited
