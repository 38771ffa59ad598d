"""Time from the end of a spoken answer to the next question."""

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path

from prepserver.engines.types import PartialTranscript, Transcription
from prepserver.gateway.gateway import Call
from prepserver.wire.protocol import BYTES_PER_SECOND
from tests.bench.interviews import SampleInterview
from tests.bench.models import (
    CONTEXT,
    LANGUAGE_MODEL,
    SPEECH_MODEL,
    THREADS,
    PrepModels,
    ScriptPeer,
    request_fields,
)
from tests.bench.report import Row, make_row
from tests.bench.sounds import ANSWER_CLIPS, PacedPlayer, clip_paths, clip_pcm

__all__ = ["run"]

TURN = 5
"""Number of answers before the measured question: as many as in a default interview."""


def run(quick: bool) -> list[Row]:
    return asyncio.run(_run(1 if quick else 5))


async def _run(repetitions: int) -> list[Row]:
    prep_waits: list[float] = []
    peer_waits: list[float] = []
    recording = clip_pcm(ANSWER_CLIPS)
    with tempfile.TemporaryDirectory(prefix="prep-bench-") as folder:
        async with (
            PrepModels.running(Path(folder)) as prep,
            ScriptPeer.running("peer_whisper", str(SPEECH_MODEL), str(THREADS)) as whisper,
            ScriptPeer.running(
                "peer_llama", str(LANGUAGE_MODEL), str(THREADS), str(CONTEXT)
            ) as llama,
        ):
            for n in range(repetitions):
                interview = SampleInterview(n, prep.info).advance_to(TURN - 1)
                interview.add_question((await prep.next_question(interview, ahead=False)).text)
                prep_waits.append(await _time_spoken_turn(prep, interview, recording))
                transcript = await whisper.ask(paths=clip_paths(ANSWER_CLIPS))
                interview = SampleInterview(n, prep.info).advance_to(TURN - 1)
                interview.add_question("What was your own part in the migration?")
                interview.add_answer(transcript["text"])
                prompt = interview.question_prompt()
                reply = await llama.ask(low_level=False, uncached=True, **request_fields(prompt))
                peer_waits.append(transcript["seconds"] + reply["first"])
    return [
        make_row(
            f"time from the end of a {len(recording) / BYTES_PER_SECOND:.0f} s answer to the next "
            "question's first token",
            "s",
            prep_waits,
            peer_waits,
            peer_name="pywhispercpp on the whole clip, then llama-cpp-python",
            target=0.25,
            note=f"turn {TURN}, transcribed and prefilled during speech",
        )
    ]


async def _time_spoken_turn(
    prep: PrepModels, interview: SampleInterview, recording: bytes
) -> float:
    """Return the seconds from the end of the spoken answer to the next question's first token."""
    player = PacedPlayer(recording)
    call = Call(
        purpose="transcribe",
        user="bench",
        interview=interview.name,
        request=f"{interview.name}/0",
    )
    prefill_task: asyncio.Task[None] | None = None
    async with aclosing(prep.gateway.transcribe_live(call, player.play)) as events:
        async for event in events:
            match event:
                case PartialTranscript(final=final, committed=committed):
                    if prefill_task is not None:
                        prefill_task.cancel()
                    draft = " ".join(part for part in (final, committed) if part)
                    prompt = interview.prefill_prompt(draft)
                    prefill_task = asyncio.create_task(prep.prefill(prompt))
                case Transcription(text=text):
                    interview.add_answer(text)
    reply = await prep.next_question(interview, ahead=False)
    waited = asyncio.get_running_loop().time() - player.ended - (reply.seconds - reply.first)
    if prefill_task is not None:
        await asyncio.gather(prefill_task, return_exceptions=True)
    return waited
