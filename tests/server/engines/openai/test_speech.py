"""Remote speech model: requests and the handling of responses."""

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
from prepserver.engines.types import NOTHING_EXPECTED, ExpectedSpeech, Transcription
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.openai.fake_endpoint import KEY, FakeEndpoint, error_response
from tests.support.loop import asynchronous

PCM = b"\x00\x10" * 16_000
RESPONSE = {"text": " We moved it."}


def new_model(endpoint: FakeEndpoint) -> OpenAISpeechModel:
    return OpenAISpeechModel(
        Endpoint.parse("openai:http://endpoint.test/v1#whisper-1"),
        key=KEY,
        transport=httpx.MockTransport(endpoint),
    )


async def transcribe(
    endpoint: FakeEndpoint, pcm: bytes = PCM, expected: ExpectedSpeech = NOTHING_EXPECTED
) -> Transcription:
    model = new_model(endpoint)
    try:
        return await model.transcribe(pcm, expected)
    finally:
        await model.close()


def endpoint_returning(body: Any) -> FakeEndpoint:
    return FakeEndpoint(httpx.Response(200, json=body))


def parse_form(request: httpx.Request) -> dict[str, list[bytes]]:
    """Return the contents of a multipart form's fields by name."""
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
async def test_a_recording_is_sent_as_a_wav_file() -> None:
    """A request contains the vocabulary, and the whole recording as a 16-bit mono WAV file at 16
    kHz. It names no language, so that an answer in another language is not translated."""
    endpoint = endpoint_returning(RESPONSE)
    expected = ExpectedSpeech(vocabulary="Kafka, ledger", language="de")
    result = await transcribe(endpoint, expected=expected)
    assert (result.text, result.seconds) == ("We moved it.", 1.0)
    request = endpoint.requests[0]
    assert str(request.url) == "http://endpoint.test/v1/audio/transcriptions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    fields = parse_form(request)
    assert fields["model"] == [b"whisper-1"]
    assert fields["prompt"] == [b"Kafka, ledger"]
    assert "language" not in fields
    with wave.open(io.BytesIO(fields["file"][0])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.readframes(file.getnframes()) == PCM


@asynchronous
async def test_unlikely_segments_are_dropped() -> None:
    """Segments with a low probability are dropped, and each kept segment has its own words."""
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
    body = {"text": "We moved it. Thank you.", "segments": segments, "words": words}
    result = await transcribe(endpoint_returning(body))
    assert result.text == "We moved it."
    assert [(s.text, s.drop_reason) for s in result.dropped] == [("Thank you.", "unlikely")]
    (kept,) = result.segments
    assert math.isclose(kept.probability, math.exp(-0.1))
    assert [word.text for word in kept.words] == ["We", "moved", "it."]


@asynchronous
async def test_plain_text_is_requested_if_timestamps_are_refused() -> None:
    """If an endpoint rejects timestamps, the request is repeated without timestamps, and later
    requests ask for plain text at once."""

    def respond(request: httpx.Request) -> httpx.Response:
        plain = parse_form(request)["response_format"] == [b"json"]
        return httpx.Response(200, json=RESPONSE) if plain else error_response(400)

    endpoint = FakeEndpoint(respond)
    model = new_model(endpoint)
    for _ in range(2):
        assert (await model.transcribe(PCM)).text == "We moved it."
    await model.close()
    assert len(endpoint.requests) == 3


@asynchronous
async def test_a_silent_recording_is_not_sent() -> None:
    """A silent recording is not sent, because Whisper would invent text for it."""
    endpoint = endpoint_returning({"text": "Thank you."})
    result = await transcribe(endpoint, b"\x05\x00\xfb\xff" * 8_000)
    assert (result.text, [each.drop_reason for each in result.dropped]) == ("", ["silence"])
    assert endpoint.requests == []


@pytest.mark.parametrize("pcm", [b"", b"\x00"])
@asynchronous
async def test_an_invalid_recording_is_refused(pcm: bytes) -> None:
    """A recording that is empty or ends within a sample is rejected."""
    with pytest.raises(InferenceError) as caught:
        await transcribe(endpoint_returning(RESPONSE), pcm)
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_AUDIO, False)


