"""Actions of a simulation, and schedules of actions made from a seed."""

import random

import msgspec
from msgspec import Struct

from tests.simulation.models import Behaviour

__all__ = ["Action", "ScheduledStep", "Setup", "format_steps", "make_schedule", "make_setup"]


class SendAnswer(Struct, frozen=True):
    """Action that sends a typed answer."""

    client: int
    only_if_offered: bool
    """True to send the answer only if `SimulatedClient.can_answer` is true."""


class Record(Struct, frozen=True):
    """Action that adds frames to the open recording, starting a recording if none is open."""

    client: int
    frames: int
    only_if_offered: bool
    """True to start a recording only if `SimulatedClient.can_answer` is true."""


class FinishRecording(Struct, frozen=True):
    client: int


class CancelRecording(Struct, frozen=True):
    client: int


class SendCommand(Struct, frozen=True):
    """Action that sends a command, which is a message without content."""

    client: int
    command: str
    """Name of the command: `type`, `hint`, `stop`, `retry`, `end` or `snapshot`."""
    only_if_offered: bool
    """True to send the command only if a screen would offer the command."""


class EditAnswer(Struct, frozen=True):
    """Action that edits one of the answers in the transcript."""

    client: int
    index: int
    """Index of the answer, modulo the number of answers."""


class DropConnection(Struct, frozen=True):
    """Action that cuts the connection of a client."""

    client: int
    delivered: int
    """Maximum number of the client's writes in transit that can still reach the server."""
    detected_after: float
    """Virtual seconds until the server learns of the cut."""
    outage: float
    """Virtual seconds until the client can connect again."""


class FreezeClient(Struct, frozen=True):
    """Action that stops a client from reading, or lets the client resume reading."""

    client: int
    frozen: bool


class RestartClient(Struct, frozen=True):
    """Action that ends a client's program and starts the program again without any state."""

    client: int


class ExpireTokens(Struct, frozen=True):
    """Action that invalidates all tokens issued so far."""


class AdvanceTime(Struct, frozen=True):
    seconds: float


class CrashServer(Struct, frozen=True):
    """Action that ends the server's process at once."""

    completed: int
    """Maximum number of waiting disk operations that still complete."""
    lost: bool
    """True if messages in transit to the clients are lost."""


class RestartServer(Struct, frozen=True):
    """Action that shuts the server down, if it is running, and starts the server again."""

    downtime: float
    """Virtual seconds between a shutdown and the start."""


class SetLanguageBehaviour(Struct, frozen=True):
    """Action that changes the behaviour of the language model."""

    behaviour: Behaviour


class SetSpeechBehaviour(Struct, frozen=True):
    """Action that changes the behaviour of the speech model."""

    behaviour: Behaviour


class BlockDisk(Struct, frozen=True):
    """Action that blocks or unblocks the disk."""

    blocked: bool


class RenameInterview(Struct, frozen=True):
    index: int


class DeleteInterview(Struct, frozen=True):
    index: int


Action = (
    SendAnswer
    | Record
    | FinishRecording
    | CancelRecording
    | SendCommand
    | EditAnswer
    | DropConnection
    | FreezeClient
    | RestartClient
    | ExpireTokens
    | AdvanceTime
    | CrashServer
    | RestartServer
    | SetLanguageBehaviour
    | SetSpeechBehaviour
    | BlockDisk
    | RenameInterview
    | DeleteInterview
)


class ScheduledStep(Struct, frozen=True):
    action: Action
    loop_iterations: int | None = None
    """Number of iterations of the event loop before the next step; None to wait until the loop is
    idle."""


class Setup(Struct, frozen=True, kw_only=True):
    """Initial conditions of a run."""

    interviews: int
    clients: tuple[int, ...]
    """Index of each client's interview; -1 for the list of interviews."""
    questions: int
    few_shot: bool
    rate_limit: int
    max_queued_messages: int
    """Maximum number of messages in the outbox of a slow connection."""
    word_delay: float
    """Virtual seconds before each word of the language model at the beginning of the run."""
    context: int
    """Size of the language model's context, in tokens. A few long answers exceed the room that the
    smaller size has for the conversation."""
    language: str
    """Language of the interviews. The model writes every question that is not in English."""


