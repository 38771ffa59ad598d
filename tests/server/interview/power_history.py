"""Interviews under power cuts: candidates who remember what the server has acknowledged.

A user creates, holds and deletes interviews. After a power cut, a candidate resends unacknowledged
messages under the same ids, as a client does.
"""

import asyncio
import hashlib
from pathlib import Path
from random import Random

from msgspec import Struct

from prepserver.errors import NotFound
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.wire import client_messages, codec
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.conversation import request_snapshot, wait_until_idle
from tests.support.clock import ManualClock
from tests.support.databases import find_corruption
from tests.support.objects import eventually
from tests.support.power import Disk
from tests.support.rooms import USER, Client, Rooms

__all__ = ["InterviewHistory"]

FRAME = 1_280
"""Bytes in a frame of 40 ms."""
RECOVERY_TIME = 6.0
"""Seconds after a boot within which alarms resume all work that a crash interrupted."""


class Answer(Struct):
    """Typed or spoken answer of a candidate."""

    id: str
    text: str
    pcm: bytes = b""
    edited: tuple[str, str] | None = None
    """Id and text of the message that edits the answer; None if the answer is not edited."""
    stored: int = -1
    """Number of the last acknowledged frame; -1 if no frame has been acknowledged."""


class Candidate:
    """Candidate in one interview, with everything that the server has acknowledged or shown to the
    candidate."""

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self.view: wire.Interview | None = None
        self.answers: list[Answer] = []
        self.accepted: set[str] = set()
        self.shown: dict[str, wire.Message] = {}
        self.deleting = False
        self.deleted = False
        self._random = random
        self._client: Client | None = None

    def freeze(self) -> None:
        """Record what the client has received so far, and ignore everything that arrives later."""
        client, self._client = self._client, None
        if client is None:
            return
        for received in tuple(client.messages):
            match received:
                case wire.Accepted(id=id):
                    self.accepted.add(id)
                case wire.AudioAck(id=id, frame=frame):
                    for answer in self.answers:
                        if answer.id == id:
                            answer.stored = max(answer.stored, frame)
                case wire.InterviewMessage(message=message):
                    self.shown[message.id] = message

    def disconnect(self) -> None:
        """Forget the client of the previous boot, since messages sent after the power cut never
        left the server."""
        self._client = None

    # --- Interviewing -------------------------------------------------------------------------

    async def hold_interview(self, rooms: Rooms, disk: Disk) -> None:
        """Start or resume the interview and hold it until it is over or the power is cut.

        A finished interview is then deleted with a probability of 30%. If the deletion of the
        interview has already begun, only the deletion is repeated.
        """
        if self.deleting:
            await self._delete(rooms, disk)
            return
        view = await rooms.create(id=self.name, role="Cook", questions=3)
        if not disk.powered:
            return
        self.view = view
        client = await rooms.join(view.id)
        if disk.powered:
            self._client = client
        try:
            await wait_until_idle(client)
            if self.answers:
                await self._give_answer(client, self.answers[-1], disk)
            while not await self._is_over(client) and disk.powered:
                answer = self._next_answer()
                self.answers.append(answer)
                await self._give_answer(client, answer, disk)
        finally:
            if self._client is client and disk.powered:
                self.freeze()
            await client.leave()
        if disk.powered and self._random.random() < 0.3:
            await self._delete(rooms, disk)

    async def _is_over(self, client: Client) -> bool:
        interview = (await request_snapshot(client)).interview
        return interview is not None and interview.status is wire.Status.COMPLETED

    async def _give_answer(self, client: Client, answer: Answer, disk: Disk) -> None:
        if answer.id not in self.accepted:
            if answer.pcm:
                await self._send_recording(client, answer, disk)
            else:
                await client.send(client_messages.UserMessage(id=answer.id, text=answer.text))
            if not disk.powered:
                return
            await client.until(lambda m: isinstance(m, wire.Accepted) and m.id == answer.id)
        if (await request_snapshot(client)).state is not Phase.IDLE:
            await client.wait_for_phase(Phase.IDLE)
        if disk.powered and answer.edited is None and self._random.random() < 0.3:
            answer.edited = (f"{answer.id}-edit", f"{answer.text} Or so.")
        if disk.powered and answer.edited is not None and answer.edited[0] not in self.accepted:
            truth = await request_snapshot(client)
            mine = [m.id for m in truth.messages if m.kind is MessageKind.ANSWER]
            id, text = answer.edited
            place = self.answers.index(answer)
            await client.send(client_messages.MessageEdit(id=id, message_id=mine[place], text=text))

    async def _send_recording(self, client: Client, answer: Answer, disk: Disk) -> None:
        frames = [answer.pcm[at : at + FRAME] for at in range(0, len(answer.pcm), FRAME)]
        await client.send(client_messages.AudioStart(id=answer.id))
        reply = await client.until(
            lambda m: (
                (isinstance(m, wire.AudioAck) and m.id == answer.id) or isinstance(m, wire.Accepted)
            )
        )
        if isinstance(reply, wire.AudioAck):
            if reply.frame < answer.stored:
                raise AssertionError(
                    f"{answer.id}: frame {answer.stored} was acknowledged, {reply.frame} is stored"
                )
            for number, frame in enumerate(frames):
                if number > reply.frame and disk.powered:
                    await client.send(codec.pack_frame(number, frame))
        await client.send(client_messages.AudioStop(id=answer.id, frames=len(frames)))

    def _next_answer(self) -> Answer:
        id = f"{self.name}-{len(self.answers)}"
        if self._random.random() < 0.6:
            return Answer(id, f"This is my answer {id}.")
        pcm = (b"\x00\x40" + b"\x00\xc0" + self._random.randbytes(16)) * 4_800
        mark = hashlib.sha256(pcm).hexdigest()[:6]
        text = f"I spoke for {len(pcm) / wire.BYTES_PER_SECOND:.1f} seconds and my mark is {mark}."
        return Answer(id, text, pcm)

    async def _delete(self, rooms: Rooms, disk: Disk) -> None:
        self.deleting = True
        assert self.view is not None
        await delete(rooms, self.view.id)
        if disk.powered:
            self.deleted = True

    # --- Checking ----------------------------------------------------------------------------

    def violations(self, truth: wire.Snapshot) -> list[str]:
        """Return one line for each fault in `truth`: a stuck turn, a duplicate message, an answer
        that the candidate did not give, or a message that is missing or differs from the one that
        was acknowledged or shown."""
        found = []
        answers = [m for m in truth.messages if m.kind is MessageKind.ANSWER]
        if truth.state is not Phase.IDLE or truth.messages[-1:] == answers[-1:]:
            found.append(f"a turn is stuck in state {truth.state}")
        if len({m.id for m in truth.messages}) != len(truth.messages):
            found.append("a message is stored twice")
        given = sum(answer.id in self.accepted for answer in self.answers)
        if len(answers) < given:
            found.append(f"{given} answers were accepted, {len(answers)} are stored")
        for mine, stored in zip(self.answers, answers, strict=False):
            expected = {mine.text}
            if mine.edited is not None:
                id, text = mine.edited
                expected = {text} if id in self.accepted else {mine.text, text}
            if stored.text not in expected:
                found.append(f"{mine.id} reads {stored.text!r}")
        if len(answers) > len(self.answers):
            found.append("there are more answers than the candidate gave")
        stored_texts = {m.id: m.text for m in truth.messages}
        for id, message in self.shown.items():
            shown = stored_texts.get(id)
            if shown is None or (message.kind is not MessageKind.ANSWER and shown != message.text):
                found.append(f"{message.kind} {id} was shown and now reads {shown!r}")
        return found


