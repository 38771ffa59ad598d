"""Server-sent events: how they are cut out of a stream, and what is refused."""

from collections.abc import AsyncIterator

import pytest

from prepserver.engines.openai.events import MAX_EVENT, events
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.support.loop import asynchronous

STREAM = 'data: {"a": 1}\n\n: ping\n\nevent: x\ndata:two\ndata: lines\n\ndata: é→🙂\n\n'.encode()
FOUND = ['{"a": 1}', "two\nlines", "é→🙂"]


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def found(*chunks: bytes) -> list[str]:
    return [data async for data in events(parts(*chunks))]


@asynchronous
async def test_wherever_the_stream_is_cut_the_events_are_the_same() -> None:
    """In one piece, byte by byte, and in two pieces at every place."""
    assert await found(STREAM) == FOUND
    assert await found(*(bytes([byte]) for byte in STREAM)) == FOUND
    for place in range(len(STREAM)):
        assert await found(STREAM[:place], b"", STREAM[place:]) == FOUND


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
@asynchronous
async def test_lines_may_end_in_three_ways(end: bytes) -> None:
    """The standard allows LF, CR LF and CR, also when a pair is cut in two."""
    stream = STREAM.replace(b"\n", end)
    assert await found(stream) == FOUND
    assert await found(*(bytes([byte]) for byte in stream)) == FOUND


@asynchronous
async def test_what_was_cut_off_is_no_event() -> None:
    """Only a blank line ends an event."""
    assert await found(b"data: whole\n\ndata: half\n") == ["whole"]
    assert await found(b"data: whole\n\nda") == ["whole"]
    assert await found() == []


@asynchronous
async def test_what_is_not_text_is_refused() -> None:
    """A broken character is not guessed at."""
    with pytest.raises(InferenceError) as caught:
        await found(b"data: \xff\xfe\n\n")
    assert caught.value.code == ErrorCode.BAD_REPLY


@pytest.mark.parametrize("chunk", [b"x" * 65_536, b"data: " + b"x" * 65_530 + b"\n"])
@asynchronous
async def test_an_event_without_end_is_refused(chunk: bytes) -> None:
    """In one line or in many: memory does not grow with it."""
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += len(chunk)
            yield chunk

    with pytest.raises(InferenceError) as caught:
        async for _ in events(endless()):
            pass
    assert caught.value.code == ErrorCode.BAD_REPLY
    assert given < 2 * MAX_EVENT