@pytest.mark.parametrize(
    ("response", "code", "retryable"),
    [
        (httpx.Response(200, json={"words": []}), ErrorCode.BAD_REPLY, True),
        (httpx.Response(200, content=b"plain text"), ErrorCode.BAD_REPLY, True),
        (httpx.Response(200, json={"text": "a", "segments": [{}]}), ErrorCode.BAD_REPLY, True),
        (error_response(401), ErrorCode.ENDPOINT_UNAUTHORIZED, False),
        (error_response(404), ErrorCode.MODEL_NOT_FOUND, False),
        (error_response(413), ErrorCode.REQUEST_TOO_LONG, False),
        (error_response(503), ErrorCode.ENDPOINT_BUSY, True),
        (error_response(400), ErrorCode.ENDPOINT_REFUSED, False),
    ],
)
@asynchronous
async def test_an_invalid_response_is_a_typed_error(
    response: httpx.Response, code: str, retryable: bool
) -> None:
    """A failed transcription raises a typed error that says whether a retry may help."""
    with pytest.raises(InferenceError) as caught:
        await transcribe(FakeEndpoint(response))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


@asynchronous
async def test_live_transcription_gives_one_result_at_the_end() -> None:
    """A live recording is sent after it has ended and gives no captions."""

    async def audio() -> AsyncIterator[bytes]:
        yield PCM[:1_001]
        yield PCM[1_001:]

    endpoint = endpoint_returning(RESPONSE)
    model = new_model(endpoint)
    events = [event async for event in model.transcribe_live(audio())]
    await model.close()
    assert [type(event) for event in events] == [Transcription]
    with wave.open(io.BytesIO(parse_form(endpoint.requests[0])["file"][0])) as file:
        assert file.readframes(file.getnframes()) == PCM


@asynchronous
async def test_the_endpoint_detects_the_language() -> None:
    """No language is requested, and the language that the endpoint detects is kept."""
    endpoint = endpoint_returning(RESPONSE | {"language": "spanish"})
    result = await transcribe(endpoint)
    assert "language" not in parse_form(endpoint.requests[0])
    assert result.language == "spanish"


@asynchronous
async def test_quiet_speech_is_amplified() -> None:
    """A recording at -60 dB is sent about as loud as ordinary speech."""
    endpoint = endpoint_returning(RESPONSE)
    await transcribe(endpoint, pcm=b"\x20\0\xe0\xff" * 8_000)
    fields = parse_form(endpoint.requests[0])
    with wave.open(io.BytesIO(fields["file"][0])) as file:
        sample = int.from_bytes(file.readframes(1), "little", signed=True)
    assert 4_000 < sample < 6_000


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ({"avg_logprob": -0.2}, math.exp(-0.2)),
        ({"avg_logprob": -0.2, "temperature": 0.4}, 0.5),
        ({"avg_logprob": -1.5}, math.exp(-1.5)),
        ({"avg_logprob": -1.5, "no_speech_prob": 0.9}, 1.0),
        ({"avg_logprob": -0.2, "no_speech_prob": 0.9}, math.exp(-0.2)),
        ({}, 1.0),
    ],
    ids=["likely", "sampled", "unlikely", "noise", "speech in noise", "unknown"],
)
@asynchronous
async def test_the_confidence_follows_the_segments(
    segment: dict[str, float], expected: float
) -> None:
    """The confidence is the mean token probability; a segment of noise does not count, and a
    segment decoded at a raised temperature counts as a guess."""
    body = {
        "text": "We moved.",
        "segments": [{"start": 0, "end": 1, "text": "We moved.", **segment}],
    }
    result = await transcribe(endpoint_returning(body))
    assert result.confidence == pytest.approx(expected)
