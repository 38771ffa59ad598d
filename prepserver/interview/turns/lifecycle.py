"""Life of a turn: its begin, its steps, its end, and the alarm that guards it."""

from collections.abc import Callable

from msgspec import Struct

from prepserver.errors import Conflict, PrepServerError
from prepserver.gateway.gateway import Gateway
from prepserver.interview.hints import HintTimer
from prepserver.interview.prompts.context_store import ContextStore, turn_request_name
from prepserver.interview.prompts.prefill import Prefetcher
from prepserver.interview.questions.bank import Bank
from prepserver.interview.room import Room
from prepserver.interview.speech.expected import expect_speech
from prepserver.interview.speech.ingest import AudioIngest
from prepserver.interview.speech.recordings import RecordingStore
from prepserver.interview.turns import runner
from prepserver.interview.turns.steps import Step, TurnState
from prepserver.interview.turns.store import Turn, TurnStore
from prepserver.objects.object import Context
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["TurnLifecycle", "TurnParts"]

RECOVERY_DELAY = 5.0
"""Seconds until the alarm that, after a crash, resumes an active turn or repeats a pending update
of the user's list."""

TURN_TASK = "turn"
"""Key of the background task that runs a turn; only one turn runs at a time."""


class TurnParts(Struct, frozen=True, kw_only=True):
    """Parts of an interview with which its turns work."""

    context: Context
    gateway: Gateway
    bank: Bank
    store: TurnStore
    room: Room
    recordings: RecordingStore
    audio: AudioIngest
    hints: HintTimer
    context_store: ContextStore
    prefetcher: Prefetcher


class TurnLifecycle:
    """Begin, steps and end of the turns of one interview, of which at most one is active."""

    def __init__(self, parts: TurnParts, minutes_left: Callable[[], float | None]) -> None:
        """`minutes_left` returns the minutes left for the interview; None means no limit."""
        self._parts = parts
        self._store = parts.store
        self._room = parts.room
        self._minutes_left = minutes_left
        self.running: Turn | None = None
        """Turn whose background task is running, or None."""
        self.epoch = 0
        """Number of the current epoch; events of other epochs are stale (see `EpochEvent`)."""

    def begin(self, step: Step, *, recording: str | None = None) -> Turn:
        """End an active hint, and store a new turn; `start_step` starts it.

        The caller may store an answer in between, in the same transaction.
        """
        parts = self._parts
        active = self._store.active()
        if active is not None:
            # Only a hint can be active here; an answer or the end of the interview replaces it.
            self._room.drop_stream()
            self._store.finish(active, TurnState.DONE)
        turn = self._store.begin(step, recording, at=parts.context.clock.now())
        if step is not Step.HINT:
            parts.hints.clear()
            parts.recordings.delete_all(keep=recording)
            parts.audio.stop_transcribing_all(keep=recording)
        return turn

    def start_step(self, turn: Turn) -> None:
        """Start the background task of the turn's current step, in a new epoch."""
        parts = self._parts
        self.running = turn
        self.epoch += 1
        recording, prompt_context = turn.recording, parts.context_store.load()
        live = parts.audio.finish_transcribing(recording) if recording else None
        work = runner.TurnWork(
            epoch=self.epoch,
            step=turn.step,
            call=parts.context_store.create_call(turn.step, turn_request_name(turn)),
            prompt_context=prompt_context,
            seed=turn.number * 100 + turn.attempt * 10,
            pcm=parts.recordings.stored_pcm(recording) if recording and live is None else b"",
            expected_speech=expect_speech(prompt_context),
            minutes_left=self._minutes_left(),
            live_transcription=live,
        )
        parts.prefetcher.invalidate()
        context = parts.context
        context.spawn(
            lambda: runner.run(work, parts.gateway, parts.bank, context.clock, context.post),
            TURN_TASK,
        )
        self.update_alarm()

    def advance(self, turn: Turn, step: Step | None) -> None:
        """Start the turn's next step, or finish the turn if `step` is None."""
        if step is None:
            self._store.finish(turn, TurnState.DONE)
            self._end_epoch()
            self.update_alarm()
            self._parts.prefetcher.prefill("", self.epoch)
        else:
            self.start_step(self._store.advance(turn, step))
        self._room.broadcast_state()

    def abort(self, turn: Turn, state: TurnState, error: PrepServerError) -> None:
        """End a turn that failed, was stopped or gave no result, and discard its streamed text."""
        self._parts.context.cancel(TURN_TASK)
        self._end_epoch()
        self._room.drop_stream()
        if turn.step is Step.HINT:
            state = TurnState.DONE  # the interview continues without the hint
        self._store.finish(turn, state, wire.Error(**error.as_dict()))
        if turn.step is Step.TRANSCRIBE:
            self._parts.hints.postpone()  # the question is still open
        self.update_alarm()
        if state is not TurnState.STOPPED:
            self._parts.context.broadcast(wire.Failure(**error.as_dict()))

    def stop(self) -> None:
        """Stop the active turn. Raises Conflict (`nothing_to_stop`) if there is none."""
        if (active := self._store.active()) is None:
            raise Conflict("There is no active turn to stop.", code=ErrorCode.NOTHING_TO_STOP)
        stopped = Conflict("You stopped the interviewer.", code=ErrorCode.STOPPED, retryable=True)
        self.abort(active, TurnState.STOPPED, stopped)
        self._room.broadcast_state()

    def retry(self) -> None:
        """Start the failed or stopped turn again. Raises Conflict (`nothing_to_retry`) if there is
        none."""
        unfinished = self._store.unfinished()
        if unfinished is None or self._store.active() is not None:
            raise Conflict(
                "There is no failed or stopped turn to retry.", code=ErrorCode.NOTHING_TO_RETRY
            )
        self.start_step(self._store.retry(unfinished))
        self._room.broadcast_state()

    def skip_epoch(self) -> None:
        """Make the results of background work stale while no turn is running."""
        if self.running is None:
            self.epoch += 1

    def _end_epoch(self) -> None:
        """End the epoch, so that later events of the turn's task are stale."""
        self.running = None
        self.epoch += 1

    def postpone_hint(self) -> None:
        if self._parts.hints.postpone():
            self.update_alarm()

    def update_alarm(self) -> None:
        """Set the alarm for recovery or the hint, whichever is due first, or delete the alarm."""
        context, hints = self._parts.context, self._parts.hints
        times = []
        active = self._store.active()
        if active is not None or self._room.list_update_pending:
            times.append(context.clock.now() + RECOVERY_DELAY)
        if active is None and hints.due is not None:
            times.append(hints.due)
        due = min(times, default=None)
        if due is not None:
            context.set_alarm(due)
        elif context.get_alarm() is not None:
            context.delete_alarm()
