"""Parser of server-sent events, which reads a stream in chunks and limits the size of an event."""

from collections.abc import AsyncIterator

import pytest

from prepserver.engines.openai.sse import MAX_EVENT, read_events
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.support.loop import asynchronous

STREAM = 'data: {"a": 1}\n\n: ping\n\nevent: x\ndata:two\ndata: lines\n\ndata: é→🙂\n\n'.encode()
EVENTS = ['{"a": 1}', "two\nlines", "é→🙂"]


async def stream_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def parse(*chunks: bytes) -> list[str]:
    return [data async for data in read_events(stream_of(*chunks))]


@asynchronous
async def test_events_do_not_depend_on_the_chunks_of_the_stream() -> None:
    """A stream gives the same events in one chunk, in single bytes, or in two chunks split at any
    position."""
    assert await parse(STREAM) == EVENTS
    assert await parse(*(bytes([byte]) for byte in STREAM)) == EVENTS
    for place in range(len(STREAM)):
        assert await parse(STREAM[:place], b"", STREAM[place:]) == EVENTS


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
@asynchronous
async def test_lines_may_end_with_cr_lf_or_cr(end: bytes) -> None:
    """Lines may end with CR or with CR LF, even if a chunk ends between CR and LF."""
    stream = STREAM.replace(b"\n", end)
    assert await parse(stream) == EVENTS
    assert await parse(*(bytes([byte]) for byte in stream)) == EVENTS


@asynchronous
async def test_an_incomplete_event_is_ignored() -> None:
    """An event that is not followed by a blank line is ignored."""
    assert await parse(b"data: whole\n\ndata: half\n") == ["whole"]
    assert await parse(b"data: whole\n\nda") == ["whole"]
    assert await parse() == []


@asynchronous
async def test_invalid_utf8_is_refused() -> None:
    """An event that is not UTF-8 is rejected instead of being decoded with replacements."""
    with pytest.raises(InferenceError) as caught:
        await parse(b"data: \xff\xfe\n\n")
    assert caught.value.code == ErrorCode.BAD_REPLY


@pytest.mark.parametrize("chunk", [b"x" * 65_536, b"data: " + b"x" * 65_530 + b"\n"])
@asynchronous
async def test_an_endless_event_is_refused(chunk: bytes) -> None:
    """An event larger than the size limit is rejected, whether it consists of one long line or of
    many lines."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += len(chunk)
            yield chunk

    with pytest.raises(InferenceError) as caught:
        async for _ in read_events(endless()):
            pass
    assert caught.value.code == ErrorCode.BAD_REPLY
    assert sent < 2 * MAX_EVENT
