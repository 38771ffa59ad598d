"""Durable object of one interview, with its transcript, its turns, its alarm and its room."""

from typing import Any, assert_never

import msgspec

from prepserver.engines.types import ExpectedSpeech, PartialTranscript, Transcription
from prepserver.errors import BadRequest, Conflict, NotFound, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview import events, schema
from prepserver.interview.events import InterviewEvent
from prepserver.interview.hints import HintTimer
from prepserver.interview.prompts.context_store import ContextStore, request_name, turn_request_name
from prepserver.interview.prompts.prefill import Prefetcher
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import merge_skills, select_main_questions
from prepserver.interview.room import Room
from prepserver.interview.rules import Rules, require_text
from prepserver.interview.speech.doubt import find_problem
from prepserver.interview.speech.expected import expect_speech
from prepserver.interview.speech.ingest import AudioIngest, current_recording
from prepserver.interview.speech.recordings import RecordingStore, decode_recording
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.interview.summary import summary_text
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns import runner
from prepserver.interview.turns.steps import Step, TurnState, next_step
from prepserver.interview.turns.store import Turn, TurnStore
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject
from prepserver.wire import client_messages as client
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["InterviewObject", "InterviewSettings"]

RECOVERY_DELAY = 5.0
"""Seconds until the alarm that, after a crash, resumes an active turn or repeats a pending update
of the user's list."""

TURN_TASK = "turn"
"""Key of the background task that runs a turn; only one turn runs at a time."""

_END_REQUESTED = "end_requested"
"""Storage key that is present once a client has ended the interview during a transcription."""


class InterviewSettings(msgspec.Struct, frozen=True, kw_only=True):
    hint_after: float
    """Seconds of inactivity after which the open question gets a hint."""
    max_recording: float
    """Maximum length of a recording, in seconds."""
    version: str


