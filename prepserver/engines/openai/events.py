"""Server-sent events, as the WHATWG's HTML standard (9.2.6) defines them, with bounds."""

from collections.abc import AsyncGenerator, AsyncIterable

from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["MAX_EVENT", "events"]

MAX_EVENT = 2**20
"""Bytes of one event; a piece of a reply has a few hundred."""


async def events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """The data of each event. What follows the last blank line was cut off and is left out.

    Raises InferenceError, code `bad_reply`, for what is no text or has no end.
    """
    data: list[str] = []
    size = 0
    async for line in _lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
            data, size = [], 0
            continue
        size += len(line)
        if size > MAX_EVENT:
            raise bad_reply("it does not end")
        # Comments begin with a colon; `event`, `id` and `retry` say nothing here.
        name, _, value = line.partition(b":")
        if name == b"data":
            try:
                data.append(value.removeprefix(b" ").decode())
            except UnicodeDecodeError as error:
                raise bad_reply("it is not text") from error


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Lines end with CR LF, LF or CR. An unfinished last one is left out."""
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
            raise bad_reply("it does not end")


def bad_reply(why: str) -> InferenceError:
    return InferenceError(
        f"The model's endpoint gave a reply that cannot be understood: {why}. Try again.",
        code=ErrorCode.BAD_REPLY,
    )
