"""Families of roles: the craft that a role belongs to, and the skills that are typical of it."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

__all__ = ["ANY_FAMILY", "Families", "Family", "parse_families"]

ANY_FAMILY = "any"
"""Mark of a question that people of every craft can answer."""

_INTERNSHIP = "internship"


class Family(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Craft, such as nursing or backend development."""

    name: str
    titles: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Words that show, in the name of a role, that the role belongs to the family."""
    foreign: tuple[str, ...] = ()
    """Names of other crafts that contain one of the titles: "interior designer"."""
    skills: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Typical skills, the most typical first."""
    parent: str = ""
    """Name of the family whose questions suit this family too; empty if there is none."""


class Families:
    """Set of all families."""

    def __init__(self, families: Iterable[Family]) -> None:
        """Raises ValueError if two families have the same name or title, or a parent is missing."""
        self._families: dict[str, Family] = {}
        titles: dict[str, str] = {}
        for family in families:
            if family.name in (*self._families, ANY_FAMILY):
                raise ValueError(f"Two families have the name {family.name!r}. Change one of them.")
            for title in family.titles:
                if title in titles:
                    raise ValueError(
                        f"The families {family.name!r} and {titles[title]!r} share the title "
                        f"{title!r}. Remove it from one of them."
                    )
                titles[title] = family.name
            self._families[family.name] = family
        for family in self._families.values():
            if family.parent and family.parent not in self._families:
                raise ValueError(
                    f"The family {family.name!r} has the unknown parent {family.parent!r}."
                )
        self._patterns = {name: _pattern(each) for name, each in self._families.items()}

    @property
    def families(self) -> tuple[Family, ...]:
        """All families."""
        return tuple(self._families.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all families."""
        return tuple(self._families)

    def of_role(self, role: str) -> frozenset[str]:
        """Return the families of a role with their parents, and `ANY_FAMILY`."""
        named = self._named(role)
        parents = (family.parent for family in named if family.parent)
        return frozenset({ANY_FAMILY, *parents, *(family.name for family in named)})

    def skills_of(self, role: str) -> tuple[str, ...]:
        """Return the typical skills of the role's families, the most typical first. A family comes
        before its parent."""
        named = self._named(role)
        own = [family for family in named if not any(one.parent == family.name for one in named)]
        parents = [self._families[one.parent] for one in own if one.parent]
        return tuple(dict.fromkeys(skill for one in (*own, *parents) for skill in one.skills))

    def _named(self, role: str) -> list[Family]:
        """Return the families that the role names.

        The last family of a phrase is its craft: a "software sales manager" sells. Others count
        only as its parent or child, or as an internship, which may be in any craft.
        """
        named: set[str] = set()
        for phrase in _PHRASE_END.split(role):
            ends = {
                name: max(match.end() for match in found)
                for name, pattern in self._patterns.items()
                if (found := [match for match in pattern.finditer(phrase) if match["title"]])
            }
            last = max((end for name, end in ends.items() if name != _INTERNSHIP), default=0)
            crafts = {name for name, end in ends.items() if end == last}
            named |= crafts | {
                name for name in ends if name == _INTERNSHIP or self._is_related(name, crafts)
            }
        return [family for name, family in self._families.items() if name in named]

    def _is_related(self, name: str, others: set[str]) -> bool:
        parent = self._families[name].parent
        return parent in others or any(self._families[one].parent == name for one in others)


def parse_families(data: Any) -> list[Family]:
    """Parse families in the form of families.toml: name -> other fields of `Family`.

    Raises ValueError if an entry is invalid.
    """
    if not isinstance(data, dict):
        raise ValueError("The families are not tables. Begin each family with [families.NAME].")
    families = []
    for name, rest in data.items():
        try:
            families.append(msgspec.convert({**rest, "name": name}, Family))
        except (msgspec.ValidationError, TypeError) as error:
            raise ValueError(f"The family {name!r} is invalid: {error}.") from error
    return families


_PHRASE_END = re.compile(r"[,;/|()&+]|\b(?:and|or)\b", re.IGNORECASE)


def _pattern(family: Family) -> re.Pattern[str]:
    foreign, titles = (
        "|".join(re.escape(name).replace(r"\ ", "[ -]?") for name in names)
        for names in (family.foreign, family.titles)
    )
    choice = f"{foreign}|(?P<title>{titles})" if foreign else f"(?P<title>{titles})"
    return re.compile(rf"(?<!\w)(?:{choice})s?(?!\w)", re.IGNORECASE)
