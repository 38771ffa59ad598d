"""Parsing of server-sent events, as defined by the WHATWG's HTML standard (9.2.6), with a size
limit.

Some endpoints cannot stream, and send one JSON object instead. It counts as the data of one event.
"""

from collections.abc import AsyncGenerator, AsyncIterable

from prepserver.engines.openai.error_responses import bad_reply

__all__ = ["MAX_EVENT", "read_events"]

MAX_EVENT = 2**20
"""Maximum size of an event in bytes; an event with a delta has a few hundred bytes."""


async def read_events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """Yield the data of each event. An event without a final blank line is ignored as incomplete.

    Raises InferenceError, code `bad_reply`, for an event that is too long or not UTF-8.
    """
    data: list[str] = []
    size = 0
    is_json: bool | None = None
    async for line in _read_lines(chunks):
        if is_json is None and line.strip():
            is_json = line.lstrip(b" \t\xef\xbb\xbf").startswith(b"{")
        if is_json:
            line = b"data:" + line
        if not line:
            if data:
                yield "\n".join(data)
            data, size = [], 0
            continue
        size += len(line)
        if size > MAX_EVENT:
            raise bad_reply("an event is too long")
        # Comments begin with a colon; the fields `event`, `id` and `retry` are not used.
        name, _, value = line.partition(b":")
        if name == b"data":
            try:
                data.append(value.removeprefix(b" ").decode())
            except UnicodeDecodeError as error:
                raise bad_reply("an event is not UTF-8") from error
    if is_json:
        yield "\n".join(data)


async def _read_lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield lines without their endings, which are CR LF, LF or CR. The last line may be
    incomplete.

    Raises InferenceError, code `bad_reply`, for a line that is too long.
    """
    rest = b""
    after_cr = False
    async for chunk in chunks:
        if after_cr and chunk:
            chunk, after_cr = chunk.removeprefix(b"\n"), False
        if b"\r" in chunk:
            after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = chunk.split(b"\n")
        rest += first
        for line in others:
            yield rest
            rest = line
        if len(rest) > MAX_EVENT:
            raise bad_reply("an event is too long")
    if rest:
        yield rest
