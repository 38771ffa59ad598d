"""One interview: a durable object with its transcript, its turns, its alarm and its room."""

from typing import Any

import msgspec
import structlog

from prepserver.engines.types import Transcription
from prepserver.errors import BadRequest, Conflict, InterviewError, NotFound, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview import schema
from prepserver.interview.hints import HintTimer
from prepserver.interview.prompts.build import transcriber_vocabulary
from prepserver.interview.prompts.context_store import ContextStore, request_name, turn_request_name
from prepserver.interview.prompts.prefill import HistorySummarizedAhead, Prefetcher, PrefillDropped
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import merge_skills, select_main_questions
from prepserver.interview.room import ListUpdated, Room
from prepserver.interview.rules import Rules, not_blank
from prepserver.interview.speech.ingest import AudioIngest, current_recording
from prepserver.interview.speech.live_transcription import CaptionUpdated, TimedOut, WorkerLost
from prepserver.interview.speech.recordings import RecordingStore, decode_recording
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.interview.summary import summary_text
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns import runner
from prepserver.interview.turns.steps import Step, TurnState, next_step
from prepserver.interview.turns.store import Turn, TurnStore
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.error_codes import ErrorCode

__all__ = ["InterviewObject", "InterviewSettings"]

RECOVERY_DELAY = 5.0
"""Seconds: while a turn is under way, or news for the user's list, an alarm is never further off,
so that after a crash somebody looks in and takes it up again."""

TURN_TASK = "turn"
"""Key of the work beside the object: one turn at a time."""

_ENDING = "ending"
"""Key of what is stored when the end is to follow the answer that is being written down."""

log = structlog.get_logger(__name__)


class InterviewSettings(msgspec.Struct, frozen=True, kw_only=True):
    hint_after: float
    """Seconds."""
    max_recording: float
    """Seconds."""
    version: str


