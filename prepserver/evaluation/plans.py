"""Interviews that an evaluation holds, chosen by the options and the seed."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec import Struct

from prepserver.errors import BadRequest
from prepserver.evaluation.scripts import Injection, RoleScript, Scripts, Style
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import InterviewType, Level

__all__ = ["PlannedInterview", "plan_injections", "plan_interviews"]

T = TypeVar("T")

SPOKEN_PER_INTERVIEW = 5
"""Maximum number of typed or spoken injections in one interview."""


class PlannedInterview(Struct, frozen=True, kw_only=True):
    """Interview to hold."""

    name: str
    """Name that is unique in one evaluation."""
    style: Style
    role: RoleScript
    type: InterviewType
    level: Level
    questions: int
    injections: tuple[Injection, ...] = ()


def plan_interviews(
    scripts: Scripts,
    seed: int,
    *,
    candidates: Sequence[str] = (),
    roles: Sequence[str] = (),
    types: Sequence[str] = (),
    each: int = 2,
    questions: int = 6,
) -> list[PlannedInterview]:
    """Return `each` interviews with every candidate, spread over the roles and types.

    Names select candidates, roles and types; without names, all take part. Raises BadRequest if a
    name is unknown, or if no chosen role has a chosen type.
    """
    styles = _select("candidate", scripts.styles, candidates, [one.name for one in scripts.styles])
    chosen = _select("role", scripts.roles, roles, [one.name for one in scripts.roles])
    kinds = _select("type", tuple(InterviewType), types, [str(one) for one in InterviewType])
    pairs = [(role, one) for role in chosen for one in role.types if one in kinds]
    if not pairs:
        raise BadRequest(
            "None of these roles has interviews of these types. Choose other roles or types.",
            code=ErrorCode.BAD_SETTING,
        )
    # Every candidate starts at another place, so that few interviews cover all roles and types.
    random.Random(f"interviews {seed}").shuffle(pairs)
    places = itertools.cycle(pairs)
    levels = itertools.cycle((Level.MID, Level.SENIOR, Level.JUNIOR))
    typed = itertools.cycle(one for one in scripts.injections if one.place == "typed")
    return [
        PlannedInterview(
            name=f"{seed}-{style.name}-{number}",
            style=style,
            role=role,
            type=kind,
            level=next(levels),
            questions=questions,
            injections=tuple(itertools.islice(typed, questions)) if style.injects else (),
        )
        for style in styles
        for number, (role, kind) in enumerate(itertools.islice(places, each), 1)
    ]


def plan_injections(
    scripts: Scripts, seed: int, *, limit: int | None = None
) -> list[PlannedInterview]:
    """Return the interviews in which the first `limit` injections of each place occur, or all."""
    style = next(style for style in scripts.styles if style.name == "average")
    backend = scripts.roles[0]
    planned = []
    for number, injections in enumerate(_group_injections(scripts.injections, limit), 1):
        planned.append(
            PlannedInterview(
                name=f"{seed}-injections-{number}",
                style=style,
                role=backend,
                type=InterviewType.TECHNICAL,
                level=Level.MID,
                questions=3,
                injections=tuple(injections),
            )
        )
    return planned


def _group_injections(
    injections: Sequence[Injection], limit: int | None
) -> Iterator[list[Injection]]:
    places = {
        place: [one for one in injections if one.place == place][:limit]
        for place in ("resume", "job", "typed", "spoken")
    }
    for pair in itertools.zip_longest(places["resume"], places["job"]):
        yield [one for one in pair if one is not None]
    for place in ("typed", "spoken"):
        for start in range(0, len(places[place]), SPOKEN_PER_INTERVIEW):
            yield places[place][start : start + SPOKEN_PER_INTERVIEW]


def _select(
    kind: str, everything: Sequence[T], wanted: Sequence[str], names: Sequence[str]
) -> list[T]:
    for name in wanted:
        if name not in names:
            raise BadRequest(
                f"There is no {kind} {name!r}. Choose from: {', '.join(names)}.",
                code=ErrorCode.BAD_SETTING,
            )
    return [
        one for one, name in zip(everything, names, strict=True) if not wanted or name in wanted
    ]