class InterviewObject(DurableObject):
    """Object that handles the messages, events and alarms of one interview and runs its turns."""

    migrations = schema.INTERVIEW

    def __init__(
        self, context: Context, gateway: Gateway, bank: Bank, settings: InterviewSettings
    ) -> None:
        super().__init__(context)
        self._gateway = gateway
        self._bank = bank
        self._settings = settings
        self._transcript = Transcript(context.storage)
        self._turns = TurnStore(context.storage)
        self._recordings = RecordingStore(context.storage, max_seconds=settings.max_recording)
        self._audio = AudioIngest(context, self._recordings, gateway, self._transcription_call)
        self._room = Room(context, self._transcript, self._turns)
        self._rules = Rules(context, self._room, self._transcript, self._turns)
        self._context_store = ContextStore(context, self._room, self._transcript, bank)
        self._prefetcher = Prefetcher(
            context, gateway, bank, self._context_store, self._transcript, self._turns
        )
        self._hints = HintTimer(context, self._transcript, after=settings.hint_after)
        self._running: Turn | None = None
        """Turn whose background task is running, or None."""
        self._epoch = 0
        """Number of the current epoch; events of other epochs are stale (see `EpochEvent`)."""

    # --- Called by other objects and by the HTTP routes ---------------------------------------

    def begin(self, owner: str, spec: dict[str, Any], view: wire.Interview) -> None:
        """Store a new interview, start the first turn and send the view to the owner's list.

        A repeated call only sends the view. Raises NotFound if the interview has another owner.
        """
        storage = self.context.storage
        if storage.get("owner", str) not in (None, owner):
            raise NotFound("You have no interview with this id.", code=ErrorCode.NO_SUCH_INTERVIEW)
        if storage.get("view", wire.Interview) is None:
            storage.put("owner", owner)
            storage.put("spec", msgspec.convert(spec, wire.InterviewSpec))
            storage.put("view", view)
            self._begin_turn(Step.EXTRACT)
        self._room.update_list()

    def rename(self, title: str) -> wire.Interview:
        self._room.save_view(msgspec.structs.replace(self._room.view, title=title))
        self._update_alarm()
        return self._room.view

    def messages(self) -> list[wire.Message]:
        self._room.require_started()
        return self._transcript.messages()

    def transcription(self, message_id: str) -> Transcription:
        """Return the transcription of a spoken answer. Raises NotFound for other messages."""
        return self._transcript.transcription(message_id)

    def delete(self, owner: str, id: str) -> None:
        """Delete the interview, its KV state, its cached replies and its logged text, then the row
        in the owner's list."""
        self.context.detach(lambda: self._gateway.discard(self.context.name))
        self.context.tell(UserInterviewsStub(owner).confirm_deleted(id))
        self.context.destroy()

    # --- Hooks --------------------------------------------------------------------------------

    def on_start(self) -> None:
        active = self._turns.active()
        if active is not None:
            self._start_step(active)

    def on_connect(self, connection: Connection) -> None:
        self._room.welcome(connection, self._settings.version)

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._on_audio(connection, message)
            return
        try:
            decoded = codec.decode_client(message)
        except msgspec.DecodeError as error:
            bad = BadRequest(f"The message is invalid: {error}.", code=ErrorCode.BAD_MESSAGE)
            self._room.send_error(connection, bad, codec.decode_message_id(message))
            return
        id = decoded.id
        try:
            if (reply := self._rules.previous_reply(decoded)) is not None:
                if isinstance(decoded, client.AudioStart) and isinstance(reply, wire.Failure):
                    self._audio.ignore_frames(connection, id)
                self.context.send(connection, reply)
                return
            self._handle_message(connection, decoded)
        except PrepServerError as error:
            if error.status >= 500:
                raise
            self._rules.record_rejection(decoded, error)
            self._room.send_error(connection, error, id)
            return
        self._rules.record_applied(decoded)
        if id and not isinstance(decoded, client.AudioStart):
            self.context.send(connection, wire.Accepted(id=id))

    def on_alarm(self, retry_count: int) -> None:
        if self._room.list_update_pending:
            self._room.update_list()
        active = self._turns.active()
        if active is not None:
            if self._running is None:
                self._start_step(active)
        elif self._hints.due is not None and self._hints.due <= self.context.clock.now():
            self._hints.clear()
            if self._transcript.open_question() is not None:
                self._begin_turn(Step.HINT)
        self._update_alarm()

    def on_hibernate(self) -> None:
        self._audio.flush()
        self.context.detach(lambda: self._gateway.offload(self.context.name))

    def on_event(self, event: InterviewEvent) -> None:
        """Handle an event from a background task or from the user's list; drop a stale event."""
        if self._is_stale(event):
            return
        match event:
            case events.TextProduced(text=text):  # the most frequent event: no database access
                self._room.stream_text(self._turn, text)
            case events.ReplyRestarted():
                self._room.drop_stream()
            case events.ReplyCompleted(text=text, source=source, quota=quota):
                self._room.broadcast_quota(quota)
                self._add_reply(self._turn, text, source)
            case events.SkillsExtracted(skills=skills, quota=quota):
                self._room.broadcast_quota(quota)
                self._plan_interview(self._turn, skills)
            case events.AnswerTranscribed(transcription=transcription, quota=quota):
                self._room.broadcast_quota(quota)
                self._add_spoken_answer(self._turn, transcription)
            case events.TranscriptionFailed():
                self._audio.stop_transcribing_all()
                self._start_step(self._turn)
            case events.TurnFailed(error=error):
                self._abort_turn(self._turn, TurnState.FAILED, error)
            case events.HistorySummarized():
                self._prefetcher.on_history_summarised(event)
            case events.PrefillDropped():
                self._prefetcher.on_prefill_dropped(event)
            case events.CaptionUpdated(caption=caption):
                self._broadcast_caption(caption)
            case events.WorkerLost(recording=recording):
                self._audio.restart_transcribing(recording)
            case events.TimedOut(recording=recording):
                self._audio.stop_transcribing(recording)
            case events.ListUpdated():
                self._room.on_list_updated(event)
                self._update_alarm()
            case _:
                assert_never(event)

    def _is_stale(self, event: InterviewEvent) -> bool:
        """Return True if the event's task started in an earlier epoch."""
        return isinstance(event, events.EpochEvent) and event.epoch != self._epoch

    @property
    def _turn(self) -> Turn:
        """Turn whose background task posted the current event."""
        assert self._running is not None
        return self._running

    # --- Messages of clients ------------------------------------------------------------------

    def _handle_message(self, connection: Connection, message: client.ClientMessages) -> None:
        match message:
            case client.GetAllMessages():
                self._room.send_snapshot(connection)
            case client.UserTyping(draft=draft):
                self._postpone_hint()
                self._prefetcher.prefill(draft, self._epoch)
            case client.UserRecording():
                self._postpone_hint()
            case client.UserMessage(text=text):
                self._answer(text)
            case client.AudioStart(id=id):
                self._start_recording(connection, id)
            case client.AudioStop(id=id, frames=frames):
                self._stop_recording(connection, id, frames)
            case client.AudioCancel(id=id):
                self._audio.cancel(connection, id)
            case client.HintRequest():
                self._rules.require_question()
                self._begin_turn(Step.HINT)
            case client.TurnStop():
                self._stop_turn()
            case client.TurnRetry():
                self._retry_turn()
            case client.MessageEdit(message_id=id, text=text):
                self._edit_answer(id, text)
            case client.InterviewEnd():
                self._end_interview()

    def _answer(self, text: str) -> None:
        answer = require_text(text)
        self._rules.require_question()
        # The answer is stored in the transaction that starts its turn, so none stays unanswered.
        self._begin_turn(self._step_after_answers(extra=1), answer=answer)

    def _edit_answer(self, id: str, text: str) -> None:
        edited = self._transcript.edit(id, require_text(text))
        self._prefetcher.invalidate()
        if self._running is None:
            self._epoch += 1  # makes a summary of the old text stale
        self._room.broadcast_message(edited)

    def _stop_turn(self) -> None:
        if (active := self._turns.active()) is None:
            raise Conflict("There is no active turn to stop.", code=ErrorCode.NOTHING_TO_STOP)
        stopped = Conflict("You stopped the interviewer.", code=ErrorCode.STOPPED, retryable=True)
        self._abort_turn(active, TurnState.STOPPED, stopped)

    def _retry_turn(self) -> None:
        unfinished = self._turns.unfinished()
        if unfinished is None or self._turns.active() is not None:
            raise Conflict(
                "There is no failed or stopped turn to retry.", code=ErrorCode.NOTHING_TO_RETRY
            )
        self._start_step(self._turns.retry(unfinished))
        self._room.broadcast_state()

    def _end_interview(self) -> None:
        self._rules.require_open()
        active = self._turns.active()
        if active is not None:
            if active.step in (Step.CLOSING, Step.SUMMARY):
                return
            if active.step is Step.TRANSCRIBE:
                self.context.storage.put(_END_REQUESTED, True)  # the spoken answer still counts
                return
            self._room.drop_stream()
            self._turns.finish(active, TurnState.DONE)
        unfinished = self._turns.unfinished()
        if unfinished is not None and unfinished.step in (Step.CLOSING, Step.SUMMARY):
            self._retry_turn()  # a new turn would repeat the closing
        else:
            self._begin_turn(Step.CLOSING)

    # --- Audio --------------------------------------------------------------------------------

    def _on_audio(self, connection: Connection, data: bytes) -> None:
        try:
            if self._audio.is_complete_recording(connection, data):
                pcm = decode_recording(data)
                self._rules.require_question()
                self._begin_turn(Step.TRANSCRIBE, recording=self._audio.add_complete(pcm))
            elif self._audio.add_frame(connection, data):
                self._postpone_hint()
        except PrepServerError as error:
            if error.status >= 500:
                raise
            self._room.send_error(connection, error, current_recording(connection))

    def _start_recording(self, connection: Connection, id: str) -> None:
        self._audio.ignore_frames(connection, id)  # until the recording is accepted
        self._rules.require_open()
        self._audio.start(connection, id)
        self._postpone_hint()

    def _stop_recording(self, connection: Connection, id: str, frames: int) -> None:
        self._audio.detach(connection)
        self._rules.require_question()
        self._audio.finish(id, frames)
        self._begin_turn(Step.TRANSCRIBE, recording=id)

    def _transcription_call(self, recording: str) -> tuple[Call, ExpectedSpeech]:
        """Return the gateway call and the expectations with which a recording is transcribed."""
        call = self._context_store.create_call(Step.TRANSCRIBE, request_name(recording))
        return call, expect_speech(self._context_store.load())

    def _broadcast_caption(self, caption: PartialTranscript) -> None:
        committed = " ".join(part for part in (caption.final, caption.committed) if part)
        text = " ".join(part for part in (committed, caption.interim) if part)
        self.context.broadcast(wire.Caption(text=text, committed=len(committed)))
        self._prefetcher.prefill(committed, self._epoch)

    # --- Turns --------------------------------------------------------------------------------

    def _begin_turn(
        self, step: Step, *, recording: str | None = None, answer: str | None = None
    ) -> None:
        """End an active hint, store a new turn and its typed answer, if any, and start the turn."""
        active = self._turns.active()
        if active is not None:
            # Only a hint can be active here; an answer or the end of the interview replaces it.
            self._room.drop_stream()
            self._turns.finish(active, TurnState.DONE)
        turn = self._turns.begin(step, recording, at=self.context.clock.now())
        if step is not Step.HINT:
            self._hints.clear()
            self._recordings.delete_all(keep=recording)
            self._audio.stop_transcribing_all(keep=recording)
        if answer is not None:
            self._add_answer(turn, answer, wire.Source.TEXT)
        self._start_step(turn)
        self._room.broadcast_state()

    def _start_step(self, turn: Turn) -> None:
        """Start the background task of the turn's current step, in a new epoch."""
        self._running = turn
        self._epoch += 1
        recording, prompt_context = turn.recording, self._context_store.load()
        live = self._audio.finish_transcribing(recording) if recording else None
        work = runner.TurnWork(
            epoch=self._epoch,
            step=turn.step,
            call=self._context_store.create_call(turn.step, turn_request_name(turn)),
            prompt_context=prompt_context,
            seed=turn.number * 100 + turn.attempt * 10,
            pcm=self._recordings.stored_pcm(recording) if recording and live is None else b"",
            expected_speech=expect_speech(prompt_context),
            live_transcription=live,
        )
        self._prefetcher.invalidate()
        context = self.context
        context.spawn(
            lambda: runner.run(work, self._gateway, self._bank, context.clock, context.post),
            TURN_TASK,
        )
        self._update_alarm()

    def _advance_turn(self, turn: Turn, step: Step | None) -> None:
        """Start the turn's next step, or finish the turn if `step` is None."""
        if step is None:
            self._turns.finish(turn, TurnState.DONE)
            self._end_epoch()
            self._update_alarm()
            self._prefetcher.prefill("", self._epoch)
        else:
            self._start_step(self._turns.advance(turn, step))
        self._room.broadcast_state()

    def _abort_turn(self, turn: Turn, state: TurnState, error: PrepServerError) -> None:
        """End a turn that failed, was stopped or gave no result, and discard its streamed text."""
        self.context.cancel(TURN_TASK)
        self._end_epoch()
        self._room.drop_stream()
        if turn.step is Step.HINT:
            state = TurnState.DONE  # the interview continues without the hint
        self._turns.finish(turn, state, wire.Error(**error.as_dict()))
        if turn.step is Step.TRANSCRIBE:
            self._hints.postpone()  # the question is still open
        self._update_alarm()
        if state is not TurnState.STOPPED:
            self.context.broadcast(wire.Failure(**error.as_dict()))
        if turn.step is Step.TRANSCRIBE and self._end_requested:
            self._begin_turn(Step.CLOSING)
        else:
            self._room.broadcast_state()

    def _end_epoch(self) -> None:
        """End the epoch, so that later events of the turn's task are stale."""
        self._running = None
        self._epoch += 1

    # --- Results of turns ---------------------------------------------------------------------

    def _plan_interview(self, turn: Turn, extracted: list[str]) -> None:
        spec = self._context_store.load().spec
        skills = merge_skills(self._bank, spec, extracted)
        # A seed from the id alone gives the same plan again after a crash.
        seed = int.from_bytes(self.context.name.encode()[-4:], "big")
        questions = select_main_questions(self._bank, spec, skills, seed)
        self.context.storage.put("questions", [question.id for question in questions])
        self._room.save_view(msgspec.structs.replace(self._room.view, skills=skills))
        self._advance_turn(turn, self._step_after_answers())

    def _add_spoken_answer(self, turn: Turn, transcription: Transcription) -> None:
        self._audio.stop_transcribing_all()
        problem = find_problem(transcription)
        if problem is not None and problem.code == ErrorCode.SPEECH_DOUBTFUL:
            # The turn can be retried, so the recording is kept until the question is answered.
            self._abort_turn(turn, TurnState.FAILED, problem)
            return
        if turn.recording is not None:
            self._recordings.delete(turn.recording)
        if problem is not None:
            self._abort_turn(turn, TurnState.DONE, problem)
            return
        message = self._add_answer(turn, transcription.text.strip(), wire.Source.SPEECH)
        self._transcript.add_transcription(message.id, transcription)
        self._advance_turn(turn, self._step_after_answers())

    def _add_answer(self, turn: Turn, text: str, source: wire.Source) -> wire.Message:
        kind, id, now = wire.MessageKind.ANSWER, f"{turn.id}-answer", self.context.clock.now()
        message = self._transcript.add(id, kind, text, source, at=now)
        self._room.broadcast_message(message)
        self._room.update_counts()
        return message

    def _add_reply(self, turn: Turn, text: str, source: wire.Source) -> None:
        kind, now = wire.MessageKind(turn.step.value), self.context.clock.now()
        if kind is wire.MessageKind.SUMMARY:
            text = summary_text(self._context_store.load(), text)
        message = self._transcript.add(f"{turn.id}-{kind}", kind, text, source, at=now)
        self._room.broadcast_message(message)
        match kind:
            case wire.MessageKind.QUESTION:
                self._hints.schedule()
                self._room.update_counts()
            case wire.MessageKind.SUMMARY:
                view = self._room.view
                self._room.save_view(msgspec.structs.replace(view, status=wire.Status.COMPLETED))
        self._advance_turn(turn, next_step(turn.step, answered=0, questions=1))

    @property
    def _end_requested(self) -> bool:
        return self.context.storage.get(_END_REQUESTED, bool) is not None

    def _step_after_answers(self, extra: int = 0) -> Step:
        """Return the step after the stored answers and `extra` more, or CLOSING if requested."""
        if self._end_requested:
            return Step.CLOSING
        answered = self._transcript.count(wire.MessageKind.ANSWER) + extra
        step = next_step(Step.TRANSCRIBE, answered=answered, questions=self._room.view.questions)
        assert step is not None
        return step

    # --- Alarm --------------------------------------------------------------------------------

    def _postpone_hint(self) -> None:
        if self._hints.postpone():
            self._update_alarm()

    def _update_alarm(self) -> None:
        """Set the alarm for recovery or the hint, whichever is due first, or delete the alarm."""
        times = []
        active = self._turns.active()
        if active is not None or self._room.list_update_pending:
            times.append(self.context.clock.now() + RECOVERY_DELAY)
        if active is None and self._hints.due is not None:
            times.append(self._hints.due)
        due = min(times, default=None)
        if due is not None:
            self.context.set_alarm(due)
        elif self.context.get_alarm() is not None:
            self.context.delete_alarm()
