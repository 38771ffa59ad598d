"""Invariants that hold at any moment, while the server is idle, or at the end of a run.

Each check yields a description of every violation.
"""

from collections import Counter
from collections.abc import Iterable

from prepcli.client.outbox import MAX_MESSAGES
from prepcli.client.recording import Recording
from prepcli.client.state import RoomState
from prepserver.interview.turns.deltas import DELTA_INTERVAL
from prepserver.interview.turns.lifecycle import RECOVERY_DELAY
from prepserver.interview.turns.steps import Step, TurnState
from prepserver.wire.client_messages import (
    HintRequest,
    InterviewEnd,
    MessageEdit,
    TurnRetry,
    UserMessage,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import MessageKind
from tests.simulation.clients import SentItem, SimulatedClient
from tests.simulation.models import GeneratedReply
from tests.simulation.stored_state import StoredInterview

__all__ = [
    "check_client",
    "check_client_view",
    "check_final_state",
    "check_idle_state",
    "check_invariants",
]

MAX_ALARM_DELAY = 1.0
"""Maximum delay of an alarm while the server and its disk are responsive, in seconds."""

INTERNAL_CODES = {ErrorCode.INTERNAL, ErrorCode.STORAGE, ErrorCode.TURN_FAILED}
"""Error codes that no simulated fault may cause."""


def check_invariants(
    interview: StoredInterview, clients: Iterable[SimulatedClient]
) -> Iterable[str]:
    """Check the invariants that hold for an interview at any moment."""
    active = [turn for turn in interview.turns if turn.state is TurnState.ACTIVE]
    if len(active) > 1:
        yield f"{len(active)} turns are active at once"
    if active and interview.alarm is None:
        yield "a turn is active and no alarm guards it"
    if [m.position for m in interview.messages] != list(range(len(interview.messages))):
        yield "the positions in the transcript have a gap"
    exchanged = sum(
        m.kind in (MessageKind.QUESTION, MessageKind.ANSWER) for m in interview.messages
    )
    covered = interview.history_summary.covered
    if covered and covered >= exchanged:
        yield f"the history summary covers {covered} of {exchanged} questions and answers"
    clients = list(clients)
    for client in clients:
        yield from _check_acknowledged(interview, client)
    sent = [sent for client in clients for sent in client.sent.values()]
    yield from _check_applied_once(interview, sent)


def _check_acknowledged(interview: StoredInterview, client: SimulatedClient) -> Iterable[str]:
    """Check that each acknowledged answer is stored once, and that rejected typed answers are not
    stored. Typed answers must be stored in the order of sending. A spoken answer may be missing if
    its transcription is pending, has failed or was stopped."""
    last = -1
    texts = [message.text for message in interview.messages if message.kind is MessageKind.ANSWER]
    for sent in client.sent.values():
        if sent.kind not in (UserMessage, Recording) or not sent.text:
            continue
        found = [number for number, text in enumerate(texts) if sent.text.rstrip(".") in text]
        if len(found) > 1:
            yield f"{sent.id} is in the transcript {len(found)} times"
        if found and sent.kind is UserMessage:
            if found[0] < last:
                yield f"{sent.id} is stored before an earlier message"
            last = found[0]
        if sent.refused and found and sent.kind is UserMessage:
            yield f"{sent.id} was refused ({sent.refused}) and is in the transcript"
        if sent.accepted and not found and not sent.refused:
            if sent.kind is UserMessage:
                yield f"{sent.id} was acknowledged and is not in the transcript"
            elif not _is_pending(interview, sent):
                yield f"the recording {sent.id} was acknowledged and is gone"


def _is_pending(interview: StoredInterview, sent: SentItem) -> bool:
    """Return True if the transcription of a recording is pending, has failed or was stopped."""
    return any(
        turn.recording == sent.id and (turn.state is not TurnState.DONE or turn.error is not None)
        for turn in interview.turns
    )


def _check_applied_once(interview: StoredInterview, sent: list[SentItem]) -> Iterable[str]:
    """Check that no more retries and hints ran than were due, that each stored edit was sent by a
    client, and that acknowledged edits are stored."""
    requested = Counter(each.kind for each in sent)
    retries = sum(turn.attempt for turn in interview.turns)
    if retries > requested[TurnRetry] + requested[InterviewEnd]:
        yield f"{retries} retries of {requested[TurnRetry]} that were requested"
    hints = sum(turn.step is Step.HINT for turn in interview.turns)
    # Each question causes one hint automatically, and a pause of the candidate another.
    questions = sum(m.kind == "question" for m in interview.messages)
    failed = sum(turn.step is Step.HINT and bool(turn.error) for turn in interview.turns)
    if hints > requested[HintRequest] + 2 * (questions + failed):
        yield f"{hints} hints of {requested[HintRequest]} that were requested"
    for message in interview.messages:
        edits = [each for each in sent if each.kind is MessageEdit and each.target == message.id]
        texts = {each.text for each in edits}
        if message.edited and message.text not in texts:
            yield f"{message.id} was changed to a text that no client sent"
        if not message.edited and any(each.accepted for each in edits):
            yield f"an edit of {message.id} was acknowledged and is lost"


def check_idle_state(
    interview: StoredInterview, now: float, responsive_since: float
) -> Iterable[str]:
    """Check that the alarm is not late and, while a turn is active, is due within `RECOVERY_DELAY`
    seconds. Time before `responsive_since` does not count as delay."""
    alarm = interview.alarm
    if alarm is None:
        return
    if max(alarm, responsive_since) < now - MAX_ALARM_DELAY:
        yield f"an alarm is {now - alarm:.2f} s late"
    if interview.active is not None and alarm > now + RECOVERY_DELAY:
        yield f"the alarm that guards a turn is {alarm - now:.1f} s away"


def check_client_view(
    state: RoomState, interview: StoredInterview, reply: GeneratedReply | None, time: float
) -> Iterable[str]:
    """Check that a client that has received everything shows the stored state and the streamed
    reply."""
    if state.stale:
        yield "it waits for a snapshot that does not arrive"
    for name, shown, stored in (
        ("interview", state.interview, interview.view),
        ("phase", state.phase, interview.phase),
        ("messages", state.messages, interview.messages),
        ("hint", state.hint, interview.hint),
        ("failed", state.failed, interview.failed),
    ):
        if shown != stored:
            yield f"it shows as {name}\n      {shown}\n    and stored is\n      {stored}"
    whole = "" if reply is None else reply.text
    current = reply is not None and time - reply.updated_at > 2 * DELTA_INTERVAL
    streaming = state.streaming
    if streaming is None:
        if reply is not None and reply.in_progress and whole and current:
            yield f"it shows nothing of the reply {whole!r}"
        return
    active = interview.active
    if active is None or streaming.id != f"{active.id}-{active.step}":
        yield f"it shows the reply {streaming.id} and the active turn is {active and active.id}"
    if streaming.offset != len(streaming.text):
        yield "the offset of the reply is not its length"
    if not whole.startswith(streaming.text):
        yield f"it shows {streaming.text!r} of the reply {whole!r}"
    elif current and whole != streaming.text:
        yield f"it still shows {streaming.text!r} of the reply {whole!r}"


def check_client(client: SimulatedClient) -> Iterable[str]:
    """Check that a client's outbox is bounded and that the client has received no internal
    error."""
    if client.unacknowledged > MAX_MESSAGES + 8:
        yield f"{client.unacknowledged} messages wait in its outbox"
    for failure in client.failures:
        if failure.code in INTERNAL_CODES:
            yield f"it received the error {failure.code}: {failure.message}"


def check_final_state(
    interview: StoredInterview, clients: Iterable[SimulatedClient]
) -> Iterable[str]:
    """Check that, after all faults have been repaired, no client's room has ended and no turn, list
    update or message is pending."""
    if interview.active is not None:
        yield f"the turn {interview.active} is stuck"
    if interview.list_update_pending:
        yield "the user's list was not updated"
    for client in clients:
        if client.end_error is not None:
            yield f"its room ended: {client.end_error!r}"
        if client.unacknowledged:
            yield f"{client.unacknowledged} of its messages were never acknowledged"
        unanswered = [s.id for s in client.sent.values() if not (s.accepted or s.refused)]
        unanswered = [id for id in unanswered if not client.sent[id].abandoned]
        if unanswered and client.end_error is None:
            yield f"no reply came to {unanswered}"
