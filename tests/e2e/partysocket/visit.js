// One visit to a room with an unmodified partysocket.
//
// The first line of standard input is {"host", "room", "key"}. Each later line is sent unchanged.
// Every message received is printed as a line, and so are changes of the connection:
// {"event": "open" | "close", "id", "code"}.
import { createInterface } from "node:readline";
import { PartySocket } from "partysocket";
import WebSocket from "ws";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { host, room, key } = JSON.parse((await lines.next()).value);

async function token() {
  const headers = { Authorization: `Bearer ${key}` };
  const reply = await fetch(`http://${host}/auth/token`, { headers });
  return { token: (await reply.json()).token };
}

const socket = new PartySocket({
  host,
  party: "interview",
  room,
  query: token,
  WebSocket,
  minReconnectionDelay: 100,
  maxReconnectionDelay: 1000,
});

const say = (event) => console.log(JSON.stringify(event));
socket.addEventListener("open", () => say({ event: "open", id: socket.id }));
socket.addEventListener("close", ({ code }) => say({ event: "close", id: socket.id, code }));
socket.addEventListener("message", ({ data }) => console.log(data));

for await (const line of lines) {
  socket.send(line);
}
socket.close();
