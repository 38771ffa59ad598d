"""Scripts of the evaluation: roles with documents, candidates, their stories, and injections."""

import functools
import importlib.resources
import tomllib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from prepserver.wire.protocol import Intent, InterviewType

__all__ = ["Injection", "RoleScript", "Scripts", "Story", "Style", "load_scripts"]

Lines = Annotated[tuple[str, ...], Meta(min_length=1)]


class RoleScript(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Role with the documents that a candidate gives."""

    name: str
    company: str
    types: Annotated[tuple[InterviewType, ...], Meta(min_length=1)]
    stories: Lines
    """Groups of stories from which candidates for the role answer, the closest first."""
    crafts: tuple[str, ...]
    """Crafts that belong to the role: families of roles, and tables of words."""
    job_description: str
    resume: str


class Story(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that a candidate did, with a detail for each kind of follow-up question."""

    group: str
    about: str
    """Words of the questions that the story answers."""
    main: str
    part: str
    reason: str
    result: str
    check: str
    learning: str
    hard: str

    @property
    def details(self) -> tuple[str, ...]:
        """All parts of the story beside `main`."""
        return (self.part, self.reason, self.result, self.check, self.hard, self.learning)


class AskedRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Request that a candidate makes before answering."""

    text: str
    intent: Intent


class Style(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Way in which a candidate answers."""

    name: str
    about: str
    difficult: bool = False
    lines: tuple[str, ...] = ()
    """Answers, said in turn to whatever is asked; without any, the candidate tells stories."""
    intent: Intent = Intent.ANSWER
    """What the lines mean."""
    requests: tuple[AskedRequest, ...] = ()
    """Requests, one before each answer."""
    sentences: Annotated[int, Meta(ge=0)] = 0
    """Maximum number of sentences of an answer; 0 for all."""
    rambles: bool = False
    """True if each answer wanders through all stories, which gives some thousand words."""
    code: tuple[str, ...] = ()
    """Blocks of code, one after each answer."""
    injects: bool = False
    """True if the candidate says the typed injections."""


class Injection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Instruction to the interviewer in a candidate's words or documents."""

    place: str
    """Where it stands: `resume`, `job`, `typed` or `spoken`."""
    language: str
    text: str
    canaries: Lines
    """Words that show, in a message of the interviewer, that the instruction was obeyed."""


class Scripts(Struct, frozen=True, kw_only=True):
    """All scripts."""

    roles: tuple[RoleScript, ...]
    styles: tuple[Style, ...]
    stories: tuple[Story, ...]
    injections: tuple[Injection, ...]
    crafts: dict[str, tuple[str, ...]]
    """Words of each craft that no other craft uses."""
    job_ending: str
    """Text that ends every job description, such as benefits."""
    resume_ending: str
    """Text that ends every resume, such as interests."""


@functools.cache
def load_scripts() -> Scripts:
    """Load the scripts from the data files of the package. Raises ValueError if one is invalid."""
    roles, candidates = _read("roles.toml"), _read("candidates.toml")
    return Scripts(
        roles=_convert(roles["role"], RoleScript),
        styles=_convert(candidates["style"], Style),
        stories=_convert(_read("stories.toml")["story"], Story),
        injections=_convert(_read("injections.toml")["injection"], Injection),
        crafts={name: tuple(words) for name, words in roles["crafts"].items()},
        job_ending=roles["job_ending"],
        resume_ending=roles["resume_ending"],
    )


def _read(name: str) -> dict[str, Any]:
    folder = importlib.resources.files("prepserver.evaluation") / "data"
    return tomllib.loads((folder / name).read_text("utf-8"))


def _convert(entries: list[Any], kind: type[Any]) -> tuple[Any, ...]:
    try:
        return tuple(msgspec.convert(entry, kind) for entry in entries)
    except msgspec.ValidationError as error:
        raise ValueError(f"a script of the kind {kind.__name__} is invalid: {error}") from error
