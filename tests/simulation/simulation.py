"""Runs of schedules against the real server and the real client, with checks after every step.

`run` raises Violation, whose message contains the command that repeats the run. `shrink` removes
the steps that are not needed for a failure.
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
from tests.simulation import checks, steps
from tests.simulation.clients import SimulatedClient
from tests.simulation.instrumentation import instrumented
from tests.simulation.loop import VirtualLoop
from tests.simulation.models import Behaviour, ModelController
from tests.simulation.network import CAPACITY, Network
from tests.simulation.server import USER, SimulatedServer, Tokens
from tests.simulation.stored_state import StoredState, read_stored_state
from tests.support.clock import ManualClock

__all__ = ["LENGTH", "Report", "Violation", "run", "shrink"]

T = TypeVar("T")

LENGTH = 70
"""Number of steps in a schedule."""

RECOVERY_SECONDS = 90.0
"""Virtual seconds within which all work completes once the faults have ended."""

_MESSAGE_ID = re.compile(r'"type":"(?:user.message|audio.stop|turn.retry)","id":"[^"]+"')
"""Pattern that matches the type and the id of a client's message that must be applied only once."""


class Violation(AssertionError):
    """An invariant did not hold."""

    def __init__(self, description: str, seed: int, done: tuple[steps.ScheduledStep, ...]) -> None:
        super().__init__(
            f"{description}\n\nseed {seed}, {steps.make_setup(seed)}\n{steps.format_steps(done)}\n"
            f"\nrepeat with: python -m tests.simulation {seed}"
        )
        self.description = description
        self.done = done
        """Steps up to and including the failing step."""

    @property
    def kind(self) -> str:
        """Beginning of the description, without names and numbers, by which violations are
        compared."""
        first_line = self.description.partition("\n")[0]
        return re.sub(r"[0-9a-f-]*\d[0-9a-f-]*|^\w+: ", "", first_line)[:30]


class Report(Struct, frozen=True):
    """Result of a run."""

    trace: str
    """Digest of the clients' states after every step; runs with the same seed have the same
    digest."""
    coverage: Counter[str]
    """Number of times that each event of interest occurred."""


class SettlingClock(ManualClock):
    """Clock that waits after each step of time until the simulation is idle."""

    def __init__(self) -> None:
        super().__init__()
        self.settle: Callable[[], Awaitable[None]] | None = None

    async def _settle(self) -> None:
        assert self.settle is not None
        await self.settle()


def run(seed: int, schedule: tuple[steps.ScheduledStep, ...] | None = None) -> Report:
    """Run a schedule, by default the one made from the seed, and return the report. Raise Violation
    if an invariant does not hold or the run ends with another error."""
    schedule = steps.make_schedule(seed, LENGTH) if schedule is None else schedule
    setup = steps.make_setup(seed)
    ids = random.Random(f"ids {seed}")
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=_memory_folder()))

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=ids.getrandbits(128), version=4)

    try:
        with (
            patch("uuid.uuid4", uuid4),
            patch.object(connection, "MAX_QUEUED_MESSAGES", setup.max_queued_messages),
            instrumented(),
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
        ):
            simulation = Simulation(seed, folder)
            try:
                runner.run(simulation.run_schedule(schedule))
            except Exception as error:
                description = str(error) if isinstance(error, AssertionError) else repr(error)
                done = schedule[: simulation.number + 1]
                raise Violation(description, seed, done) from error
            return simulation.report()
    finally:
        shutil.rmtree(folder)
        if seed % 10 == 0:
            gc.collect()  # close the resources of crashed servers


def shrink(seed: int, *, runs: int = 300) -> tuple[steps.ScheduledStep, ...]:
    """Return the shortest schedule found with the same kind of violation as the seed's schedule;
    empty if the seed's schedule has no violation.

    Steps are removed in ever smaller groups. `runs` limits the number of attempts.
    """

    kind: str | None = None

    def fails(schedule: tuple[steps.ScheduledStep, ...]) -> tuple[steps.ScheduledStep, ...] | None:
        nonlocal kind
        try:
            run(seed, schedule)
        except Violation as violation:
            kind = kind or violation.kind
            return violation.done if violation.kind == kind else None
        return None

    kept = fails(steps.make_schedule(seed, LENGTH))
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


