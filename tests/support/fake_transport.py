"""In-memory transport between a `RoomSocket` and a client of the websockets library."""

import asyncio
from typing import Any

from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from prepserver.http.sockets import RoomSocket, Sockets

__all__ = ["FakeTransport"]


class FakeTransport(asyncio.Transport):
    """Transport of the server, with a client that reads the server's output in `receive`."""

    def __init__(self, sockets: Sockets, target: str = "/parties/a/b?token=t") -> None:
        super().__init__()
        self.state = ServerState()
        self.socket: RoomSocket = sockets.create_protocol(None, self.state, None)
        self.client = ClientProtocol(parse_uri(f"ws://here{target}"), max_size=None)
        self.response: Response | None = None
        self.frames: list[Frame] = []
        """Frames that the client has received."""
        self.write_blocked = False
        """True to pause the server's writing as soon as data is unread, as a full socket does."""
        self.reading = True
        self.closed = self.aborted = False
        self.unread = bytearray()
        self.socket.connection_made(self)

    # --- The client ---------------------------------------------------------------------------

    async def perform_handshake(self) -> None:
        """Perform the opening handshake and store the server's response."""
        self.client.send_request(self.client.connect())
        self.send_raw(b"".join(self.client.data_to_send()))
        await asyncio.gather(*self.state.tasks)
        self.receive()

    def send(self, *messages: str | bytes) -> None:
        """Send messages to the server in a single write."""
        for message in messages:
            if isinstance(message, str):
                self.client.send_text(message.encode())
            else:
                self.client.send_binary(message)
        self.flush()

    def flush(self) -> None:
        """Send the client's pending frames to the server."""
        self.send_raw(b"".join(self.client.data_to_send()))

    def send_raw(self, data: bytes) -> None:
        if data and not self.closed:
            self.socket.data_received(data)

    def receive(self) -> list[Frame]:
        """Read the server's output and return the new frames. Call `flush` to answer pings."""
        data, self.unread = bytes(self.unread), bytearray()
        self.client.receive_data(data)
        new: list[Frame] = []
        for event in self.client.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                new.append(event)
        self.frames += new
        if self.write_blocked and data:
            self.write_blocked = False
            self.socket.resume_writing()
        return new

    @property
    def texts(self) -> list[str]:
        """Text messages that the client has received so far."""
        return [bytes(f.data).decode() for f in self.frames if f.opcode is Opcode.TEXT]

    @property
    def close_frame(self) -> tuple[int, str] | None:
        """Code and reason of the server's close frame; None until the frame is received."""
        close = self.client.close_rcvd
        return None if close is None else (close.code, close.reason)

    def drop_connection(self) -> None:
        """Break the connection without a close frame."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.socket.connection_lost, None)

    # --- The transport of the server ----------------------------------------------------------

    def write(self, data: Any) -> None:
        if self.closed:
            return
        self.unread += data
        if self.write_blocked:
            self.socket.pause_writing()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.write_blocked:
            self.drop_connection()

    def abort(self) -> None:
        self.aborted = True
        self.drop_connection()

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "the transport must not buffer output"