async def delete(rooms: Rooms, id: str) -> None:
    """Delete an interview as the HTTP route does, unless it has already been deleted."""
    try:
        await rooms.registry.call(UserInterviewsStub(USER).delete(id))
    except NotFound:
        return


class InterviewHistory:
    """One user's interviews on one simulated disk, through many power cuts."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.clock = ManualClock()
        self.disk = Disk(folder / "disk", random)
        self.disk.on_cut = self._freeze
        self.candidates: list[Candidate] = []
        self._limiter_folder = folder / "limiter"
        self._random = random

    @property
    def _data(self) -> Path:
        """Data directory, which the server creates."""
        return self.disk.root / "data"

    def _freeze(self) -> None:
        for candidate in self.candidates:
            candidate.freeze()

    @property
    def acknowledged(self) -> int:
        return sum(len(one.accepted) + len(one.shown) for one in self.candidates)

    async def run_until_cut(self) -> list[str]:
        """Run the server from one boot to the next power cut; return the violations found."""
        for candidate in self.candidates:
            candidate.disconnect()
        found = find_corruption(self._data / "objects")
        rooms = Rooms(
            self._data,
            clock=self.clock,
            rate_limit=0,
            limiter_folder=self._limiter_folder,
            vfs=self.disk.vfs,
            boot=f"boot {self.disk.cuts}",
        )
        async with rooms:
            try:
                found += await self._find_violations(rooms)
                if not found:
                    await self._hold_interviews(rooms)
            except AssertionError as error:
                found.append(str(error))
            finally:
                self.disk.cut()
        self.disk.restart()
        return found

    async def _find_violations(self, rooms: Rooms) -> list[str]:
        # Alarms resume interrupted work without a client.
        await rooms.advance(RECOVERY_TIME)
        views = await rooms.registry.call(UserInterviewsStub(USER).list())
        listed = {view.id for view in views}
        digests = {hashlib.sha256(id.encode()).hexdigest() for id in listed}
        found = []
        for candidate in self.candidates:
            if candidate.view is None:
                continue
            id = candidate.view.id
            if candidate.deleted and id in listed:
                found.append(f"{candidate.name}: deleted, and listed again")
            elif id not in listed and not candidate.deleting:
                found.append(f"{candidate.name}: created, and not listed")
            elif id in listed and not candidate.deleting:
                client = await rooms.join(id)
                await client.wait_for_phase(Phase.IDLE)
                truth = await request_snapshot(client)
                found += [f"{candidate.name}: {each}" for each in candidate.violations(truth)]
                await client.leave()
        try:
            await eventually(lambda: self._files() <= digests, limit=5.0)
        except TimeoutError:
            found.append("the file of a deleted interview exists again")
        return found

    def _files(self) -> set[str]:
        """Return the digests of the ids of all interviews that have a file."""
        return {path.stem for path in (self._data / "objects/interview").glob("*/*.sqlite")}

    async def _hold_interviews(self, rooms: Rooms) -> None:
        running = [one for one in self.candidates if not one.deleted]
        for _ in range(self._random.randrange(1, 4)):
            one = Candidate(f"interview-{len(self.candidates)}", self._random)
            self.candidates.append(one)
            running.append(one)
        self.disk.cut_after(self._random.randrange(1, 150 * len(running)))
        await asyncio.gather(*(one.hold_interview(rooms, self.disk) for one in running))
