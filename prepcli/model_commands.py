"""`prep models`: the sets of models on this machine, and the one that the local server uses.

The commands run `prep-server models`, because only the server knows the models.
"""

import subprocess
import sys

import click
from msgspec import Struct
from msgspec.structs import replace

from prepcli import config, paths
from prepcli.client.signals import run_until_signal
from prepcli.errors import UsageError
from prepcli.local_server.commands import chosen_set, command, run_command
from prepcli.terminal_text import one_line, printable
from prepserver.arguments import TEXT

__all__ = ["models"]

AUTOMATIC = "auto"
"""Argument of `prep models use` that leaves the choice to prep."""


class SetState(Struct, frozen=True):
    """Element of the output of `prep-server models sets --json`."""

    name: str
    size: int
    fetched: int
    installed: bool
    fetching: bool
    problem: str
    about: str


SET = click.argument("name", type=TEXT, metavar="SET")


@click.group()
def models() -> None:
    """List, fetch and choose the models of this machine.

    A set of models is a language model, which interviews, and a speech model, which transcribes.
    """


@models.command("list")
def list_sets() -> None:
    """List the sets of models, with the progress of downloads."""
    found, chosen = _find_sets(), chosen_set()
    width = max(len(each.name) for each in found)
    for each in found:
        mark = "*" if each.name == chosen else " "
        print(f"{mark} {printable(each.name):{width}}  {_state(each):<28}  {one_line(each.about)}")
        if each.problem and not each.fetching:
            print(f"  {'':{width}}  {one_line(each.problem)}")
    if chosen:
        print(f"* used by new interviews; {AUTOMATIC} is the default", file=sys.stderr)
    else:
        print(
            "New interviews use the largest set that is installed and suits this machine.",
            file=sys.stderr,
        )


def _state(each: SetState) -> str:
    if each.installed:
        return f"installed, {each.size / 1e6:,.0f} MB"
    done, total = each.fetched / 1e6, each.size / 1e6
    if each.fetching:
        return f"fetching: {done:,.0f} of {total:,.0f} MB"
    if each.problem:
        return f"failed at {done:,.0f} of {total:,.0f} MB"
    return f"{done:,.0f} of {total:,.0f} MB fetched" if each.fetched else f"{total:,.0f} MB"


@models.command()
@SET
def get(name: str) -> None:
    """Fetch a set of models, or continue an interrupted download."""
    _require_set(name)
    _run("pull", name)


@models.command()
@SET
def use(name: str) -> None:
    """Use a set of models for new interviews on this machine.

    `auto`, the default, leaves the choice to prep: the set standard if it is installed and the
    machine can run it, otherwise starter.
    """
    file = paths.settings_file()
    if name == AUTOMATIC:
        config.save(replace(config.load(file), model_set=""), file)
        print("prep chooses the models from its next start.", file=sys.stderr)
        return
    found = _require_set(name)
    config.save(replace(config.load(file), model_set=name), file)
    print(f"New interviews use {name} from the next start of prep.", file=sys.stderr)
    if not found.installed:
        print(
            f"It is not fetched yet: run prep models get {name}, or let prep fetch it in the "
            "background.",
            file=sys.stderr,
        )


@models.command()
@SET
def remove(name: str) -> None:
    """Delete the files of a set of models."""
    _require_set(name)
    _run("remove", name)


@models.command()
def recommend() -> None:
    """Measure this machine for a few seconds, and recommend a set of models."""
    _run("recommend")


def _find_sets() -> list[SetState]:
    return run_until_signal(run_command("models", "sets", "--json", type=list[SetState]))


def _require_set(name: str) -> SetState:
    """Return the state of a set. Raises UsageError if there is no such set."""
    found = _find_sets()
    for each in found:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in found)
    raise UsageError(f"There is no set of models {name!r}. Choose one of {names}.")


def _run(*arguments: str) -> None:
    """Run a command of `prep-server models` on this terminal, and exit with its exit code if it
    fails."""
    process = subprocess.Popen(command("models", *arguments))
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:
            pass  # the command receives ctrl+c too, and ends
    if code:
        sys.exit(130 if code < 0 else code)
