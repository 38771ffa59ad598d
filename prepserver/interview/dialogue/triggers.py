"""Questions about things that an answer mentions, such as a cache; see triggers.toml."""

import functools
import importlib.resources
import re
import tomllib
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from prepserver.interview.dialogue.clauses import Clause, Tense

__all__ = ["find_triggered"]


class _Trigger(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Entry of triggers.toml."""

    said: re.Pattern[str]
    about: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    any: tuple[str, ...] = ()
    did: tuple[str, ...] = ()
    would: tuple[str, ...] = ()


def find_triggered(whole: str, clauses: Sequence[Clause]) -> Iterator[str]:
    """Yield the questions of the triggers in the candidate's actions, the first action first."""
    told = any(clause.tense is Tense.PAST for clause in clauses)
    actions = "\n".join(clause.text for clause in clauses)
    for trigger in _triggers():
        if not trigger.said.search(actions) and len(trigger.said.findall(whole)) < 2:
            continue
        if trigger.about and not trigger.about.search(whole):
            continue
        if trigger.unless and trigger.unless.search(whole):
            continue
        yield from (*trigger.any, *(trigger.did if told else trigger.would))


@functools.cache
def _triggers() -> tuple[_Trigger, ...]:
    file = importlib.resources.files("prepserver.interview.dialogue") / "triggers.toml"
    entries = tomllib.loads(file.read_text("utf-8"))["trigger"]
    return tuple(msgspec.convert(each, _Trigger, dec_hook=_decode_pattern) for each in entries)


def _decode_pattern(type: object, value: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{value})", re.IGNORECASE)
