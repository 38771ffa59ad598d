"""Power cuts at random moments: acknowledged writes survive, once and in order."""

from collections.abc import Iterable
from pathlib import Path
from random import Random

import apsw
import pytest

from prepserver.objects.alarms import AlarmIndex
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context
from prepserver.wire.codec import encode
from prepserver.wire.protocol import ServerMessage
from tests.server.objects.ledgers import History
from tests.support.histories import run_power_cuts
from tests.support.loop import asynchronous
from tests.support.power import Disk


def on_an_ignoring_disk(folder: Path, random: Random) -> History:
    """Return a history of power cuts on a disk that ignores syncs."""
    return History(folder, random, ignore_sync=True)


def on_a_failing_disk(folder: Path, random: Random) -> History:
    """Return a history of power cuts on a disk whose operations fail at times."""
    return History(folder, random, faulty=True)


def bypass_the_output_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch `Context` so that messages are sent at once instead of after the commit."""

    def send(context: Context, connection: Connection, message: ServerMessage) -> None:
        connection.push(encode(message))

    def broadcast(
        context: Context,
        message: ServerMessage,
        *,
        exclude: Iterable[str] = (),
        tag: str | None = None,
    ) -> None:
        for connection in context.connections(tag):
            send(context, connection, message)

    monkeypatch.setattr(Context, "send", send)
    monkeypatch.setattr(Context, "broadcast", broadcast)


@asynchronous
async def test_power_cuts_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """In 150 power cuts, no acknowledged order is lost, no file is damaged, and every alarm
    fires."""
    outcome = await run_power_cuts(History, tmp_path, 1, 150)
    assert not outcome.violations, outcome
    assert outcome.cuts == 150
    # Enough writes were at risk for the test to be meaningful.
    assert outcome.acknowledged > 1_000
    assert min(outcome.survived, outcome.lost) > 500


@asynchronous
async def test_without_the_output_gate_acknowledged_orders_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If messages do not wait for the commit, power cuts lose acknowledged orders, and the loss is
    detected."""
    bypass_the_output_gate(monkeypatch)
    outcome = await run_power_cuts(History, tmp_path, 1, 150, until_violated=True)
    assert any("acknowledged, and lost" in one for one in outcome.violations), outcome


@asynchronous
async def test_without_syncs_acknowledged_orders_are_lost(tmp_path: Path) -> None:
    """If the disk ignores syncs, power cuts lose acknowledged orders, and the loss is detected."""
    outcome = await run_power_cuts(on_an_ignoring_disk, tmp_path, 1, 150, until_violated=True)
    assert any("acknowledged, and lost" in one for one in outcome.violations), outcome


@asynchronous
async def test_power_cuts_and_disk_failures_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """In 60 power cuts on a disk that also fails at times, no acknowledged order is lost and no
    order is applied in part."""
    outcome = await run_power_cuts(on_a_failing_disk, tmp_path, 2, 60)
    assert not outcome.violations, outcome
    assert outcome.acknowledged > 400


@pytest.mark.chaos
@pytest.mark.time_limit(1800)
@pytest.mark.parametrize("seed", range(1, 6))
@asynchronous
async def test_300_power_cuts_and_disk_failures_lose_nothing_acknowledged(
    tmp_path: Path, seed: int
) -> None:
    """No acknowledged order is lost in 300 power cuts on a disk that also fails at times."""
    outcome = await run_power_cuts(on_a_failing_disk, tmp_path, seed, 300)
    assert not outcome.violations, outcome


@pytest.mark.chaos
@pytest.mark.time_limit(1800)
@pytest.mark.parametrize("seed", range(1, 6))
@asynchronous
async def test_1000_power_cuts_lose_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    """No acknowledged order is lost in 1000 power cuts."""
    outcome = await run_power_cuts(History, tmp_path, seed, 1_000)
    assert not outcome.violations, outcome
    assert outcome.cuts == 1_000


# --- The alarm index ------------------------------------------------------------------------------


def index_on(disk: Disk) -> AlarmIndex:
    boot = f"boot {disk.cuts}"
    return AlarmIndex(disk.root / "alarms.sqlite", boot=boot, vfs=disk.vfs)


def index_in_use(disk: Disk) -> AlarmIndex:
    """Return an index that was complete and durable, and has since received so many writes that
    SQLite has moved the journal into the file without a sync."""
    index = index_on(disk)
    index.rebuild([])
    index.close()
    index = index_on(disk)
    assert index.complete
    for number in range(1_200):
        index.write("ledger", str(number % 40), float(number))
    return index


@pytest.mark.parametrize("seed", range(8))
def test_an_index_that_lost_something_is_not_trusted(tmp_path: Path, seed: int) -> None:
    """An index that was open during a power cut does not count as complete after the restart."""
    disk = Disk(tmp_path / "disk", Random(seed))
    index = index_in_use(disk)
    disk.cut()
    index.close()
    disk.restart()
    index = index_on(disk)
    assert not index.complete
    index.close()


def test_an_index_is_trusted_once_its_close_is_durable(
    tmp_path: Path,
) -> None:
    """If the power is cut while an index is being closed, the index counts as complete only if
    every entry has survived."""
    trusted = []
    for operations in range(1, 60):
        disk = Disk(tmp_path / f"disk-{operations}", Random(operations))
        index = index_in_use(disk)
        disk.cut_after(operations)
        index.close()
        disk.restart()
        index = index_on(disk)
        trusted.append(index.complete)
        if index.complete:
            assert len(index.pop_due_alarms(float("inf"))) == 40
        index.close()
        disk.remove()
    assert trusted[-1], "an index that was closed before the cut must be trusted"
    assert not trusted[0]


# --- The simulated disk ---------------------------------------------------------------------------


def open_database(disk: Disk) -> apsw.Connection:
    connection = apsw.Connection(str(disk.root / "a.sqlite"), vfs=disk.vfs)
    connection.pragma("journal_mode", "wal")
    return connection


def rows_after_a_cut(folder: Path, seed: int, *, synchronous: str) -> list[object]:
    disk = Disk(folder, Random(seed))
    connection = open_database(disk)
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE numbers (n)")
    connection.pragma("synchronous", synchronous)
    for number in range(4):
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
    disk.cut()
    connection.close()
    disk.restart()
    connection = open_database(disk)
    rows: list[object] = [row[0] for row in connection.execute("SELECT n FROM numbers")]
    connection.close()
    return rows


@pytest.mark.parametrize("seed", range(10))
def test_synced_writes_survive(tmp_path: Path, seed: int) -> None:
    """Every synced write on the simulated disk survives a power cut."""
    rows = rows_after_a_cut(tmp_path / "disk", seed, synchronous="full")
    assert rows == [0, 1, 2, 3]


def test_unsynced_writes_survive_by_chance(tmp_path: Path) -> None:
    """Without syncs, all, some or none of the writes survive a power cut."""
    found = {
        len(rows_after_a_cut(tmp_path / f"disk-{seed}", seed, synchronous="off"))
        for seed in range(60)
    }
    assert len(found) > 2


def test_a_file_in_an_unsynced_folder_survives_by_chance(tmp_path: Path) -> None:
    """A file whose folder was not synced may be missing, empty or complete after a restart of the
    disk."""
    found = set()
    for seed in range(20):
        disk = Disk(tmp_path / f"disk-{seed}", Random(seed))
        with disk.track_fsync(), (disk.root / "note").open("wb") as file:
            file.write(b"remember")
        disk.restart()
        note = disk.root / "note"
        found.add(note.read_bytes() if note.exists() else None)
    assert found <= {None, b"", b"remember"}
    assert None in found
    assert len(found) > 1
