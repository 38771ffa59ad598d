"""Ledgers and clerks under power cuts: every acknowledged order must be in the ledger's book.

A clerk sends orders to one ledger and records which orders were acknowledged before a power cut.
After the restart, the clerk resends the unacknowledged orders, as a client does. A ledger's book
can be recomputed from the orders alone, so that lost, duplicated, reordered and partly applied
orders are found.
"""

import asyncio
import itertools
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from prepserver.errors import PrepServerError
from prepserver.objects.connection import Close, Connection
from prepserver.objects.instance import Kind
from prepserver.objects.object import DurableObject
from prepserver.objects.registry import Registry
from prepserver.objects.stubs import ObjectCall, ObjectStub
from prepserver.wire.codec import decode_server
from prepserver.wire.protocol import Accepted
from tests.support.clock import ManualClock
from tests.support.databases import find_corruption
from tests.support.fake_socket import FakeSocket
from tests.support.faults import disk_full, io_error
from tests.support.power import Disk

__all__ = ["History"]

LEDGERS = ("a", "b", "c")
ALARM_WITHIN = 60.0
"""Maximum number of seconds between the setting of an alarm and its due time."""

SMALL = (*[200] * 8, 10_000, 100_000)
LARGE = (200, 200, 20_000, 1_000_000)
"""Choices for the maximum length of an entry's text, in characters; each `add` order draws one."""