class InterviewObject(DurableObject):
    """Matches what arrives, changes the state, and lets the models work beside it."""

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
        self._dictation = AudioIngest(context, self._recordings, gateway, self._listening_call)
        self._room = Room(context, self._transcript, self._turns)
        self._rules = Rules(context, self._room, self._transcript, self._turns)
        self._context_store = ContextStore(context, self._room, self._transcript, bank)
        self._prefetcher = Prefetcher(
            context, gateway, bank, self._context_store, self._transcript, self._turns
        )
        self._hints = HintTimer(context, self._transcript, after=settings.hint_after)
        self._working: tuple[str, Step] | None = None

    # --- Called by other objects and by the edge ----------------------------------------------

    def begin(self, owner: str, spec: dict[str, Any], view: wire.Interview) -> None:
        """Take over a new interview; again does nothing more. Raises NotFound for another's."""
        storage = self.context.storage
        if storage.get("owner", str) not in (None, owner):
            raise NotFound("You have no interview with this id.", code=ErrorCode.NO_SUCH_INTERVIEW)
        if storage.get("view", wire.Interview) is None:
            storage.put("owner", owner)
            storage.put("spec", msgspec.convert(spec, wire.InterviewSpec))
            storage.put("view", view)
            self._begin_turn(Step.EXTRACT)
        self._room.tell_list()

    def rename(self, title: str) -> wire.Interview:
        view = msgspec.structs.replace(self._room.view, title=title)
        self._room.save(view)
        self._rearm()
        return self._room.view

    def messages(self) -> list[wire.Message]:
        return self._transcript.messages()

    def speech(self, message: str) -> Transcription:
        """How a spoken answer was heard. Raises NotFound."""
        return self._transcript.speech(message)

    def delete(self, owner: str, id: str) -> None:
        """Remove everything; the list forgets the interview when it is gone."""
        self.context.detach(lambda: self._gateway.discard(self.context.name))
        self.context.tell(UserInterviewsStub(owner).forget(id))
        self.context.destroy()

    # --- Hooks --------------------------------------------------------------------------------

    def on_start(self) -> None:
        active = self._turns.active()
        if active is not None:
            self._work_on(active)

    def on_connect(self, connection: Connection) -> None:
        self._room.greet(connection, self._settings.version)

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._on_audio(connection, message)
            return
        try:
            decoded = codec.decode_client(message)
        except msgspec.DecodeError as error:
            bad = BadRequest(
                f"The message cannot be understood: {error}", code=ErrorCode.BAD_MESSAGE
            )
            self._room.refuse(connection, bad, codec.decode_message_id(message))
            return
        id = decoded.id
        try:
            if (answered := self._rules.answered(decoded)) is not None:
                if isinstance(decoded, wire.AudioStart) and isinstance(answered, wire.Failure):
                    self._dictation.refuse(connection, id)
                self.context.send(connection, answered)
                return
            self._on_decoded(connection, decoded)
        except PrepServerError as error:
            if error.status >= 500:
                raise
            self._rules.note_refusal(decoded, error)
            self._room.refuse(connection, error, id)
            return
        self._rules.note(decoded)
        if id and not isinstance(decoded, wire.AudioStart):
            self.context.send(connection, wire.Accepted(id=id))

    def on_alarm(self, retry_count: int) -> None:
        if self._room.unlisted:
            self._room.tell_list()
        active = self._turns.active()
        if active is not None:
            if self._working is None:
                self._work_on(active)
        elif self._hints.due is not None and self._hints.due <= self.context.clock.now():
            self._hints.clear()
            if self._transcript.open_question() is not None:
                self._begin_turn(Step.HINT)
        self._rearm()

    def on_hibernate(self) -> None:
        self._dictation.flush()
        self.context.detach(lambda: self._gateway.offload(self.context.name))

    def on_event(self, event: object) -> None:
        """What the work of the current turn has come to; anything older is dropped."""
        if isinstance(event, ListUpdated):
            self._room.listed(event)
            self._rearm()
            return
        match event:
            case CaptionUpdated():
                self._show_caption(event)
            case WorkerLost(recording=recording):
                self._dictation.lost(recording)
            case TimedOut(recording=recording):
                self._dictation.deafen(recording)
            case PrefillDropped():
                self._prefetcher.on_prefill_dropped(event)
            case HistorySummarizedAhead():
                self._prefetcher.on_history_summarised(event)
        if not isinstance(event, runner.TurnEvent) or self._working != (event.turn, event.step):
            return
        if isinstance(event, runner.TextProduced):
            # Often, and so without a look at the database.
            self._room.say(event.turn, event.step, event.text)
            return
        active = self._turns.active()
        if active is None or active.id != event.turn:
            return
        match event:
            case runner.ReplyRestarted():
                self._room.take_back()
            case runner.AnswerTranscribed(speech=speech, quota=quota):
                self._room.show_quota(quota)
                self._heard(active, speech)
            case runner.TranscriptionFailed():
                self._dictation.deafen_all()
                self._work_on(active)
            case runner.HistorySummarized(summary=summary):
                self._context_store.save_history_summary(summary)
            case runner.SkillsExtracted(skills=skills, quota=quota):
                self._room.show_quota(quota)
                self._prepare(active, skills)
            case runner.ReplyCompleted(text=text, source=source, quota=quota):
                self._room.show_quota(quota)
                self._written(active, text, source)
            case runner.TurnFailed(error=error):
                self._stop(active, TurnState.FAILED, error)

    # --- Messages of clients ------------------------------------------------------------------

    def _on_decoded(self, connection: Connection, message: wire.ClientMessages) -> None:
        match message:
            case wire.GetAllMessages():
                self._room.send_snapshot(connection)
            case wire.UserTyping(draft=draft):
                self._postpone_hint()
                self._prefetcher.prefill(draft)
            case wire.UserRecording():
                self._postpone_hint()
            case wire.UserMessage(text=text):
                self._answer(text)
            case wire.AudioStart(id=id):
                self._start_recording(connection, id)
            case wire.AudioStop(id=id, frames=frames):
                self._stop_recording(connection, id, frames)
            case wire.AudioCancel(id=id):
                self._dictation.cancel(connection, id)
            case wire.HintRequest():
                self._rules.require_question()
                self._begin_turn(Step.HINT)
            case wire.TurnStop():
                self._stop_turn()
            case wire.TurnRetry():
                self._retry_turn()
            case wire.MessageEdit(message_id=id, text=text):
                edited = self._transcript.edit(id, not_blank(text))
                self._prefetcher.invalidate()
                self._room.said(edited)
            case wire.InterviewEnd():
                self._end()

    def _answer(self, text: str) -> None:
        answer = not_blank(text)
        self._rules.require_question()
        # Stored in the same transaction as the turn: what is acknowledged is answered.
        self._begin_turn(self._after_answer(1), answer=answer)

    def _stop_turn(self) -> None:
        active = self._turns.active()
        if active is None:
            raise Conflict(
                "Nothing is under way that could be stopped.", code=ErrorCode.NOTHING_TO_STOP
            )
        stopped = Conflict("You stopped the interviewer.", code=ErrorCode.STOPPED, retryable=True)
        self._stop(active, TurnState.STOPPED, stopped)

    def _retry_turn(self) -> None:
        unfinished = self._turns.unfinished()
        if unfinished is None or self._turns.active() is not None:
            raise Conflict("There is nothing to try again.", code=ErrorCode.NOTHING_TO_RETRY)
        self._work_on(self._turns.retry(unfinished))
        self._room.show_phase()

    def _end(self) -> None:
        self._rules.require_open()
        active = self._turns.active()
        if active is not None:
            if active.step in (Step.CLOSING, Step.SUMMARY):
                return
            if active.step is Step.TRANSCRIBE:
                self.context.storage.put(_ENDING, True)  # what was said before still counts
                return
            self._room.take_back()
            self._turns.finish(active, TurnState.DONE)
        unfinished = self._turns.unfinished()
        if unfinished is not None and unfinished.step in (Step.CLOSING, Step.SUMMARY):
            self._retry_turn()  # the end had begun: nobody says goodbye twice
        else:
            self._begin_turn(Step.CLOSING)

    # --- Audio --------------------------------------------------------------------------------

    def _on_audio(self, connection: Connection, data: bytes) -> None:
        try:
            if self._dictation.is_whole(connection, data):
                pcm = decode_recording(data)
                self._rules.require_question()
                self._begin_turn(Step.TRANSCRIBE, recording=self._dictation.add_whole(pcm))
            elif self._dictation.add_frame(connection, data):
                self._postpone_hint()
        except PrepServerError as error:
            if error.status >= 500:
                raise
            self._room.refuse(connection, error, current_recording(connection))

    def _start_recording(self, connection: Connection, id: str) -> None:
        self._dictation.refuse(connection, id)  # until it is taken
        self._rules.require_open()
        self._dictation.start(connection, id)
        self._postpone_hint()

    def _stop_recording(self, connection: Connection, id: str, frames: int) -> None:
        self._dictation.leave(connection)
        self._rules.require_question()
        self._dictation.stop(id, frames)
        self._begin_turn(Step.TRANSCRIBE, recording=id)

    def _listening_call(self, recording: str) -> tuple[Call, str]:
        call = self._context_store.create_call(Step.TRANSCRIBE, request_name(recording))
        return call, transcriber_vocabulary(self._context_store.load())

    def _show_caption(self, heard: CaptionUpdated) -> None:
        caption = heard.caption
        certain = " ".join(part for part in (caption.final, caption.committed) if part)
        text = " ".join(part for part in (certain, caption.interim) if part)
        self.context.broadcast(wire.Caption(text=text, committed=len(certain)))
        self._prefetcher.prefill(certain)

    # --- Turns --------------------------------------------------------------------------------

    def _begin_turn(
        self, step: Step, *, recording: str | None = None, answer: str | None = None
    ) -> None:
        active = self._turns.active()
        if active is not None:
            # Only a hint can be under way here; an answer or the end is worth more.
            self._room.take_back()
            self._turns.finish(active, TurnState.DONE)
        begun = self._turns.begin(step, recording, at=self.context.clock.now())
        if step is not Step.HINT:
            self._hints.clear()
            self._recordings.forget_others(recording)
            self._dictation.deafen_all(but=recording)
        if answer is not None:
            self._add_answer(begun, answer, wire.Source.TEXT)
        self._work_on(begun)
        self._room.show_phase()

    def _work_on(self, current: Turn) -> None:
        recording, prompt_context = current.recording, self._context_store.load()
        listening = self._dictation.followed(recording) if recording else None
        work = runner.TurnWork(
            turn=current.id,
            step=current.step,
            call=self._context_store.create_call(current.step, turn_request_name(current)),
            prompt_context=prompt_context,
            seed=current.number * 100 + current.attempt * 10,
            pcm=self._recordings.pcm(recording) if recording and listening is None else b"",
            vocabulary=transcriber_vocabulary(prompt_context),
            listening=listening,
        )
        self._working = (current.id, current.step)
        self._prefetcher.invalidate()
        context = self.context
        context.spawn(
            lambda: runner.run(work, self._gateway, self._bank, context.clock, context.post),
            TURN_TASK,
        )
        self._rearm()

    def _advance(self, current: Turn, step: Step | None) -> None:
        if step is None:
            self._turns.finish(current, TurnState.DONE)
            self._working = None
            self._rearm()
            self._prefetcher.prefill("")
        else:
            self._work_on(self._turns.advance(current, step))
        self._room.show_phase()

    def _prepare(self, current: Turn, extracted: list[str]) -> None:
        spec = self._context_store.load().spec
        skills = merge_skills(self._bank, spec, extracted)
        # The same interview is planned the same way again after a crash.
        seed = int.from_bytes(self.context.name.encode()[-4:], "big")
        questions = select_main_questions(self._bank, spec, skills, seed)
        self.context.storage.put("questions", [question.id for question in questions])
        self._room.save(msgspec.structs.replace(self._room.view, skills=skills))
        self._advance(current, self._after_answer(0))

    def _heard(self, current: Turn, speech: Transcription) -> None:
        text = speech.text.strip()
        self._dictation.deafen_all()
        if current.recording is not None:
            self._recordings.forget(current.recording)
        if not text:
            nothing = InterviewError(
                "No words were heard in the recording. Speak closer to the microphone and record "
                "again, or type the answer.",
                code=ErrorCode.NOTHING_HEARD,
            )
            self._stop(current, TurnState.DONE, nothing)
            return
        self._add_answer(current, text, wire.Source.SPEECH, speech)
        self._advance(current, self._after_answer(0))

    def _written(self, current: Turn, text: str, source: wire.Source) -> None:
        kind = wire.MessageKind(current.step.value)
        if kind is wire.MessageKind.SUMMARY:
            text = summary_text(self._context_store.load(), text)
        message = self._transcript.add(
            f"{current.id}-{kind}", kind, text, source, at=self.context.clock.now()
        )
        self._room.said(message)
        match kind:
            case wire.MessageKind.QUESTION:
                self._hints.schedule()
                self._room.count()
            case wire.MessageKind.SUMMARY:
                done = msgspec.structs.replace(self._room.view, status=wire.Status.COMPLETED)
                self._room.save(done)
        self._advance(current, next_step(current.step, answered=0, questions=1))

    def _stop(self, current: Turn, state: TurnState, error: PrepServerError) -> None:
        """End a turn that did not come to its end; what was streamed of it is forgotten."""
        self.context.cancel(TURN_TASK)
        self._working = None
        self._room.take_back()
        if current.step is Step.HINT:
            state = TurnState.DONE  # the interview does not depend on a hint
        stored = wire.Error(**error.as_dict())
        self._turns.finish(current, state, stored)
        if current.step is Step.TRANSCRIBE:
            self._hints.postpone()  # the question is open again
        self._rearm()
        if state is not TurnState.STOPPED:
            self.context.broadcast(wire.Failure(**error.as_dict()))
        if current.step is Step.TRANSCRIBE and self._ending:
            self._begin_turn(Step.CLOSING)
        else:
            self._room.show_phase()

    @property
    def _ending(self) -> bool:
        return self.context.storage.get(_ENDING, bool) is not None

    def _after_answer(self, more: int) -> Step:
        if self._ending:
            return Step.CLOSING
        answered = self._transcript.count(wire.MessageKind.ANSWER) + more
        step = next_step(Step.TRANSCRIBE, answered=answered, questions=self._room.view.questions)
        assert step is not None
        return step

    def _add_answer(
        self, current: Turn, text: str, source: wire.Source, speech: Transcription | None = None
    ) -> None:
        message = self._transcript.add(
            f"{current.id}-answer",
            wire.MessageKind.ANSWER,
            text,
            source,
            at=self.context.clock.now(),
        )
        if speech is not None:
            self._transcript.add_speech(message.id, speech)
        self._room.said(message)
        self._room.count()

    def _postpone_hint(self) -> None:
        if self._hints.postpone():
            self._rearm()

    def _rearm(self) -> None:
        """One alarm for several purposes: the guard of what is under way, and the hint."""
        times = []
        active = self._turns.active()
        if active is not None or self._room.unlisted:
            times.append(self.context.clock.now() + RECOVERY_DELAY)
        if active is None and self._hints.due is not None:
            times.append(self._hints.due)
        due = min(times, default=None)
        if due is not None:
            self.context.set_alarm(due)
        elif self.context.get_alarm() is not None:
            self.context.delete_alarm()
