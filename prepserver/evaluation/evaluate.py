"""Evaluation of one system: interviews with scripted candidates, and the measures over them."""

import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prepserver.app import create_services
from prepserver.config import load
from prepserver.engines.hardware import usable_cores, usable_memory
from prepserver.engines.types import ModelInfo
from prepserver.evaluation.plans import PlannedInterview
from prepserver.evaluation.records import Evaluation, InterviewRecord, SystemInfo
from prepserver.evaluation.report import measure_interviews
from prepserver.evaluation.scripts import load_scripts
from prepserver.evaluation.sessions import USER, hold_interview
from prepserver.gateway.gateway import Call

__all__ = ["evaluate"]

NEVER = 1_000_000_000.0
"""Seconds until the automatic hint of an interview in which nobody waits."""

_INFO_CALL = Call(purpose="evaluation", user=USER, interview="", request="evaluation")

_PACKAGES = ("prep-interview", "llama-cpp-python")

Progress = Callable[[int, int, InterviewRecord], None]
"""Function that is called with the number of each finished interview, of how many, and the
record."""


async def evaluate(
    planned: Sequence[PlannedInterview],
    *,
    model: str,
    name: str,
    seed: int,
    on_progress: Progress = lambda *_: None,
    **settings: Any,
) -> Evaluation:
    """Hold the interviews one after another with `model`, and return the records and measures.

    `settings` are other settings of the server. Raises ModelNotFound, BadRequest, or InferenceError
    if the model cannot be loaded.
    """
    scripts = load_scripts()
    records: list[InterviewRecord] = []
    with tempfile.TemporaryDirectory(prefix="prep-evaluation-") as folder:
        flags = {
            **settings,
            "model": model,
            "stt_model": "scripted",
            "data_dir": Path(folder),
            "rate_limit": 0,
            "hint_after": NEVER,
        }
        services = create_services(load(flags))
        await services.start()
        try:
            info = await services.gateway.model_info(_INFO_CALL)
            for number, each in enumerate(planned, 1):
                records.append(await hold_interview(services, scripts, each))
                on_progress(number, len(planned), records[-1])
        finally:
            await services.close()
    system = _describe_system(info, name, seed, records)
    return Evaluation(
        system=system, results=measure_interviews(records, system.profile), interviews=records
    )


def _describe_system(
    info: ModelInfo, name: str, seed: int, records: Sequence[InterviewRecord]
) -> SystemInfo:
    return SystemInfo(
        name=name,
        model=info.name,
        parameters=info.parameters or 0,
        profile="starter" if info.few_shot else "standard",
        seed=seed,
        interviews=len(records),
        messages=sum(len(record.interviewer_messages()) for record in records),
        machine=f"{_processor()}, {usable_cores()} cores, {usable_memory() / 1e9:.0f} GB, "
        f"{platform.system()}",
        versions={"Python": platform.python_version(), **_versions()},
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    """Return the name of the processor; of its architecture if the system does not name it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