class Order(Struct, frozen=True):
    """Request to a ledger to add an entry whose text has `number` characters."""

    id: str
    verb: str
    """Kind of the order. `add` only adds the entry; `trim` also blanks the texts of all but the
    last `number` entries; `alarm` also sets an alarm that is due in `number` seconds; `pass` also
    adds an entry to the next ledger."""
    number: int

    @property
    def text(self) -> str:
        return (self.id * (self.number // len(self.id) + 1))[: self.number]


class Passed(Struct, frozen=True):
    id: str


Book = tuple[list[tuple[str, str]], float | None]
"""Id and text of every entry, and the time at which the alarm is due; the time is None without an
alarm."""


class LedgerStub(ObjectStub):
    kind = "ledger"

    def receive(self, id: str) -> ObjectCall[None]:
        return self._call("receive", id)

    def book(self) -> ObjectCall[Book]:
        return self._call("book")


class Ledger(DurableObject):
    """Object that keeps a book of entries.

    The table has no constraint against duplicates, so that orders applied twice are found.
    """

    migrations = (
        """
        CREATE TABLE entries (position INTEGER PRIMARY KEY, id TEXT NOT NULL, text TEXT NOT NULL);
        CREATE INDEX entries_by_id ON entries (id);
        """,
    )

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        order = msgspec.json.decode(message, type=Order)
        if not self._knows(order.id):
            self._apply(order)
        self.context.send(connection, Accepted(id=order.id))

    def _apply(self, order: Order) -> None:
        self._add(order.id, order.text)
        match order.verb:
            case "trim":
                self.context.storage.sql(
                    "UPDATE entries SET text = ''"
                    " WHERE position <= (SELECT max(position) FROM entries) - ?",
                    order.number,
                )
            case "alarm":
                self.context.storage.put("alarm", order.id)
                self.context.set_alarm(self.context.clock.now() + order.number)
            case "pass":
                other = LEDGERS[(LEDGERS.index(self.context.name) + 1) % len(LEDGERS)]
                self.context.tell(LedgerStub(other).receive(order.id), then=Passed(order.id))

    def receive(self, id: str) -> None:
        if not self._knows(f"from:{id}"):
            self._add(f"from:{id}", "")

    def on_event(self, event: object) -> None:
        assert isinstance(event, Passed)
        self._add(f"passed:{event.id}", "")
        self.context.broadcast(Accepted(id=f"passed:{event.id}"))

    def on_alarm(self, retry_count: int) -> None:
        id = self.context.storage.get("alarm", str)
        self._add(f"rang:{id}", "")
        self.context.broadcast(Accepted(id=f"rang:{id}"))

    def book(self) -> Book:
        rows = self.context.storage.sql("SELECT id, text FROM entries ORDER BY position")
        return [(str(id), str(text)) for id, text in rows], self.context.get_alarm()

    def _knows(self, id: str) -> bool:
        return self.context.storage.row("SELECT 1 FROM entries WHERE id = ?", id) is not None

    def _add(self, id: str, text: str) -> None:
        self.context.storage.sql("INSERT INTO entries (id, text) VALUES (?, ?)", id, text)


class Clerk:
    """Client that sends orders to one ledger and records acknowledgements."""

    def __init__(self, ledger: str, random: Random, sizes: tuple[int, ...], faulty: bool) -> None:
        self.ledger = ledger
        self.sent: list[Order] = []
        self.acknowledged: set[str] = set()
        """Ids acknowledged before the latest power cut."""
        self.received: list[str] = []
        """Ids acknowledged since the latest boot."""
        self._random = random
        self._numbers = itertools.count()
        self._sizes = sizes
        self._faulty = faulty

    def keep_acknowledged(self) -> None:
        """Record all ids received since the latest boot as acknowledged. `History` calls this
        method when the power is cut."""
        self.acknowledged.update(tuple(self.received))
        self.received = []

    async def send_orders(self, registry: Registry, disk: Disk) -> None:
        """Resend unacknowledged orders, then send new ones, mostly without waiting for replies."""
        connection = Connection(f"clerk-{self.ledger}")
        instance = registry.connect("ledger", self.ledger, connection)
        reader = asyncio.create_task(self._read(FakeSocket(connection), disk))
        try:
            known = self.acknowledged.union(self.received)
            again = [order for order in self.sent if order.id not in known]
            new = [self._order() for _ in range(self._random.randrange(2, 30))]
            pending: list[asyncio.Future[Any]] = []
            for order in [*again, *new]:
                if not disk.powered:
                    break
                if order not in again:
                    self.sent.append(order)
                pending.append(instance.deliver(connection, msgspec.json.encode(order).decode()))
                if self._random.random() < 0.3:
                    await asyncio.wait(pending)
                elif self._random.random() < 0.5:
                    await asyncio.sleep(0)
            if self._random.random() < 0.5:
                await asyncio.wait(pending)
        finally:
            instance.disconnect(connection)
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(self, sink: FakeSocket, disk: Disk) -> None:
        while not isinstance(frame := await sink.next(), Close):
            message = decode_server(frame)
            if isinstance(message, Accepted) and disk.powered:
                self.received.append(message.id)

    def _order(self) -> Order:
        random = self._random
        id = f"{self.ledger}{next(self._numbers)}"
        verb = random.choices(("add", "trim", "alarm", "pass"), (70, 10, 10, 10))[0]
        match verb:
            case "add":
                return Order(id, verb, random.randrange(random.choice(self._sizes)))
            case "trim":
                return Order(id, verb, random.randrange(20))
            case "alarm":
                return Order(id, verb, random.randrange(1, int(ALARM_WITHIN)))
        return Order(id, verb, 0)

    def find_faults(self, book: list[tuple[str, str]], due: float | None) -> list[str]:
        """Return one line for each discrepancy between the book and the orders that were sent."""
        ids = [id for id, _ in book]
        known = self.acknowledged.union(self.received)
        found = [f"{id}: acknowledged, and lost" for id in known - set(ids)]
        found += [f"{id}: there more than once" for id in sorted(set(ids)) if ids.count(id) > 1]
        own = [id for id in ids if ":" not in id]
        # After a failure an order is resent, behind later ones.
        if not self._faulty and own != [order.id for order in self.sent[: len(own)]]:
            found.append("the orders differ from those sent, or are out of order")
        return found or self._find_misapplied(book, due)

    def _find_misapplied(self, book: list[tuple[str, str]], due: float | None) -> list[str]:
        orders = {order.id: order for order in self.sent}
        texts: list[str] = []
        alarm = None
        for id, _ in book:
            order = orders.get(id)
            texts.append(order.text if order else "")
            if order and order.verb == "trim":
                blank = max(0, len(texts) - order.number)
                texts[:blank] = [""] * blank
            elif order and order.verb == "alarm":
                alarm = id
            elif id == f"rang:{alarm}":
                alarm = None
        found = []
        if texts != [text for _, text in book]:
            found.append("an order was applied in part")
        if (alarm is None) != (due is None):
            found.append(f"the alarm of {alarm} is due at {due}")
        return found


class History:
    """Ledgers and clerks on one simulated disk, through a series of power cuts."""

    def __init__(
        self, folder: Path, random: Random, *, ignore_sync: bool = False, faulty: bool = False
    ) -> None:
        """Create the disk and the clerks. If `faulty`, one disk operation in five fails during some
        periods."""
        self.clock = ManualClock()
        self.disk = Disk(folder, random, ignore_sync=ignore_sync)
        self.disk.on_cut = self._freeze
        self.disk.before_operation = self._fail
        self.failures = 0
        self._faulty = faulty
        self._failing = False
        self._random = random
        # In every third history the journals grow so long that they are checkpointed while in use.
        sizes = random.choice((SMALL, SMALL, LARGE))
        self._clerks = {name: Clerk(name, random, sizes, faulty) for name in LEDGERS}
        self._kinds = [Kind("ledger", Ledger, Ledger.migrations)]

    @property
    def _data(self) -> Path:
        """Data directory, which the registry creates."""
        return self.disk.root / "data"

    def _freeze(self) -> None:
        for clerk in self._clerks.values():
            clerk.keep_acknowledged()

    @property
    def acknowledged(self) -> int:
        return sum(len(clerk.acknowledged) for clerk in self._clerks.values())

    def _fail(self) -> None:
        if self._failing and self._random.random() < 0.2:
            self.failures += 1
            raise self._random.choice((disk_full, io_error))()

    async def run_until_cut(self) -> list[str]:
        """Run the ledgers from one boot to the next power cut; return the faults found."""
        found = find_corruption(self._data / "objects")
        boot = f"boot {self.disk.cuts}"
        registry = Registry(self._data, self._kinds, self.clock, vfs=self.disk.vfs, boot=boot)
        if not found and self._random.random() < 0.1:
            # Cut the power again during recovery.
            self.disk.cut_after(self._random.randrange(1, 30))
        await registry.start()
        try:
            found += await self._check_after_boot(registry)
            if not found:
                found += await self._work(registry)
        except PrepServerError as error:
            found.append(f"an object failed: {error}")
        finally:
            self._failing = False
            self.disk.cut()
            await registry.close()
        self.disk.restart()
        return found

    async def _check_after_boot(self, registry: Registry) -> list[str]:
        if self._random.random() < 0.3:
            # No ledger is open yet, so that only the index can cause an alarm to fire.
            await self.clock.advance(ALARM_WITHIN)
            await registry.wait_for_handlers()
            for name in LEDGERS:
                _, due = await registry.call(LedgerStub(name).book())
                if due is not None:
                    return [f"ledger {name}: the alarm did not fire"]
        return await self._compare(registry)

    async def _compare(self, registry: Registry) -> list[str]:
        found, passed, received = [], set(), set()
        for name, clerk in self._clerks.items():
            book, due = await registry.call(LedgerStub(name).book())
            found += [f"ledger {name}, {fault}" for fault in clerk.find_faults(book, due)]
            passed |= {id[7:] for id, _ in book if id.startswith("passed:")}
            received |= {id[5:] for id, _ in book if id.startswith("from:")}
        return found + [f"{id}: passed on, and lost" for id in passed - received]

    async def _work(self, registry: Registry) -> list[str]:
        self.disk.cut_after(self._random.randrange(1, 400))
        while self.disk.powered:
            self._failing = self._faulty and self._random.random() < 0.5
            await asyncio.gather(
                *(clerk.send_orders(registry, self.disk) for clerk in self._clerks.values())
            )
            if self._failing:
                # Once the disk works again, the ledgers must work immediately.
                self._failing = False
                await registry.wait_for_handlers()
                if found := await self._compare(registry):
                    return found
            if self._random.random() < 0.5:
                break
            # Alarms fire; idle ledgers are released, which checkpoints their journals.
            await self.clock.advance(self._random.choice((1.0, 15.0, ALARM_WITHIN)))
            await registry.wait_for_handlers()
        return []
