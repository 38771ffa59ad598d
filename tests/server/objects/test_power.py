"""The power is cut at random moments: what was acknowledged is there afterwards, once, in order."""

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


def deaf(folder: Path, random: Random) -> History:
    """On a disk that does not wait."""
    return History(folder, random, deaf=True)


def faulty(folder: Path, random: Random) -> History:
    """On a disk that fails now and then."""
    return History(folder, random, faulty=True)


def let_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the output gate away: what a handler sends does not wait for its transaction."""

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
async def test_nothing_acknowledged_is_lost_when_the_power_is_cut(tmp_path: Path) -> None:
    """Every order that was acknowledged is in the book, no file is damaged, each alarm rings."""
    outcome = await run_power_cuts(History, tmp_path, 1, 150)
    assert not outcome.violations, outcome
    assert outcome.cuts == 150
    # The test would show nothing if little was at stake.
    assert outcome.acknowledged > 1_000
    assert min(outcome.kept, outcome.lost) > 500


@asynchronous
async def test_without_the_output_gate_acknowledged_orders_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test can fail: effects that do not wait for the commit are found out."""
    let_out_at_once(monkeypatch)
    outcome = await run_power_cuts(History, tmp_path, 1, 150, until_violated=True)
    assert any("acknowledged, and lost" in one for one in outcome.violations), outcome


@asynchronous
async def test_without_waiting_for_the_sync_acknowledged_orders_are_lost(tmp_path: Path) -> None:
    """The test can fail: commits that do not reach the disk are found out."""
    outcome = await run_power_cuts(deaf, tmp_path, 1, 150, until_violated=True)
    assert any("acknowledged, and lost" in one for one in outcome.violations), outcome


@asynchronous
async def test_nothing_acknowledged_is_lost_when_the_disk_fails_as_well(tmp_path: Path) -> None:
    """Full and broken disks between the cuts: what was refused has left nothing behind, and every
    ledger works again as soon as its disk does."""
    outcome = await run_power_cuts(faulty, tmp_path, 2, 60)
    assert not outcome.violations, outcome
    assert outcome.acknowledged > 400


@pytest.mark.chaos
@pytest.mark.time_limit(1800)
@pytest.mark.parametrize("seed", range(1, 6))
@asynchronous
async def test_nothing_acknowledged_is_lost_in_cuts_and_failures(tmp_path: Path, seed: int) -> None:
    """The long form."""
    outcome = await run_power_cuts(faulty, tmp_path, seed, 300)
    assert not outcome.violations, outcome


@pytest.mark.chaos
@pytest.mark.time_limit(1800)
@pytest.mark.parametrize("seed", range(1, 6))
@asynchronous
async def test_nothing_acknowledged_is_lost_in_a_thousand_cuts(tmp_path: Path, seed: int) -> None:
    """The long form."""
    outcome = await run_power_cuts(History, tmp_path, seed, 1_000)
    assert not outcome.violations, outcome
    assert outcome.cuts == 1_000


# --- The index of alarms --------------------------------------------------------------------------


def index_on(disk: Disk) -> AlarmIndex:
    boot = f"boot {disk.cuts}"
    return AlarmIndex(disk.root / "alarms.sqlite", boot=boot, vfs=disk.vfs)


def index_in_use(disk: Disk) -> AlarmIndex:
    """One that was whole and durable, and in which so much was changed since that its journal has
    been moved into the file without waiting."""
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
    """It does not wait for the disk: what the power leaves of it never passes for the whole."""
    disk = Disk(tmp_path / "disk", Random(seed))
    index = index_in_use(disk)
    disk.cut()
    index.close()
    disk.restart()
    index = index_on(disk)
    assert not index.complete
    index.close()


def test_an_index_is_trusted_when_it_was_closed_and_not_before_it_is_durable(
    tmp_path: Path,
) -> None:
    """Wherever the power is cut while it is closed: either it is all there or it is filled anew."""
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
    assert trusted[-1], "an index that was closed before the cut is trusted"
    assert not trusted[0]


# --- The disk itself ------------------------------------------------------------------------------


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
def test_what_was_synced_survives(tmp_path: Path, seed: int) -> None:
    """The disk keeps what it promised to keep."""
    rows = rows_after_a_cut(tmp_path / "disk", seed, synchronous="full")
    assert rows == [0, 1, 2, 3]


def test_what_was_not_synced_survives_by_chance(tmp_path: Path) -> None:
    """Without syncing, sometimes all of it is there and sometimes not, but never out of order."""
    found = {
        len(rows_after_a_cut(tmp_path / f"disk-{seed}", seed, synchronous="off"))
        for seed in range(60)
    }
    assert len(found) > 2


def test_a_file_whose_folder_was_not_synced_survives_by_chance(tmp_path: Path) -> None:
    """Syncing a file does not make its name durable."""
    found = set()
    for seed in range(20):
        disk = Disk(tmp_path / f"disk-{seed}", Random(seed))
        with disk.syncing(), (disk.root / "note").open("wb") as file:
            file.write(b"remember")
        disk.restart()
        note = disk.root / "note"
        found.add(note.read_bytes() if note.exists() else None)
    assert found <= {None, b"", b"remember"}
    assert None in found
    assert len(found) > 1
