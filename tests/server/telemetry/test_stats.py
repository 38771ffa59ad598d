"""Statistics of the call log, compared with statistics computed in plain Python."""

import json
import random
from pathlib import Path

import pytest

from prepserver.errors import BadRequest, NotFound
from prepserver.telemetry.call_log import CallLog
from prepserver.telemetry.calls import CallRecord
from prepserver.telemetry.report import call_list, statistics_report
from prepserver.telemetry.stats import StatsLine, call_statistics, parse_duration
from prepserver.wire.error_codes import ErrorCode
from tests.support.clock import ManualClock
from tests.support.loop import asynchronous

OUTCOMES = ("ok", "ok", "ok", "cancelled", ErrorCode.WORKER_DIED, "dropped")


def random_records(seed: int, count: int, now: float) -> list[CallRecord]:
    dice = random.Random(seed)
    return [
        CallRecord(
            at=now - dice.randint(0, 100),
            kind=dice.choice(("generate", "prefill")),
            purpose=dice.choice(("question", "hint")),
            user="u",
            interview="i",
            request=str(number),
            model=dice.choice(("", "small", "large")),
            fallback_index=dice.choice((0, 0, 1)),
            prompt_tokens=dice.randint(0, 100),
            cached_tokens=dice.randint(0, 50),
            completion_tokens=dice.randint(0, 30),
            audio=dice.randint(0, 8) / 4,
            first_token=dice.choice((None, dice.randint(0, 400) / 4)),
            duration=dice.randint(0, 4_000) / 4,
            compute=dice.randint(0, 8) / 4,
            retries=dice.randint(0, 2),
            shared=dice.choice(("", "", "cache", "in_flight")),
            outcome=dice.choice(OUTCOMES),
        )
        for number in range(count)
    ]


def percentile(values: list[float], share: float) -> float | None:
    """Return the nearest-rank percentile of the values; None if there are no values."""
    ordered = sorted(values)
    rank = next((n for n in range(1, len(ordered) + 1) if n >= share * len(ordered)), None)
    return None if rank is None else ordered[rank - 1]


def expected_statistics(records: list[CallRecord], since: float) -> list[StatsLine]:
    groups: dict[tuple[str, str, str], list[CallRecord]] = {}
    for record in records:
        if record.at >= since:
            groups.setdefault((record.model, record.kind, record.purpose), []).append(record)
    lines = []
    for (model, kind, purpose), group in sorted(groups.items()):
        first_tokens = [call.first_token for call in group if call.first_token is not None]
        durations = [record.duration for record in group if record.outcome == "ok"]
        lines.append(
            StatsLine(
                model=model,
                kind=kind,
                purpose=purpose,
                calls=len(group),
                errors=sum(record.outcome == ErrorCode.WORKER_DIED for record in group),
                cancelled=sum(record.outcome == "cancelled" for record in group),
                dropped=sum(record.outcome == "dropped" for record in group),
                retries=sum(record.retries for record in group),
                fallbacks=sum(record.fallback_index > 0 for record in group),
                shared=sum(record.shared != "" for record in group),
                prompt_tokens=sum(record.prompt_tokens for record in group),
                cached_tokens=sum(record.cached_tokens for record in group),
                completion_tokens=sum(record.completion_tokens for record in group),
                audio=sum(record.audio for record in group),
                compute=sum(record.compute for record in group),
                first_token_p50=percentile(first_tokens, 0.5),
                first_token_p95=percentile(first_tokens, 0.95),
                duration_p50=percentile(durations, 0.5),
                duration_p95=percentile(durations, 0.95),
            )
        )
    return lines


async def write_log(tmp_path: Path, records: list[CallRecord]) -> CallLog:
    log = CallLog(tmp_path / "calls.sqlite", ManualClock())
    for record in records:
        log.add(record)
    await log.flush()
    return log


@pytest.mark.parametrize(("seed", "count"), [(1, 1), (2, 2), (3, 20), (4, 21), (5, 400)])
@asynchronous
async def test_statistics_equal_a_plain_count(tmp_path: Path, seed: int, count: int) -> None:
    """Sums and percentiles equal those computed in plain Python, and calls before the period are
    excluded."""
    now = ManualClock().now()
    records = random_records(seed, count, now)
    log = await write_log(tmp_path, records)
    for since in (0.0, now - 50):
        assert call_statistics(log.path, since) == expected_statistics(records, since)
    await log.close()


@asynchronous
async def test_the_report_reads_the_log_of_a_running_server(tmp_path: Path) -> None:
    """The statistics of a log that is open for writing can be printed as a table and as JSON."""
    now = ManualClock().now()
    records = random_records(6, 50, now)
    log = await write_log(tmp_path, records)
    parsed = json.loads(statistics_report(tmp_path, "1h", as_json=True, now=now))
    assert (parsed["since"], parsed["until"]) == (now - 3_600, now)
    assert [(line["model"], line["calls"]) for line in parsed["lines"]] == [
        (line.model, line.calls) for line in expected_statistics(records, 0.0)
    ]
    table = statistics_report(tmp_path, "1h", as_json=False, now=now).splitlines()
    assert table[0].split()[:2] == ["model", "purpose"]
    assert len(table) == 1 + len(expected_statistics(records, 0.0))
    assert any(row.startswith("(none)") for row in table)
    assert "No model calls" in statistics_report(tmp_path, "1s", as_json=False, now=now + 1_000)
    await log.close()


def test_a_report_without_a_log_names_the_missing_file(tmp_path: Path) -> None:
    """Without a call log, a report creates no file and raises an error that names the data
    directory."""
    with pytest.raises(NotFound) as error:
        statistics_report(tmp_path, "24h", as_json=False, now=0.0)
    assert str(tmp_path) in error.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1_800), ("24h", 86_400), (" 1.5D ", 129_600)]
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    """A duration is written as a number followed by `s`, `m`, `h` or `d`, in lower or upper
    case."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w", "1h30m", "0s", "٣h", "9" * 50 + "d"])
def test_an_invalid_duration_is_rejected(text: str) -> None:
    """The error for an invalid duration gives a valid duration as an example."""
    with pytest.raises(BadRequest) as error:
        parse_duration(text)
    assert error.value.code == ErrorCode.BAD_SPAN
    assert "24h" in error.value.message


@asynchronous
async def test_single_calls_are_listed_newest_first(tmp_path: Path) -> None:
    """Calls are listed newest first and can be filtered, and JSON output has one call per line."""
    now = ManualClock().now()
    records = random_records(7, 60, now)
    log = await write_log(tmp_path, records)

    def listed_requests(**query: str) -> list[str]:
        chosen = {"user": "", "interview": "", "purpose": "", **query}
        text = call_list(tmp_path, "1h", **chosen, limit=1_000, as_json=True, now=now)
        return [json.loads(line)["request"] for line in text.splitlines()]

    newest = sorted(records, key=lambda r: (r.at, records.index(r)), reverse=True)
    assert listed_requests() == [record.request for record in newest]
    assert listed_requests(purpose="hint") == [r.request for r in newest if r.purpose == "hint"]
    assert listed_requests(user="u", interview="another") == []
    table = call_list(
        tmp_path, "1h", user="", interview="", purpose="", limit=3, as_json=False, now=now
    ).splitlines()
    assert len(table) == 4
    assert table[0].startswith("time (UTC)")
    assert table[1].startswith("2023-11-14 ")
    await log.close()
