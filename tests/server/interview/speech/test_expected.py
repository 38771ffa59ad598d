"""Language and vocabulary that an interview passes to the transcriber."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from prepserver.engines.scripted import ScriptedSpeechModel
from prepserver.engines.types import NOTHING_EXPECTED, ExpectedSpeech, Transcription
from prepserver.interview.agenda import StoredAgenda
from prepserver.interview.speech.expected import MAX_SPELLINGS, expect_speech
from prepserver.wire.agenda import SkillEvidence, Where
from prepserver.wire.protocol import InterviewSpec, MessageKind
from tests.server.interview.conversation import LOUD, open_room
from tests.support.clock import ManualClock
from tests.support.contexts import context_after
from tests.support.loop import asynchronous
from tests.support.rooms import Rooms

JOB = "You will run services on Kubernetes, with PostgreSQL and gRPC at Ledgerline."


def expect(*skills: str, **spec: Any) -> ExpectedSpeech:
    agenda = StoredAgenda(
        skills=tuple(
            SkillEvidence(name=name, spelling=name, quote=name, where=Where.JOB) for name in skills
        )
    )
    context = msgspec.structs.replace(
        context_after((), InterviewSpec(role="SRE", **spec)), agenda=agenda
    )
    return expect_speech(context)


def test_the_vocabulary_is_a_sentence_with_the_documents_spelling() -> None:
    """The vocabulary names the company first, then the skills and other names as the documents
    spell them, each once."""
    expected = expect("kubernetes", "sql", company="Ledgerline", job_description=JOB)
    assert expected == ExpectedSpeech(
        vocabulary="A job interview for the role of SRE. "
        "Topics: Ledgerline, Kubernetes, sql, PostgreSQL, gRPC.",
        language="en",
    )


@pytest.mark.parametrize("language", ["de", "es", "fr", "yue", "xx"])
def test_another_language_is_passed_without_english_words(language: str) -> None:
    """In another language the vocabulary has only names, since Whisper imitates its prompt."""
    expected = expect(language=language, resume=JOB)
    assert expected.language == language
    assert expected.vocabulary.startswith("SRE: ")
    assert "PostgreSQL" in expected.vocabulary
    assert "interview" not in expected.vocabulary


def test_without_documents_only_the_language_is_expected() -> None:
    """An interview without documents has no vocabulary, so that nothing is suggested."""
    assert expect("sql", language="fr") == ExpectedSpeech(language="fr")


@pytest.mark.parametrize("job", ["nothing with a name", "we use " + "LongNameX, LongNameY " * 900])
def test_the_vocabulary_is_bounded(job: str) -> None:
    """Documents without names give a sentence, and documents with many names a bounded list."""
    many = " ".join(f"Name{n}X," for n in range(2_000))
    for text in (job, many):
        assert 0 < len(expect(job_description=text).vocabulary) < MAX_SPELLINGS + 100


class RecordingSpeechModel(ScriptedSpeechModel):
    """Scripted model that keeps what was expected of each recording."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.expected: list[ExpectedSpeech] = []

    async def transcribe(
        self, pcm: bytes, expected: ExpectedSpeech = NOTHING_EXPECTED
    ) -> Transcription:
        self.expected.append(expected)
        return await super().transcribe(pcm, expected)


@asynchronous
async def test_the_interview_tells_the_transcriber_what_to_expect(tmp_path: Path) -> None:
    """A spoken answer is transcribed with the interview's language and the names in its
    documents."""
    model = RecordingSpeechModel()
    async with Rooms(tmp_path, speech=model) as rooms:
        client = await open_room(rooms, language="de", job_description=JOB)
        await client.send(LOUD)
        await client.next_message(MessageKind.ANSWER)
    assert {each.language for each in model.expected} == {"de"}
    assert all("PostgreSQL" in each.vocabulary for each in model.expected)
