"""What must be true whenever one looks, what when nothing is under way, and what at the end."""

from collections import Counter
from collections.abc import Iterable

from prepcli.client.outbox import MAX_MESSAGES
from prepcli.client.recording import Recording
from prepcli.client.state import RoomState
from prepserver.interview.interview import RECOVERY_DELAY
from prepserver.interview.turns.deltas import DELTA_INTERVAL
from prepserver.interview.turns.steps import Step, TurnState
from prepserver.wire.protocol import (
    HintRequest,
    InterviewEnd,
    MessageEdit,
    MessageKind,
    TurnRetry,
    UserMessage,
)
from tests.simulation.models import Speaking
from tests.simulation.people import Person, Sent
from tests.simulation.truth import Truth

__all__ = ["always", "at_rest", "finished", "shown"]

LATE = 1.0
"""Seconds that an alarm may be late while the server runs."""

INTERNAL = {"internal", "storage", "turn_failed"}
"""Codes of failures that no simulated trouble explains."""


def always(truth: Truth, people: Iterable[Person]) -> Iterable[str]:
    """True at any moment, however much is under way."""
    active = [turn for turn in truth.turns if turn.state is TurnState.ACTIVE]
    if len(active) > 1:
        yield f"{len(active)} turns are active at once"
    if active and truth.alarm is None:
        yield "a turn is active and no alarm guards it"
    if [m.position for m in truth.messages] != list(range(len(truth.messages))):
        yield "the positions in the transcript have a gap"
    said = sum(m.kind in (MessageKind.QUESTION, MessageKind.ANSWER) for m in truth.messages)
    if truth.condensed.covered and truth.condensed.covered >= said:
        yield f"a summary stands for {truth.condensed.covered} of {said} questions and answers"
    people = list(people)
    for person in people:
        yield from _kept(truth, person)
    sent = [sent for person in people for sent in person.sent.values()]
    yield from _once(truth, sent)


def _kept(truth: Truth, person: Person) -> Iterable[str]:
    """What was acknowledged is there, once, in the order of sending."""
    last = -1
    texts = [message.text for message in truth.messages if message.kind is MessageKind.ANSWER]
    for sent in person.sent.values():
        if sent.kind not in (UserMessage, Recording) or not sent.text:
            continue
        found = [number for number, text in enumerate(texts) if sent.text.rstrip(".") in text]
        if len(found) > 1:
            yield f"{sent.id} is in the transcript {len(found)} times"
        if found and sent.kind is UserMessage:
            if found[0] < last:
                yield f"{sent.id} stands before what was said earlier"
            last = found[0]
        if sent.refused and found and sent.kind is UserMessage:
            yield f"{sent.id} was refused ({sent.refused}) and is in the transcript"
        if sent.accepted and not found and not sent.refused:
            if sent.kind is UserMessage:
                yield f"{sent.id} was acknowledged and is not in the transcript"
            elif not _underway(truth, sent):
                yield f"the recording {sent.id} was acknowledged and is gone"


def _underway(truth: Truth, sent: Sent) -> bool:
    """The recording waits to be written down; or it could not be, or somebody stopped that and
    gave another answer or ended the interview."""
    return any(
        turn.recording == sent.id and (turn.state is not TurnState.DONE or turn.error is not None)
        for turn in truth.turns
    )


def _once(truth: Truth, sent: list[Sent]) -> Iterable[str]:
    """Effects that leave a count behind are not had more often than they were asked for."""
    asked = Counter(each.kind for each in sent)
    retries = sum(turn.attempt for turn in truth.turns)
    if retries > asked[TurnRetry] + asked[InterviewEnd]:
        yield f"{retries} retries of {asked[TurnRetry]} that were asked for"
    hints = sum(turn.step is Step.HINT for turn in truth.turns)
    # Each question gets one of its own accord, and each pause of the candidate may bring another.
    questions = sum(m.kind == "question" for m in truth.messages)
    spare = questions + sum(turn.step is Step.HINT and bool(turn.error) for turn in truth.turns)
    if hints > asked[HintRequest] + 2 * spare:
        yield f"{hints} hints of {asked[HintRequest]} that were asked for"
    for message in truth.messages:
        edits = [each for each in sent if each.kind is MessageEdit and each.target == message.id]
        known = {each.text for each in edits}
        if message.edited and message.text not in known:
            yield f"{message.id} was changed to what nobody wrote"
        if not message.edited and any(each.accepted for each in edits):
            yield f"an edit of {message.id} was acknowledged and is lost"


def at_rest(truth: Truth, now: float, smooth_since: float) -> Iterable[str]:
    """True when the server runs, its disk is quick, and everything has come to rest."""
    if truth.alarm is not None and max(truth.alarm, smooth_since) < now - LATE:
        yield f"an alarm is {now - truth.alarm:.2f} s late"
    if truth.active is not None and truth.alarm is not None and truth.alarm > now + RECOVERY_DELAY:
        yield f"the alarm that guards a turn is {truth.alarm - now:.1f} s off"


def shown(state: RoomState, truth: Truth, speaking: Speaking | None, time: float) -> Iterable[str]:
    """What a client shows that has received everything is the truth."""
    if state.stale:
        yield "it waits for a snapshot that does not come"
    for name, seen, stored in (
        ("interview", state.interview, truth.view),
        ("phase", state.phase, truth.phase),
        ("messages", state.messages, truth.messages),
        ("hint", state.hint, truth.hint),
        ("failed", state.failed, truth.failed),
    ):
        if seen != stored:
            yield f"it shows as {name}\n      {seen}\n    and stored is\n      {stored}"
    whole = "" if speaking is None else speaking.text
    current = speaking is not None and time - speaking.at > 2 * DELTA_INTERVAL
    streaming = state.streaming
    if streaming is None:
        if speaking is not None and speaking.going_on and whole and current:
            yield f"it shows nothing of {whole!r} that is being said"
        return
    active = truth.active
    if active is None or streaming.id != f"{active.id}-{active.step}":
        yield f"it shows {streaming.id} being said and the turn is {active and active.id}"
    if streaming.offset != len(streaming.text):
        yield "the offset of what is being said is not its length"
    if not whole.startswith(streaming.text):
        yield f"it shows {streaming.text!r} of {whole!r} that was said"
    elif current and whole != streaming.text:
        yield f"it still shows {streaming.text!r} of {whole!r} that was said"


def each_client(person: Person) -> Iterable[str]:
    """What holds for a client alone, online or not."""
    if person.waiting > MAX_MESSAGES + 8:
        yield f"{person.waiting} messages wait in its outbox"
    for failure in person.failures:
        if failure.code in INTERNAL:
            yield f"it was told {failure.code}: {failure.message}"


def finished(truth: Truth, people: Iterable[Person]) -> Iterable[str]:
    """True when all troubles are over and time has passed."""
    if truth.active is not None:
        yield f"the turn {truth.active} is stuck"
    if truth.list_update_pending:
        yield "the user's list was not brought up to date"
    for person in people:
        if person.ended is not None:
            yield f"its room ended: {person.ended!r}"
        if person.waiting:
            yield f"{person.waiting} of its messages are never answered"
        open_ends = [s.id for s in person.sent.values() if not (s.accepted or s.refused)]
        open_ends = [id for id in open_ends if not person.sent[id].given_up]
        if open_ends and person.ended is None:
            yield f"nobody answered {open_ends}"