def make_setup(seed: int) -> Setup:
    rng = random.Random(f"setup {seed}")
    interviews = rng.choice((1, 1, 2))
    clients = [rng.randrange(interviews) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.4:
        clients.append(-1)
    return Setup(
        interviews=interviews,
        clients=tuple(clients),
        questions=rng.choice((1, 2, 3, 5, 8)),
        few_shot=rng.random() < 0.3,
        rate_limit=rng.choice((0, 0, 0, 3, 12)),
        max_queued_messages=rng.choice((1024, 4)),
        word_delay=rng.choice((0.0, 0.03, 0.2)),
        context=rng.choice((8_192, 2_048)),
        language=rng.choice(("en", "de")),
    )


def make_schedule(seed: int, length: int) -> tuple[ScheduledStep, ...]:
    """Return the schedule of a seed, with `length` steps.

    Each step is valid after any other step, so that steps can be removed.
    """
    rng = random.Random(f"schedule {seed}")
    clients = range(len(make_setup(seed).clients))
    # Some runs are calm, long conversations; others consist mostly of faults.
    fault_rate = rng.choice((0.3, 1.0, 3.0))
    overlap_rate = rng.choice((0.0, 0.2, 0.6))
    steps = []
    for _ in range(length):
        action = _random_action(rng, rng.choice(clients), fault_rate)
        loop_iterations = rng.randrange(16) if rng.random() < overlap_rate else None
        steps.append(ScheduledStep(action, loop_iterations))
    return tuple(steps)


def _random_action(rng: random.Random, client: int, fault_rate: float) -> Action:
    kinds = {
        "answer": 20.0,
        "record": 14.0,
        "finish recording": 8.0,
        "cancel recording": 0.7,
        "command": 12.0,
        "edit": 3.0,
        "advance": 26.0,
        "language": 5.0,
        "speech": 2.0,
        "rename": 0.5,
        "drop": 4.0 * fault_rate,
        "freeze": 3.5 * fault_rate,
        "thaw": 3.0 * fault_rate,
        "restart client": 0.7 * fault_rate,
        "expire": 0.5 * fault_rate,
        "crash": 2.0 * fault_rate,
        "restart server": 2.5 * fault_rate,
        "block disk": 1.0 * fault_rate,
        "unblock disk": 2.0 * fault_rate,
        "delete": 0.25,
    }
    match rng.choices(list(kinds), list(kinds.values()))[0]:
        case "answer":
            return SendAnswer(client, rng.random() < 0.8)
        case "record":
            return Record(client, rng.choice((1, 3, 12, 13, 14, 30)), rng.random() < 0.8)
        case "finish recording":
            return FinishRecording(client)
        case "cancel recording":
            return CancelRecording(client)
        case "command":
            commands = (
                "type",
                "hint",
                "hint",
                "stop",
                "stop",
                "retry",
                "retry",
                "retry",
                "snapshot",
            )
            command = "end" if rng.random() < 0.04 else rng.choice(commands)
            return SendCommand(client, command, rng.random() < 0.8)
        case "edit":
            return EditAnswer(client, rng.randrange(8))
        case "advance":
            seconds = (0.01, 0.05, 0.05, 0.3, 0.3, 0.3, 1.0, 1.0, 2.5, 2.5, 6.0, 11.0, 25.0)
            return AdvanceTime(rng.choice(seconds))
        case "language":
            return SetLanguageBehaviour(_random_behaviour(rng))
        case "speech":
            return SetSpeechBehaviour(_random_behaviour(rng))
        case "rename":
            return RenameInterview(rng.randrange(2))
        case "drop":
            detected_after = rng.choice((0.0, 0.0, 2.0, 30.0))
            outage = rng.choice((0.0, 0.0, 1.0, 8.0))
            return DropConnection(client, rng.choice((0, 0, 1, 5, 40)), detected_after, outage)
        case "freeze":
            return FreezeClient(client, True)
        case "thaw":
            return FreezeClient(client, False)
        case "restart client":
            return RestartClient(client)
        case "expire":
            return ExpireTokens()
        case "crash":
            return CrashServer(rng.choice((0, 0, 1, 9)), rng.random() < 0.5)
        case "restart server":
            return RestartServer(rng.choice((0.0, 0.5, 7.0)))
        case "block disk":
            return BlockDisk(True)
        case "unblock disk":
            return BlockDisk(False)
        case "delete":
            return DeleteInterview(rng.randrange(2))
        case other:
            raise AssertionError(other)


def _random_behaviour(rng: random.Random) -> Behaviour:
    kinds = ("answers",) * 12 + ("fails", "crashes", "crashes", "hangs", "rambles")
    return Behaviour(rng.choice(kinds), rng.choice((0.0, 0.01, 0.05, 0.2, 0.7)), rng.randrange(6))


def format_steps(steps: tuple[ScheduledStep, ...]) -> str:
    """Return a schedule as text with one step per line."""
    return "\n".join(
        f"  {number:3} {_format_action(step.action)}"
        + ("" if step.loop_iterations is None else f", then {step.loop_iterations} loop iterations")
        for number, step in enumerate(steps)
    )


def _format_action(action: Action) -> str:
    values = ", ".join(f"{k}={v!r}" for k, v in msgspec.structs.asdict(action).items())
    return f"{type(action).__name__}({values})"
