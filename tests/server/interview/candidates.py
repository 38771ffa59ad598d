"""Candidates whose server loses its power: each remembers what the server has told them.

A user begins, holds and removes interviews; what was not acknowledged is sent again after the cut,
under the same id, as a client does.
"""

import asyncio
import hashlib
from pathlib import Path
from random import Random

from msgspec import Struct

from prepserver.errors import NotFound
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import MessageKind, Phase
from tests.server.interview.talk import ready, snapshot
from tests.support.clock import ManualClock
from tests.support.databases import damage
from tests.support.objects import eventually
from tests.support.power import Disk
from tests.support.rooms import USER, Client, Rooms

__all__ = ["Lives"]

FRAME = 1_280
"""Bytes of 40 ms."""
TAKEN_UP = 6.0
"""Seconds after which whatever a crash has cut short is taken up again."""


class Answer(Struct):
    """Something to say, by keyboard or by voice."""

    id: str
    text: str
    pcm: bytes = b""
    edited: tuple[str, str] | None = None
    """Id and text of a change to it."""
    stored: int = -1
    """The highest frame that was acknowledged."""


class Candidate:
    """One interview as its candidate remembers it."""

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self.view: wire.Interview | None = None
        self.answers: list[Answer] = []
        self.accepted: set[str] = set()
        self.said: dict[str, wire.Message] = {}
        self.removing = False
        self.removed = False
        self._random = random
        self._client: Client | None = None

    def freeze(self) -> None:
        """The power goes: what has been heard so far counts, what comes later does not."""
        client, self._client = self._client, None
        if client is None:
            return
        for message in tuple(client.messages):
            match message:
                case wire.Accepted(id=id):
                    self.accepted.add(id)
                case wire.AudioAck(id=id, frame=frame):
                    for answer in self.answers:
                        if answer.id == id:
                            answer.stored = max(answer.stored, frame)
                case wire.InterviewMessage(message=said):
                    self.said[said.id] = said

    def forget(self) -> None:
        """What was heard after the cut never left the server."""
        self._client = None

    # --- Talking ------------------------------------------------------------------------------

    async def live(self, rooms: Rooms, disk: Disk) -> None:
        """Begin or go on with the interview, until it is over or the power goes."""
        if self.removing:
            await self._remove(rooms, disk)
            return
        view = await rooms.create(id=self.name, role="Cook", questions=3)
        if not disk.on:
            return
        self.view = view
        client = await rooms.join(view.id)
        if disk.on:
            self._client = client
        try:
            await ready(client)
            if self.answers:
                await self._give(client, self.answers[-1], disk)
            while not await self._over(client) and disk.on:
                answer = self._next()
                self.answers.append(answer)
                await self._give(client, answer, disk)
        finally:
            if self._client is client and disk.on:
                self.freeze()
            await client.leave()
        if disk.on and self._random.random() < 0.3:
            await self._remove(rooms, disk)

    async def _over(self, client: Client) -> bool:
        interview = (await snapshot(client)).interview
        return interview is not None and interview.status is wire.Status.COMPLETED

    async def _give(self, client: Client, answer: Answer, disk: Disk) -> None:
        if answer.id not in self.accepted:
            if answer.pcm:
                await self._speak(client, answer, disk)
            else:
                await client.send(wire.UserMessage(id=answer.id, text=answer.text))
            if not disk.on:
                return
            await client.until(lambda m: isinstance(m, wire.Accepted) and m.id == answer.id)
        if (await snapshot(client)).state is not Phase.IDLE:
            await client.state(Phase.IDLE)
        if disk.on and answer.edited is None and self._random.random() < 0.3:
            answer.edited = (f"{answer.id}-edit", f"{answer.text} Or so.")
        if disk.on and answer.edited is not None and answer.edited[0] not in self.accepted:
            truth = await snapshot(client)
            mine = [m.id for m in truth.messages if m.kind is MessageKind.ANSWER]
            id, text = answer.edited
            place = self.answers.index(answer)
            await client.send(wire.MessageEdit(id=id, message_id=mine[place], text=text))

    async def _speak(self, client: Client, answer: Answer, disk: Disk) -> None:
        frames = [answer.pcm[at : at + FRAME] for at in range(0, len(answer.pcm), FRAME)]
        await client.send(wire.AudioStart(id=answer.id))
        reply = await client.until(
            lambda m: (
                (isinstance(m, wire.AudioAck) and m.id == answer.id) or isinstance(m, wire.Accepted)
            )
        )
        if isinstance(reply, wire.AudioAck):
            if reply.frame < answer.stored:
                raise AssertionError(
                    f"{answer.id}: frame {answer.stored} was acknowledged, {reply.frame} is there"
                )
            for number, frame in enumerate(frames):
                if number > reply.frame and disk.on:
                    await client.send(codec.pack_frame(number, frame))
        await client.send(wire.AudioStop(id=answer.id, frames=len(frames)))

    def _next(self) -> Answer:
        id = f"{self.name}-{len(self.answers)}"
        if self._random.random() < 0.6:
            return Answer(id, f"This is my answer {id}.")
        pcm = (b"\x00\x40" + b"\x00\xc0" + self._random.randbytes(16)) * 4_800
        mark = hashlib.sha256(pcm).hexdigest()[:6]
        text = f"I spoke for {len(pcm) / wire.BYTES_PER_SECOND:.1f} seconds and my mark is {mark}."
        return Answer(id, text, pcm)

    async def _remove(self, rooms: Rooms, disk: Disk) -> None:
        self.removing = True
        assert self.view is not None
        await remove(rooms, self.view.id)
        if disk.on:
            self.removed = True

    # --- Comparing ----------------------------------------------------------------------------

    def faults(self, truth: wire.Snapshot) -> list[str]:
        """What the room shows and should not, and the other way round."""
        found = []
        answers = [m for m in truth.messages if m.kind is MessageKind.ANSWER]
        if truth.state is not Phase.IDLE or truth.messages[-1:] == answers[-1:]:
            found.append(f"a turn is stuck in {truth.state}")
        if len({m.id for m in truth.messages}) != len(truth.messages):
            found.append("a message is there twice")
        given = sum(answer.id in self.accepted for answer in self.answers)
        if len(answers) < given:
            found.append(f"{given} answers were accepted, {len(answers)} are there")
        for mine, stored in zip(self.answers, answers, strict=False):
            expected = {mine.text}
            if mine.edited is not None:
                id, text = mine.edited
                expected = {text} if id in self.accepted else {mine.text, text}
            if stored.text not in expected:
                found.append(f"{mine.id} reads {stored.text!r}")
        if len(answers) > len(self.answers):
            found.append("there are answers that nobody gave")
        stored_texts = {m.id: m.text for m in truth.messages}
        for id, message in self.said.items():
            shown = stored_texts.get(id)
            if shown is None or (message.kind is not MessageKind.ANSWER and shown != message.text):
                found.append(f"{message.kind} {id} was shown and is now {shown!r}")
        return found


