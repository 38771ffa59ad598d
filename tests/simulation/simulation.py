"""Runs a schedule against the real server and the real client, and looks after every step.

run(seed)          raises Violation, which says how to see it again
shrink(seed)       the fewest steps that still go wrong
"""

import asyncio
import gc
import hashlib
import random
import re
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec
from msgspec import Struct

from prepcli.client import room
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.objects import connection
from prepserver.objects.stubs import ObjectCall
from prepserver.wire import protocol as wire
from tests.simulation import checks, steps, truth
from tests.simulation.life import USER, Life, Tokens
from tests.simulation.loop import VirtualLoop
from tests.simulation.models import Director, Mood
from tests.simulation.network import CAPACITY, Network
from tests.simulation.people import Person
from tests.simulation.watching import watched
from tests.support.clock import ManualClock

__all__ = ["LENGTH", "Report", "Violation", "run", "shrink"]

T = TypeVar("T")

LENGTH = 70
"""Steps of a schedule."""

PATIENCE = 90.0
"""Virtual seconds after which everything is done, when all troubles are over."""


_ID = re.compile(r'"type":"(?:user.message|audio.stop|turn.retry)","id":"[^"]+"')
"""Of a client's message that must take effect once."""


class Violation(AssertionError):
    """Something that must hold did not."""

    def __init__(self, what: str, seed: int, done: tuple[steps.Step, ...]) -> None:
        super().__init__(
            f"{what}\n\nseed {seed}, {steps.setup(seed)}\n{steps.described(done)}\n"
            f"\nagain: python -m tests.simulation {seed}"
        )
        self.what = what
        self.done = done

    @property
    def kind(self) -> str:
        """What it is about, whatever the names and numbers."""
        return re.sub(r"[0-9a-f-]*\d[0-9a-f-]*|^\w+: ", "", self.what.partition("\n")[0])[:30]


class Report(Struct, frozen=True):
    """What a run came to."""

    trace: str
    """A digest of all that every client ever showed: the same for the same seed."""
    seen: Counter[str]
    """How often each thing happened that simulations are for."""


class SettlingClock(ManualClock):
    """Lets everything that a moment sets going come to rest before the next moment."""

    def __init__(self) -> None:
        super().__init__()
        self.settle: Callable[[], Awaitable[None]] | None = None

    async def _settle(self) -> None:
        assert self.settle is not None
        await self.settle()


def run(seed: int, schedule: tuple[steps.Step, ...] | None = None) -> Report:
    """Raises Violation."""
    schedule = steps.schedule(seed, LENGTH) if schedule is None else schedule
    ids = random.Random(f"ids {seed}")
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=_memory()))

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=ids.getrandbits(128), version=4)

    try:
        with (
            patch("uuid.uuid4", uuid4),
            patch.object(connection, "MAX_QUEUED_MESSAGES", steps.setup(seed).outbox),
            watched(),
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
        ):
            simulation = Simulation(seed, folder)
            try:
                runner.run(simulation.play(schedule))
            except Exception as error:
                what = str(error) if isinstance(error, AssertionError) else repr(error)
                done = schedule[: simulation.number + 1]
                raise Violation(what, seed, done) from error
            return simulation.report()
    finally:
        shutil.rmtree(folder)
        if seed % 10 == 0:
            gc.collect()  # what crashed servers have left open


def shrink(seed: int, *, runs: int = 300) -> tuple[steps.Step, ...]:
    """Leave out steps, many at first, then one at a time, as long as something still goes wrong."""

    kind: str | None = None

    def fails(schedule: tuple[steps.Step, ...]) -> tuple[steps.Step, ...] | None:
        nonlocal kind
        try:
            run(seed, schedule)
        except Violation as violation:
            kind = kind or violation.kind
            return violation.done if violation.kind == kind else None
        return None

    kept = fails(steps.schedule(seed, LENGTH))
    if kept is None:
        return ()
    size = len(kept) // 2
    while size and runs > 0:
        start = 0
        while start < len(kept) and runs > 0:
            runs -= 1
            shorter = fails(kept[:start] + kept[start + size :])
            if shorter is None:
                start += size
            else:
                kept = shorter
        size //= 2
    return kept


