"""A speech model elsewhere: what it is sent, and what is made of its answer."""

import io
import math
import wave
from collections.abc import AsyncIterator
from email import message_from_bytes
from typing import Any

import httpx
import pytest

from prepserver.engines.openai.endpoint import Endpoint
from prepserver.engines.openai.speech import OpenAISpeechModel
from prepserver.engines.types import Transcription
from prepserver.errors import InferenceError
from tests.server.engines.openai.replies import KEY, Script, refused
from tests.support.loop import asynchronous

PCM = b"\x00\x10" * 16_000
TEXT = {"text": " We moved it."}


def speech(script: Script) -> OpenAISpeechModel:
    return OpenAISpeechModel(
        Endpoint.parse("openai:http://endpoint.test/v1#whisper-1"),
        key=KEY,
        transport=httpx.MockTransport(script),
    )


async def heard(script: Script, pcm: bytes = PCM, vocabulary: str = "") -> Transcription:
    model = speech(script)
    try:
        return await model.transcribe(pcm, vocabulary)
    finally:
        await model.close()


def answered(body: Any) -> Script:
    return Script(httpx.Response(200, json=body))


def form(request: httpx.Request) -> dict[str, list[bytes]]:
    """The fields of a form and what is in each."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    fields: dict[str, list[bytes]] = {}
    for part in message_from_bytes(head + request.content).get_payload():
        assert not isinstance(part, str)
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields.setdefault(name, []).append(content)
    return fields


@asynchronous
async def test_a_recording_is_sent_as_a_file_of_sound() -> None:
    """16 kHz, mono, 16 bits, every sample; with the words to expect."""
    script = answered(TEXT)
    speech = await heard(script, vocabulary="Kafka, ledger")
    assert (speech.text, speech.seconds) == ("We moved it.", 1.0)
    request = script.requests[0]
    assert str(request.url) == "http://endpoint.test/v1/audio/transcriptions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    fields = form(request)
    assert fields["model"] == [b"whisper-1"]
    assert fields["prompt"] == [b"Kafka, ledger"]
    with wave.open(io.BytesIO(fields["file"][0])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.readframes(file.getnframes()) == PCM


@asynchronous
async def test_what_the_endpoint_doubts_is_set_aside() -> None:
    """By the same rules as what is heard on this machine."""
    segments = [
        {"start": 0.0, "end": 0.5, "text": " We moved it.", "avg_logprob": -0.1},
        {"start": 0.5, "end": 1.0, "text": " Thank you.", "avg_logprob": -2.0},
    ]
    words = [
        {"word": "We", "start": 0.0, "end": 0.1},
        {"word": "moved", "start": 0.1, "end": 0.3},
        {"word": "it.", "start": 0.3, "end": 0.5},
        {"word": "Thank", "start": 0.5, "end": 0.7},
    ]
    answer = {"text": "We moved it. Thank you.", "segments": segments, "words": words}
    speech = await heard(answered(answer))
    assert speech.text == "We moved it."
    assert [(s.text, s.drop_reason) for s in speech.dropped] == [("Thank you.", "unlikely")]
    (kept,) = speech.segments
    assert math.isclose(kept.probability, math.exp(-0.1))
    assert [word.text for word in kept.words] == ["We", "moved", "it."]


@asynchronous
async def test_an_endpoint_without_details_is_asked_for_the_text() -> None:
    """What it refuses is not asked again."""

    def answer(request: httpx.Request) -> httpx.Response:
        plain = form(request)["response_format"] == [b"json"]
        return httpx.Response(200, json=TEXT) if plain else refused(400)

    script = Script(answer)
    model = speech(script)
    for _ in range(2):
        assert (await model.transcribe(PCM)).text == "We moved it."
    await model.close()
    assert len(script.requests) == 3


@asynchronous
async def test_silence_stays_here() -> None:
    """Whisper invents text for it, so it is not even sent."""
    script = answered({"text": "Thank you."})
    speech = await heard(script, b"\x05\x00\xfb\xff" * 8_000)
    assert (speech.text, [each.drop_reason for each in speech.dropped]) == ("", ["silence"])
    assert script.requests == []


@pytest.mark.parametrize("pcm", [b"", b"\x00"])
@asynchronous
async def test_what_is_no_recording_is_refused(pcm: bytes) -> None:
    """Nothing, or half a sample."""
    with pytest.raises(InferenceError) as caught:
        await heard(answered(TEXT), pcm)
    assert (caught.value.code, caught.value.retryable) == ("bad_audio", False)


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (httpx.Response(200, json={"words": []}), "bad_reply", True),
        (httpx.Response(200, content=b"plain text"), "bad_reply", True),
        (httpx.Response(200, json={"text": "a", "segments": [{}]}), "bad_reply", True),
        (refused(401), "endpoint_unauthorized", False),
        (refused(404), "model_not_found", False),
        (refused(413), "request_too_long", False),
        (refused(503), "endpoint_busy", True),
        (refused(400), "endpoint_refused", False),
    ],
)
@asynchronous
async def test_an_answer_that_is_none(answer: httpx.Response, code: str, retryable: bool) -> None:
    """A typed error; whoever waits knows whether to try again."""
    with pytest.raises(InferenceError) as caught:
        await heard(Script(answer))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


@asynchronous
async def test_listening_ends_in_what_the_whole_recording_says() -> None:
    """No captions: the protocol takes whole recordings."""

    async def pieces() -> AsyncIterator[bytes]:
        yield PCM[:1_001]
        yield PCM[1_001:]

    script = answered(TEXT)
    model = speech(script)
    found = [event async for event in model.transcribe_live(pieces())]
    await model.close()
    assert [type(event) for event in found] == [Transcription]
    with wave.open(io.BytesIO(form(script.requests[0])["file"][0])) as file:
        assert file.readframes(file.getnframes()) == PCM
