"""What can happen in a simulation, and schedules of it made from a seed."""

import random

import msgspec
from msgspec import Struct

from tests.simulation.models import Mood

__all__ = ["Action", "Setup", "Step", "described", "schedule", "setup"]


class Say(Struct, frozen=True):
    """A typed answer; a `patient` person answers only when there is a question."""

    who: int
    patient: bool


class Speak(Struct, frozen=True):
    """So many frames into the recording that is open, or a new one."""

    who: int
    frames: int
    patient: bool


class Deliver(Struct, frozen=True):
    """The recording is whole."""

    who: int


class Withdraw(Struct, frozen=True):
    """The recording is cancelled."""

    who: int


class Press(Struct, frozen=True):
    """One of the messages without content; a `patient` person only where it makes sense."""

    who: int
    key: str
    """`type`, `hint`, `stop`, `retry`, `end`, `look`."""
    patient: bool


class Edit(Struct, frozen=True):
    who: int
    which: int


class Drop(Struct, frozen=True):
    who: int
    arriving: int
    unnoticed: float
    outage: float


class Freeze(Struct, frozen=True):
    who: int
    frozen: bool


class Return(Struct, frozen=True):
    """The client's program ends and starts again, with nothing but its address."""

    who: int


class Expire(Struct, frozen=True):
    """All tokens handed out so far are refused from now on."""


class Advance(Struct, frozen=True):
    seconds: float


class Crash(Struct, frozen=True):
    """The server's process is gone; so much of the disk work that waited was still done. `lost`
    says that what had been sent does not arrive any more."""

    done: int
    lost: bool


class Restart(Struct, frozen=True):
    """A clean end, and a start after a while; a start after a crash; nothing when it is down and
    stays so."""

    down: float


class Brain(Struct, frozen=True):
    """How the language model behaves from now on."""

    mood: Mood


class Ears(Struct, frozen=True):
    """How the speech model behaves from now on."""

    mood: Mood


class Disk(Struct, frozen=True):
    """Whether the disk keeps everybody waiting."""

    held: bool


class Rename(Struct, frozen=True):
    which: int


class Delete(Struct, frozen=True):
    which: int


Action = (
    Say
    | Speak
    | Deliver
    | Withdraw
    | Press
    | Edit
    | Drop
    | Freeze
    | Return
    | Expire
    | Advance
    | Crash
    | Restart
    | Brain
    | Ears
    | Disk
    | Rename
    | Delete
)


class Step(Struct, frozen=True):
    action: Action
    turns: int | None = None
    """Turns of the loop before the next step; None lets everything come to rest."""


class Setup(Struct, frozen=True, kw_only=True):
    """What a run begins with."""

    interviews: int
    people: tuple[int, ...]
    """For each client the number of its interview; -1 for the list of interviews."""
    questions: int
    compact: bool
    rate_limit: int
    outbox: int
    """Messages that may wait for a slow reader."""
    pace: float
    """Virtual seconds that the language model needs for a word at first."""
    context: int
    """Tokens; in the smaller one an interview of some answers has no room."""


def setup(seed: int) -> Setup:
    rng = random.Random(f"setup {seed}")
    interviews = rng.choice((1, 1, 2))
    people = [rng.randrange(interviews) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        people.append(-1)
    return Setup(
        interviews=interviews,
        people=tuple(people),
        questions=rng.choice((1, 2, 3, 5, 8)),
        compact=rng.random() < 0.3,
        rate_limit=rng.choice((0, 0, 0, 3, 12)),
        outbox=rng.choice((1024, 4)),
        pace=rng.choice((0.0, 0.03, 0.2)),
        context=rng.choice((8_192, 200)),
    )


def schedule(seed: int, length: int) -> tuple[Step, ...]:
    """So many steps; each has a meaning whatever came before it, so any may be left out."""
    rng = random.Random(f"schedule {seed}")
    people = range(len(setup(seed).people))
    # Some runs are calm and long conversations, some are all trouble.
    trouble = rng.choice((0.3, 1.0, 3.0))
    haste = rng.choice((0.0, 0.2, 0.6))
    steps = []
    for _ in range(length):
        action = _action(rng, rng.choice(people), trouble)
        turns = rng.randrange(16) if rng.random() < haste else None
        steps.append(Step(action, turns))
    return tuple(steps)


def _action(rng: random.Random, who: int, trouble: float) -> Action:
    kinds = {
        "say": 20.0,
        "speak": 14.0,
        "deliver": 8.0,
        "withdraw": 0.7,
        "press": 12.0,
        "edit": 3.0,
        "advance": 26.0,
        "brain": 5.0,
        "ears": 2.0,
        "rename": 0.5,
        "drop": 4.0 * trouble,
        "freeze": 3.5 * trouble,
        "thaw": 3.0 * trouble,
        "return": 0.7 * trouble,
        "expire": 0.5 * trouble,
        "crash": 2.0 * trouble,
        "restart": 2.5 * trouble,
        "hold": 1.0 * trouble,
        "flow": 2.0 * trouble,
        "delete": 0.25,
    }
    match rng.choices(list(kinds), list(kinds.values()))[0]:
        case "say":
            return Say(who, rng.random() < 0.8)
        case "speak":
            return Speak(who, rng.choice((1, 3, 12, 13, 14, 30)), rng.random() < 0.8)
        case "deliver":
            return Deliver(who)
        case "withdraw":
            return Withdraw(who)
        case "press":
            keys = ("type", "hint", "hint", "stop", "stop", "retry", "retry", "retry", "look")
            key = "end" if rng.random() < 0.04 else rng.choice(keys)
            return Press(who, key, rng.random() < 0.8)
        case "edit":
            return Edit(who, rng.randrange(8))
        case "advance":
            seconds = (0.01, 0.05, 0.05, 0.3, 0.3, 0.3, 1.0, 1.0, 2.5, 2.5, 6.0, 11.0, 25.0)
            return Advance(rng.choice(seconds))
        case "brain":
            return Brain(_mood(rng))
        case "ears":
            return Ears(_mood(rng))
        case "rename":
            return Rename(rng.randrange(2))
        case "drop":
            unnoticed, outage = rng.choice((0.0, 0.0, 2.0, 30.0)), rng.choice((0.0, 0.0, 1.0, 8.0))
            return Drop(who, rng.choice((0, 0, 1, 5, 40)), unnoticed, outage)
        case "freeze":
            return Freeze(who, True)
        case "thaw":
            return Freeze(who, False)
        case "return":
            return Return(who)
        case "expire":
            return Expire()
        case "crash":
            return Crash(rng.choice((0, 0, 1, 9)), rng.random() < 0.5)
        case "restart":
            return Restart(rng.choice((0.0, 0.5, 7.0)))
        case "hold":
            return Disk(True)
        case "flow":
            return Disk(False)
        case "delete":
            return Delete(rng.randrange(2))
        case other:
            raise AssertionError(other)


def _mood(rng: random.Random) -> Mood:
    ways = ("answers",) * 12 + ("fails", "dies", "dies", "hangs", "rambles")
    return Mood(rng.choice(ways), rng.choice((0.0, 0.01, 0.05, 0.2, 0.7)), rng.randrange(6))


def described(steps: tuple[Step, ...]) -> str:
    """For a report: one step a line."""
    return "\n".join(
        f"  {number:3} {_fields(step.action)}"
        + ("" if step.turns is None else f"  and {step.turns} turns of the loop")
        for number, step in enumerate(steps)
    )


def _fields(action: Action) -> str:
    values = ", ".join(f"{k}={v!r}" for k, v in msgspec.structs.asdict(action).items())
    return f"{type(action).__name__}({values})"
