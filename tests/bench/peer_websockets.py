"""Bare broadcast server built with the `websockets` library, as the peer of prep's rooms.

`python -m tests.bench.peer_websockets MODE BYTES INTERVAL` prints its port and sends a text message
of BYTES bytes every INTERVAL seconds: in mode `broadcast` to all clients at once, in mode `send` to
each client separately.
"""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(mode: str, size: int, interval: float) -> None:
    clients: set[ServerConnection] = set()
    message = "x" * size

    async def handle_client(client: ServerConnection) -> None:
        if mode == "send":
            while True:
                await asyncio.sleep(interval)
                await client.send(message)
        clients.add(client)
        await client.wait_closed()
        clients.discard(client)

    async with serve(handle_client, "127.0.0.1", 0, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        while True:
            await asyncio.sleep(interval)
            if mode == "broadcast":
                broadcast(clients, message)


if __name__ == "__main__":
    mode, size, interval = sys.argv[1:]
    asyncio.run(main(mode, int(size), float(interval)))