def _memory() -> str | None:
    """A folder in memory where there is one: what is simulated is the disk's answers."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


class Simulation:
    """One seed's world."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.number = -1
        """Of the step under way; -1 before the first."""
        self._setup = steps.setup(seed)
        self._seed = seed
        self._folder = folder
        self._rng = random.Random(f"order {seed}")
        self._clock = SettlingClock()
        self._clock.settle = self._settle
        self._director = Director()
        self._tokens = Tokens()
        self._life: Life | None = None
        self._lives = 0
        self._root = folder / "0"
        self._network: Network
        self._people: list[Person] = []
        self._rooms: list[str] = []
        self._roles: dict[str, str] = {}
        """The role that each interview is for."""
        self._doomed: set[str] = set()
        """Interviews that somebody asked to delete."""
        self._deleted: set[str] = set()
        """Those that the server said were deleted."""
        self._trace = hashlib.sha256()
        self._happened: Counter[str] = Counter()
        self._read: truth.Stored | None = None
        self._read_at: tuple[Life | None, int | None] | None = None
        self._smooth_since = 0.0
        """Since when, on the clock, the server has been running and its disk quick."""

    def report(self) -> Report:
        return Report(self._trace.hexdigest(), self._happened)

    # --- Playing ------------------------------------------------------------------------------

    async def play(self, schedule: tuple[steps.Step, ...]) -> None:
        self._network = Network(self._clock, lambda: self._life)
        with patch.object(room, "open_connection", self._network.connect):
            try:
                await self._open()
                for self.number, step in enumerate(schedule):
                    await self._do(step.action)
                    if step.turns is None:
                        await self._settle()
                    for _ in range(step.turns or 0):
                        await asyncio.sleep(0)
                    self._check(resting=step.turns is None)
                await self._calm_down()
            finally:
                await self._close()

    async def _open(self) -> None:
        self._director.change(mood=Mood(delay=self._setup.pace))
        await self._start()
        for number in range(self._setup.interviews):
            role = f"Keeper {'ABCDEF'[number]}"
            request = wire.CreateInterview(role=role, questions=self._setup.questions)
            view = (await self._call(UserInterviewsStub(USER).create(request))).result()
            self._rooms.append(view.id)
            self._roles[view.id] = role
        for number, which in enumerate(self._setup.people):
            name = ("ann", "bob", "cid", "dot")[number]
            party, place = (
                ("user-interviews", "me") if which < 0 else ("interview", self._rooms[which])
            )
            self._people.append(
                Person(name, party, place, self._clock, self._tokens.fresh, self._seed)
            )
        await self._settle()
        self._check(resting=True)

    async def _close(self) -> None:
        for person in self._people:
            await person.leave(self._settle)
        if self._life is not None:
            await self._life.stop()

    async def _settle(self) -> None:
        if self._life is not None:
            await self._life.settle()
        else:
            await _loop().rest()

    async def _start(self) -> None:
        self._life = Life(
            self._root, self._clock, self._director, self._tokens, self._rng, self._setup
        )
        await self._life.start()
        self._smooth_since = self._clock.now()

    async def _call(self, call: ObjectCall[T]) -> asyncio.Task[T]:
        """Call an object as the REST edge does; when the disk is held, nobody waits for it."""
        assert self._life is not None
        asked = self._life.spawn(self._life.rooms.registry.call(call))
        await self._settle()
        return asked

    # --- Steps --------------------------------------------------------------------------------

    async def _do(self, action: steps.Action) -> None:
        match action:
            case steps.Advance(seconds=seconds):
                await self._clock.advance(seconds)
            case steps.Brain(mood=mood):
                self._director.change(mood=mood)
            case steps.Ears(mood=mood):
                self._director.change(hearing=mood)
            case steps.Expire():
                self._tokens.expire()
            case steps.Crash() | steps.Restart() | steps.Disk() | steps.Rename() | steps.Delete():
                await self._do_to_server(action)
            case _:
                await self._do_to_person(self._people[action.who], action)

    async def _do_to_server(self, action: steps.Action) -> None:
        life = self._life
        match action:
            case steps.Restart(down=down):
                if life is not None:
                    await life.stop()
                    self._life = None
                    self._network.end(lost=False)
                    await self._clock.advance(down)
                await self._start()
            case _ if life is None:
                return
            case steps.Crash(done=done, lost=lost):
                self._count_crash()
                self._lives += 1
                copy = self._folder / str(self._lives)
                self._life = None
                self._network.end(lost=lost)
                await life.crash(done, copy)
                shutil.rmtree(self._root)
                self._root = copy
            case steps.Disk(held=held):
                life.disk.held = held
            case steps.Rename(which=which):
                id = self._rooms[which % len(self._rooms)]
                if _went_well(await self._call(UserInterviewsStub(USER).find(id))):
                    await self._call(InterviewStub(id).rename(f"Title {self.number}"))
            case steps.Delete(which=which):
                id = self._rooms[which % len(self._rooms)]
                self._doomed.add(id)
                if _went_well(await self._call(UserInterviewsStub(USER).delete(id))):
                    self._deleted.add(id)

    async def _do_to_person(self, person: Person, action: steps.Action) -> None:
        link = self._network.links.get(person.name)
        match action:
            case steps.Return():
                await person.come_back(self._settle)
            case steps.Drop(arriving=arriving, unnoticed=unnoticed, outage=outage):
                self._network.cut(
                    person.name, arriving=arriving, unnoticed=unnoticed, outage=outage
                )
            case steps.Freeze(frozen=frozen):
                if link is not None:
                    link.freeze(frozen)
            case _ if person.party != "interview" or person.ended is not None:
                return
            case steps.Say(patient=patient):
                if person.asked or not patient:
                    await person.say()
            case steps.Speak(frames=frames, patient=patient):
                if person.recording or person.asked or not patient:
                    person.speak(frames)
            case steps.Deliver():
                person.deliver()
            case steps.Withdraw():
                person.withdraw()
            case steps.Press(key=key, patient=patient):
                if person.would_press(key) or not patient:
                    await person.press(key)
            case steps.Edit(which=which):
                await person.edit(which)

    async def _calm_down(self) -> None:
        """End all troubles, and let time pass until everything must be done."""
        self._director.change(mood=Mood(), hearing=Mood())
        if self._life is None:
            await self._start()
        assert self._life is not None
        self._life.disk.held = False
        for person in self._people:
            person.deliver()
            link = self._network.links.get(person.name)
            if link is not None:
                link.freeze(False)
        self._network.unreachable.clear()
        await self._settle()
        await self._clock.advance(PATIENCE)
        self._check(resting=True)
        self._count()
        for id, one in self._stored().interviews.items():
            if id not in self._doomed:
                self._demand(checks.finished(one, self._in(id)))
            elif id in self._deleted and one.view is not None:
                raise AssertionError(f"the deleted interview {id} is still there")

    # --- Looking ------------------------------------------------------------------------------

    def _stored(self) -> truth.Stored:
        """What the files say; they are read again when the disk has worked."""
        state = (self._life, None if self._life is None else self._life.disk.done)
        if self._read is None or self._read_at != state:
            self._read, self._read_at = truth.read(self._root), state
        return self._read

    def _in(self, id: str) -> list[Person]:
        return [
            person
            for person, which in zip(self._people, self._setup.people, strict=True)
            if which >= 0 and self._rooms[which] == id
        ]

    def _check(self, *, resting: bool) -> None:
        for person in self._people:
            person.check()
            self._trace.update(msgspec.json.encode(person.state))
            self._demand(checks.each_client(person), person.name)
        life = self._life
        if life is not None and life.complaints:
            raise AssertionError("\n".join(life.complaints))
        stored = self._stored().interviews
        for id, one in stored.items():
            if id not in self._doomed:
                self._demand(checks.always(one, self._in(id)))
        if life is None or life.disk.held:
            self._smooth_since = self._clock.now()
            return
        if not resting:
            return
        for id, one in stored.items():
            speaking = self._director.speaking.get(self._roles[id])
            self._demand(checks.at_rest(one, self._clock.now(), self._smooth_since))
            for person in self._in(id):
                if self._informed(person):
                    seen = checks.shown(person.state, one, speaking, self._clock.monotonic())
                    self._demand(seen, person.name)
        for person in self._people:
            if person.party == "user-interviews" and self._informed(person):
                listed = self._stored().listed
                if list(person.state.interviews) != listed:
                    raise AssertionError(
                        f"{person.name}: the list shows\n  {person.state.interviews}\n"
                        f"and stored is\n  {listed}"
                    )

    def _count(self) -> None:
        """What this run has come past, so that somebody can ask whether runs do at all."""
        happened = self._happened
        for person in self._people:
            happened.update(person.happened)
            for sent in person.sent.values():
                how = "accepted" if sent.accepted else "refused" if sent.refused else "given up"
                happened[f"{sent.kind.__name__} {how}"] += 1
        happened.update(f"closed with {code}" for code in self._network.codes)
        happened["given up by the server"] = self._network.aborted
        again = Counter(found[0] for data in self._network.carried if (found := _ID.search(data)))
        happened["sent again"] = sum(count - 1 for count in again.values())
        for one in self._stored().interviews.values():
            happened.update(f"turn {turn.step} {turn.state}" for turn in one.turns)
            happened.update(f"answer from {m.source}" for m in one.messages if m.kind == "answer")
            happened["condensed"] += one.condensed.covered > 0
            happened["answer edited"] += sum(message.edited for message in one.messages)

    def _count_crash(self) -> None:
        life = self._life
        assert life is not None
        if any(one.active for one in self._stored().interviews.values()):
            self._happened["crash during a turn"] += 1
        if life.disk.waiting:
            self._happened["crash during a commit"] += 1
        if life.rooms.registry.counts.hibernating:
            self._happened["crash while an object hibernates under its clients"] += 1

    def _informed(self, person: Person) -> bool:
        """Whether a client has received all that the server has to say to it."""
        link = self._network.links.get(person.name)
        if link is not None and link.given > self._setup.outbox + 4 * CAPACITY and link.frozen:
            raise AssertionError(f"{person.name}: {link.given} messages waited for a slow reader")
        return person.online and person.known and link is not None and link.flowing

    def _demand(self, complaints: Iterable[str], name: str = "") -> None:
        for complaint in complaints:
            raise AssertionError(f"{name}: {complaint}" if name else complaint)


def _went_well(asked: asyncio.Task[Any]) -> bool:
    return asked.done() and not asked.cancelled() and asked.exception() is None


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
