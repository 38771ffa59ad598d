"""The peer of rooms: a bare broadcast server of the `websockets` library, without storage.

`python -m tests.bench.peer MODE BYTES EVERY` prints its port and streams text messages of so many
bytes, one every so many seconds: `broadcast` to all clients at once, `send` to each on its own.
"""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(mode: str, size: int, every: float) -> None:
    clients: set[ServerConnection] = set()
    message = "x" * size

    async def room(client: ServerConnection) -> None:
        if mode == "send":
            while True:
                await asyncio.sleep(every)
                await client.send(message)
        clients.add(client)
        await client.wait_closed()
        clients.discard(client)

    async with serve(room, "127.0.0.1", 0, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        while True:
            await asyncio.sleep(every)
            if mode == "broadcast":
                broadcast(clients, message)


if __name__ == "__main__":
    mode, size, every = sys.argv[1:]
    asyncio.run(main(mode, int(size), float(every)))