async def remove(rooms: Rooms, id: str) -> None:
    """As the edge does; one that is gone already is gone."""
    try:
        await rooms.registry.call(UserInterviewsStub(USER).delete(id))
    except NotFound:
        return


class Lives:
    """One disk, one user, through power cut after power cut."""

    def __init__(self, folder: Path, random: Random, *, deaf: bool = False) -> None:
        self.clock = ManualClock()
        self.disk = Disk(folder / "disk", random, deaf=deaf)
        self.disk.at_cut = self._freeze
        self.candidates: list[Candidate] = []
        self._elsewhere = folder / "elsewhere"
        self._random = random

    @property
    def _data(self) -> Path:
        """The data directory; the server makes it."""
        return self.disk.root / "data"

    def _freeze(self) -> None:
        for candidate in self.candidates:
            candidate.freeze()

    @property
    def acknowledged(self) -> int:
        return sum(len(one.accepted) + len(one.said) for one in self.candidates)

    async def live(self) -> list[str]:
        """From one boot to the next cut; gives what the boot found to be wrong."""
        for candidate in self.candidates:
            candidate.forget()
        found = damage(self._data / "objects")
        rooms = Rooms(
            self._data,
            clock=self.clock,
            rate_limit=0,
            elsewhere=self._elsewhere,
            vfs=self.disk.vfs,
            boot=f"boot {self.disk.cuts}",
        )
        async with rooms:
            try:
                found += await self._inspect(rooms)
                if not found:
                    await self._work(rooms)
            except AssertionError as error:
                found.append(str(error))
            finally:
                self.disk.cut()
        self.disk.restart()
        return found

    async def _inspect(self, rooms: Rooms) -> list[str]:
        # What was cut short is taken up by alarms, without anybody asking.
        await rooms.advance(TAKEN_UP)
        views = await rooms.registry.call(UserInterviewsStub(USER).list())
        listed = {view.id for view in views}
        digests = {hashlib.sha256(id.encode()).hexdigest() for id in listed}
        found = []
        for candidate in self.candidates:
            if candidate.view is None:
                continue
            id = candidate.view.id
            if candidate.removed and id in listed:
                found.append(f"{candidate.name}: removed, and there again")
            elif id not in listed and not candidate.removing:
                found.append(f"{candidate.name}: created, and lost")
            elif id in listed and not candidate.removing:
                client = await rooms.join(id)
                await client.state(Phase.IDLE)
                truth = await snapshot(client)
                found += [f"{candidate.name}: {fault}" for fault in candidate.faults(truth)]
                await client.leave()
        try:
            await eventually(lambda: self._files() <= digests, limit=5.0)
        except TimeoutError:
            found.append("the file of a removed interview is there again")
        return found

    def _files(self) -> set[str]:
        """Digests of the names of the interviews that have a file."""
        return {path.stem for path in (self._data / "objects/interview").glob("*/*.sqlite")}

    async def _work(self, rooms: Rooms) -> None:
        running = [one for one in self.candidates if not one.removed]
        for _ in range(self._random.randrange(1, 4)):
            one = Candidate(f"interview-{len(self.candidates)}", self._random)
            self.candidates.append(one)
            running.append(one)
        self.disk.cut_after(self._random.randrange(1, 150 * len(running)))
        await asyncio.gather(*(one.live(rooms, self.disk) for one in running))