def _memory_folder() -> str | None:
    """Return a folder in memory, since a run needs no real disk; None if the machine has no such
    folder."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


class Simulation:
    """Server, clients and faults of one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.number = -1
        """Index of the current step; -1 before the first step."""
        self._setup = steps.make_setup(seed)
        self._seed = seed
        self._folder = folder
        self._rng = random.Random(f"order {seed}")
        self._clock = SettlingClock()
        self._clock.settle = self._settle
        self._controller = ModelController()
        self._tokens = Tokens()
        self._server: SimulatedServer | None = None
        self._crashes = 0
        self._root = folder / "0"
        self._network: Network
        self._clients: list[SimulatedClient] = []
        self._rooms: list[str] = []
        self._roles: dict[str, str] = {}
        """Role of each interview, by interview id."""
        self._deletions_requested: set[str] = set()
        """Ids of interviews whose deletion was requested."""
        self._deleted: set[str] = set()
        """Ids of interviews whose deletion was confirmed."""
        self._trace = hashlib.sha256()
        self._coverage: Counter[str] = Counter()
        self._read_state: StoredState | None = None
        self._read_version: tuple[SimulatedServer | None, int | None] | None = None
        self._responsive_since = 0.0
        """Last time at which the server was started, was down or had a blocked disk, in seconds
        since the Unix epoch."""

    def report(self) -> Report:
        return Report(self._trace.hexdigest(), self._coverage)

    # --- The run ------------------------------------------------------------------------------

    async def run_schedule(self, schedule: tuple[steps.ScheduledStep, ...]) -> None:
        self._network = Network(self._clock, lambda: self._server)
        with patch.object(room, "open_connection", self._network.connect):
            try:
                await self._open()
                for self.number, step in enumerate(schedule):
                    await self._run_action(step.action)
                    if step.loop_iterations is None:
                        await self._settle()
                    for _ in range(step.loop_iterations or 0):
                        await asyncio.sleep(0)
                    self._check(idle=step.loop_iterations is None)
                await self._recover()
            finally:
                await self._close()

    async def _open(self) -> None:
        self._controller.set_behaviour(language=Behaviour(word_delay=self._setup.word_delay))
        await self._start()
        for number in range(self._setup.interviews):
            role = f"Keeper {'ABCDEF'[number]}"
            count, language = self._setup.questions, self._setup.language
            request = wire.CreateInterview(role=role, questions=count, language=language)
            view = (await self._call(UserInterviewsStub(USER).create(request))).result()
            self._rooms.append(view.id)
            self._roles[view.id] = role
        for number, index in enumerate(self._setup.clients):
            name = ("ann", "bob", "cid", "dot")[number]
            party, room_name = (
                ("user-interviews", "me") if index < 0 else ("interview", self._rooms[index])
            )
            self._clients.append(
                SimulatedClient(name, party, room_name, self._clock, self._tokens.issue, self._seed)
            )
        await self._settle()
        self._check(idle=True)

    async def _close(self) -> None:
        for client in self._clients:
            await client.close(self._settle)
        if self._server is not None:
            await self._server.stop()

    async def _settle(self) -> None:
        if self._server is not None:
            await self._server.settle()
        else:
            await _virtual_loop().run_until_idle()

    async def _start(self) -> None:
        self._server = SimulatedServer(
            self._root, self._clock, self._controller, self._tokens, self._rng, self._setup
        )
        await self._server.start()
        self._responsive_since = self._clock.now()

    async def _call(self, call: ObjectCall[T]) -> asyncio.Task[T]:
        """Call an object as the REST routes do; return the task, which is unfinished while the disk
        is blocked."""
        assert self._server is not None
        call_task = self._server.spawn(self._server.rooms.registry.call(call))
        await self._settle()
        return call_task

    # --- Steps --------------------------------------------------------------------------------

    async def _run_action(self, action: steps.Action) -> None:
        match action:
            case steps.AdvanceTime(seconds=seconds):
                await self._clock.advance(seconds)
            case steps.SetLanguageBehaviour(behaviour=behaviour):
                self._controller.set_behaviour(language=behaviour)
            case steps.SetSpeechBehaviour(behaviour=behaviour):
                self._controller.set_behaviour(speech=behaviour)
            case steps.ExpireTokens():
                self._tokens.expire()
            case (
                steps.CrashServer()
                | steps.RestartServer()
                | steps.BlockDisk()
                | steps.RenameInterview()
                | steps.DeleteInterview()
            ):
                await self._act_on_server(action)
            case _:
                await self._act_on_client(self._clients[action.client], action)

    async def _act_on_server(self, action: steps.Action) -> None:
        server = self._server
        match action:
            case steps.RestartServer(downtime=downtime):
                if server is not None:
                    await server.stop()
                    self._server = None
                    self._network.end(lost=False)
                    await self._clock.advance(downtime)
                await self._start()
            case _ if server is None:
                return
            case steps.CrashServer(completed=completed, lost=lost):
                self._count_crash()
                self._crashes += 1
                copy = self._folder / str(self._crashes)
                self._server = None
                self._network.end(lost=lost)
                await server.crash(completed, copy)
                shutil.rmtree(self._root)
                self._root = copy
            case steps.BlockDisk(blocked=blocked):
                server.disk.blocked = blocked
            case steps.RenameInterview(index=index):
                id = self._rooms[index % len(self._rooms)]
                if _succeeded(await self._call(UserInterviewsStub(USER).find(id))):
                    await self._call(InterviewStub(id).rename(f"Title {self.number}"))
            case steps.DeleteInterview(index=index):
                id = self._rooms[index % len(self._rooms)]
                self._deletions_requested.add(id)
                if _succeeded(await self._call(UserInterviewsStub(USER).delete(id))):
                    self._deleted.add(id)

    async def _act_on_client(self, client: SimulatedClient, action: steps.Action) -> None:
        link = self._network.links.get(client.name)
        match action:
            case steps.RestartClient():
                await client.restart(self._settle)
            case steps.DropConnection(
                delivered=delivered, detected_after=detected_after, outage=outage
            ):
                self._network.cut(
                    client.name, delivered=delivered, detected_after=detected_after, outage=outage
                )
            case steps.FreezeClient(frozen=frozen):
                if link is not None:
                    link.freeze(frozen)
            case _ if client.party != "interview" or client.end_error is not None:
                return
            case steps.SendAnswer(only_if_offered=only_if_offered):
                if client.can_answer or not only_if_offered:
                    await client.send_answer()
            case steps.Record(frames=frames, only_if_offered=only_if_offered):
                if client.recording_id or client.can_answer or not only_if_offered:
                    client.record(frames)
            case steps.FinishRecording():
                client.finish_recording()
            case steps.CancelRecording():
                client.cancel_recording()
            case steps.SendCommand(command=command, only_if_offered=only_if_offered):
                if client.offers(command) or not only_if_offered:
                    await client.send_command(command)
            case steps.EditAnswer(index=index):
                await client.edit_answer(index)

    async def _recover(self) -> None:
        """End all faults, let time pass, and check the final state."""
        self._controller.set_behaviour(language=Behaviour(), speech=Behaviour())
        if self._server is None:
            await self._start()
        assert self._server is not None
        self._server.disk.blocked = False
        for client in self._clients:
            client.finish_recording()
            link = self._network.links.get(client.name)
            if link is not None:
                link.freeze(False)
        self._network.unreachable.clear()
        await self._settle()
        await self._clock.advance(RECOVERY_SECONDS)
        self._check(idle=True)
        self._count_coverage()
        for id, interview in self._stored().interviews.items():
            if id not in self._deletions_requested:
                self._raise_first(checks.check_final_state(interview, self._clients_in(id)))
            elif id in self._deleted and interview.view is not None:
                raise AssertionError(f"the deleted interview {id} still exists")

    # --- Checks -------------------------------------------------------------------------------

    def _stored(self) -> StoredState:
        """Return the stored state, reading the files only if the disk has completed work since the
        last read."""
        state = (self._server, None if self._server is None else self._server.disk.completed)
        if self._read_state is None or self._read_version != state:
            self._read_state, self._read_version = read_stored_state(self._root), state
        return self._read_state

    def _clients_in(self, id: str) -> list[SimulatedClient]:
        return [
            client
            for client, index in zip(self._clients, self._setup.clients, strict=True)
            if index >= 0 and self._rooms[index] == id
        ]

    def _check(self, *, idle: bool) -> None:
        for client in self._clients:
            client.raise_errors()
            self._trace.update(msgspec.json.encode(client.state))
            self._raise_first(checks.check_client(client), client.name)
        server = self._server
        if server is not None and server.errors:
            raise AssertionError("\n".join(server.errors))
        stored = self._stored().interviews
        for id, interview in stored.items():
            if id not in self._deletions_requested:
                self._raise_first(checks.check_invariants(interview, self._clients_in(id)))
        if server is None or server.disk.blocked:
            self._responsive_since = self._clock.now()
            return
        if not idle:
            return
        for id, interview in stored.items():
            reply = self._controller.replies.get(self._roles[id])
            self._raise_first(
                checks.check_idle_state(interview, self._clock.now(), self._responsive_since)
            )
            for client in self._clients_in(id):
                if self._is_up_to_date(client):
                    errors = checks.check_client_view(
                        client.state, interview, reply, self._clock.monotonic()
                    )
                    self._raise_first(errors, client.name)
        for client in self._clients:
            if client.party == "user-interviews" and self._is_up_to_date(client):
                listed = self._stored().listed
                if list(client.state.interviews) != listed:
                    raise AssertionError(
                        f"{client.name}: the list shows\n  {client.state.interviews}\n"
                        f"and stored is\n  {listed}"
                    )

    def _count_coverage(self) -> None:
        """Count the events of interest, so that a test can check that the events occur."""
        coverage = self._coverage
        for client in self._clients:
            coverage.update(client.coverage)
            for sent in client.sent.values():
                outcome = (
                    "accepted" if sent.accepted else "refused" if sent.refused else "abandoned"
                )
                coverage[f"{sent.kind.__name__} {outcome}"] += 1
        coverage.update(f"closed with {code}" for code in self._network.close_codes)
        coverage["aborted by the server"] = self._network.aborted
        transmissions = Counter(
            found[0] for data in self._network.sent_texts if (found := _MESSAGE_ID.search(data))
        )
        coverage["sent again"] = sum(count - 1 for count in transmissions.values())
        for interview in self._stored().interviews.values():
            coverage.update(f"turn {turn.step} {turn.state}" for turn in interview.turns)
            coverage.update(
                f"answer from {m.source}" for m in interview.messages if m.kind == "answer"
            )
            coverage["history summarised"] += interview.history_summary.covered > 0
            coverage["answer edited"] += sum(message.edited for message in interview.messages)

    def _count_crash(self) -> None:
        server = self._server
        assert server is not None
        if any(interview.active for interview in self._stored().interviews.values()):
            self._coverage["crash during a turn"] += 1
        if server.disk.waiting:
            self._coverage["crash during a commit"] += 1
        if server.rooms.registry.counts.hibernating:
            self._coverage["crash while an object with clients hibernates"] += 1

    def _is_up_to_date(self, client: SimulatedClient) -> bool:
        """Return True if a client has received everything that the server sent to the client.

        Raise AssertionError if too many messages are waiting for a slow reader.
        """
        link = self._network.links.get(client.name)
        if (
            link is not None
            and link.messages_read > self._setup.max_queued_messages + 4 * CAPACITY
            and link.frozen
        ):
            raise AssertionError(
                f"{client.name}: {link.messages_read} messages waited for a slow reader"
            )
        return client.online and client.has_snapshot and link is not None and link.is_idle

    def _raise_first(self, errors: Iterable[str], name: str = "") -> None:
        for error in errors:
            raise AssertionError(f"{name}: {error}" if name else error)


def _succeeded(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
