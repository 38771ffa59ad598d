"""Durable object of one interview, with its transcript, its turns, its alarm and its room."""

from typing import Any, assert_never

import msgspec

from prepserver.engines.types import ExpectedSpeech, PartialTranscript, Transcription
from prepserver.errors import BadRequest, NotFound, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview import events, schema
from prepserver.interview.conversation import REQUEST_TEXTS, Conversation
from prepserver.interview.dialogue_store import DialogueStore
from prepserver.interview.events import InterviewEvent
from prepserver.interview.hints import HintTimer
from prepserver.interview.prompts.context_store import ContextStore, request_name
from prepserver.interview.prompts.prefill import Prefetcher
from prepserver.interview.questions.bank import Bank
from prepserver.interview.room import Room
from prepserver.interview.rules import Rules, require_text
from prepserver.interview.speech.doubt import find_problem
from prepserver.interview.speech.expected import expect_speech
from prepserver.interview.speech.ingest import AudioIngest, current_recording
from prepserver.interview.speech.recordings import RecordingStore, decode_recording
from prepserver.interview.stubs import UserInterviewsStub
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.lifecycle import TurnLifecycle, TurnParts
from prepserver.interview.turns.steps import Step, TurnState
from prepserver.interview.turns.store import Turn, TurnStore
from prepserver.objects.connection import Connection
from prepserver.objects.object import Context, DurableObject
from prepserver.wire import client_messages as client
from prepserver.wire import codec
from prepserver.wire import protocol as wire
from prepserver.wire.agenda import Agenda, EditedTopic
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import Intent

__all__ = ["InterviewObject", "InterviewSettings"]


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
        self._dialogue = DialogueStore(context.storage, bank)
        self._room = Room(context, self._transcript, self._turns, self._dialogue)
        self._rules = Rules(context, self._room, self._transcript, self._turns)
        self._context_store = ContextStore(context, self._room, self._transcript, self._dialogue)
        self._prefetcher = Prefetcher(
            context, gateway, self._context_store, self._transcript, self._turns
        )
        self._hints = HintTimer(context, self._transcript, after=settings.hint_after)
        self._conversation = Conversation(
            context,
            self._transcript,
            self._dialogue,
            self._context_store,
            self._room,
            self._hints,
            bank,
        )
        parts = TurnParts(
            context=context,
            gateway=gateway,
            bank=bank,
            store=self._turns,
            room=self._room,
            recordings=self._recordings,
            audio=self._audio,
            hints=self._hints,
            context_store=self._context_store,
            prefetcher=self._prefetcher,
        )
        self._lifecycle = TurnLifecycle(parts, self._minutes_left)

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
            self._begin(Step.EXTRACT)
        self._room.update_list()

    def agenda(self) -> Agenda:
        """Return the agenda. Raises Conflict (`agenda_hidden`, `not_ready`)."""
        self._room.require_started()
        return self._room.agenda()

    def edit_agenda(self, topics: list[EditedTopic]) -> Agenda:
        """Replace the topics that are still planned, and return the agenda. Raises BadRequest or
        Conflict."""
        self._rules.require_open()
        self._conversation.edit_agenda(topics)
        return self._room.agenda()

    def rename(self, title: str) -> wire.Interview:
        self._room.save_view(msgspec.structs.replace(self._room.view, title=title))
        self._lifecycle.update_alarm()
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
            self._lifecycle.start_step(active)

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
            if self._lifecycle.running is None:
                self._lifecycle.start_step(active)
        elif self._hints.due is not None and self._hints.due <= self.context.clock.now():
            self._hints.clear()
            if self._rules.allows_hints and self._transcript.open_question() is not None:
                self._begin(Step.HINT)
        self._lifecycle.update_alarm()

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
                if quota is not None:
                    self._room.broadcast_quota(quota)
                step = self._conversation.add_reply(self._turn, text, source)
                self._lifecycle.advance(self._turn, step)
            case events.AgendaPlanned(agenda=agenda):
                self._lifecycle.advance(self._turn, self._conversation.plan(agenda))
            case events.AnswerAssessed(assessed=assessed, next_move=next_move):
                step = self._conversation.assess_answer(assessed, next_move)
                self._lifecycle.advance(self._turn, step)
            case events.AnswerTranscribed(transcription=transcription, quota=quota):
                self._room.broadcast_quota(quota)
                self._add_spoken_answer(self._turn, transcription)
            case events.TranscriptionFailed():
                self._audio.stop_transcribing_all()
                self._lifecycle.start_step(self._turn)
            case events.TurnFailed(error=error):
                self._abort(self._turn, TurnState.FAILED, error)
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
                self._lifecycle.update_alarm()
            case _:
                assert_never(event)

    def _is_stale(self, event: InterviewEvent) -> bool:
        """Return True if the event's task started in an earlier epoch."""
        return isinstance(event, events.EpochEvent) and event.epoch != self._lifecycle.epoch

    @property
    def _turn(self) -> Turn:
        """Turn whose background task posted the current event."""
        assert self._lifecycle.running is not None
        return self._lifecycle.running

    # --- Messages of clients ------------------------------------------------------------------

    def _handle_message(self, connection: Connection, message: client.ClientMessages) -> None:
        match message:
            case client.GetAllMessages():
                self._room.send_snapshot(connection)
            case client.UserTyping(draft=draft):
                self._lifecycle.postpone_hint()
                self._prefetcher.prefill(draft, self._lifecycle.epoch)
            case client.UserRecording():
                self._lifecycle.postpone_hint()
            case client.UserMessage(text=text):
                self._answer(text)
            case client.AudioStart(id=id):
                self._start_recording(connection, id)
            case client.AudioStop(id=id, frames=frames):
                self._stop_recording(connection, id, frames)
            case client.AudioCancel(id=id):
                self._audio.cancel(connection, id)
            case client.HintRequest():
                self._rules.require_hints()
                self._begin(Step.HINT)
            case client.CandidateRepeat():
                self._request(Intent.REPEAT)
            case client.CandidateRephrase():
                self._request(Intent.REPHRASE)
            case client.CandidateSkip():
                self._request(Intent.SKIP)
            case client.CandidatePause():
                self._request(Intent.PAUSE)
            case client.AgendaEdit(topics=topics):
                self._conversation.edit_agenda(topics)
            case client.InterviewStart():
                self._start()
            case client.TurnStop():
                self._lifecycle.stop()
            case client.TurnRetry():
                self._lifecycle.retry()
            case client.MessageEdit(message_id=id, text=text):
                self._edit_answer(id, text)
            case client.InterviewEnd():
                self._end_interview()

    def _answer(self, text: str) -> None:
        answer = require_text(text)
        self._rules.require_question()
        self._begin_with_answer(answer)

    def _request(self, intent: Intent) -> None:
        self._rules.require_question()
        self._begin_with_answer(REQUEST_TEXTS[intent], intent)

    def _start(self) -> None:
        self._conversation.start()
        self._begin(Step.QUESTION)

    def _edit_answer(self, id: str, text: str) -> None:
        edited = self._transcript.edit(id, require_text(text))
        self._prefetcher.invalidate()
        self._lifecycle.skip_epoch()  # makes a summary of the old text stale
        self._room.broadcast_message(edited)

    def _end_interview(self) -> None:
        self._rules.require_open()
        active = self._turns.active()
        if active is not None:
            if active.step in (Step.CLOSING, Step.SUMMARY):
                return
            if active.step is Step.TRANSCRIBE:
                self._conversation.request_end()  # the spoken answer still counts
                return
            self._room.drop_stream()
            self._turns.finish(active, TurnState.DONE)
        unfinished = self._turns.unfinished()
        if unfinished is not None and unfinished.step in (Step.CLOSING, Step.SUMMARY):
            self._lifecycle.retry()  # a new turn would repeat the closing
        else:
            self._begin(Step.CLOSING)

    # --- Audio --------------------------------------------------------------------------------

    def _on_audio(self, connection: Connection, data: bytes) -> None:
        try:
            if self._audio.is_complete_recording(connection, data):
                pcm = decode_recording(data)
                self._rules.require_question()
                self._begin(Step.TRANSCRIBE, recording=self._audio.add_complete(pcm))
            elif self._audio.add_frame(connection, data):
                self._lifecycle.postpone_hint()
        except PrepServerError as error:
            if error.status >= 500:
                raise
            self._room.send_error(connection, error, current_recording(connection))

    def _start_recording(self, connection: Connection, id: str) -> None:
        self._audio.ignore_frames(connection, id)  # until the recording is accepted
        self._rules.require_open()
        self._audio.start(connection, id)
        self._lifecycle.postpone_hint()

    def _stop_recording(self, connection: Connection, id: str, frames: int) -> None:
        self._audio.detach(connection)
        self._rules.require_question()
        self._audio.finish(id, frames)
        self._begin(Step.TRANSCRIBE, recording=id)

    def _transcription_call(self, recording: str) -> tuple[Call, ExpectedSpeech]:
        """Return the gateway call and the expectations with which a recording is transcribed."""
        call = self._context_store.create_call(Step.TRANSCRIBE, request_name(recording))
        return call, expect_speech(self._context_store.load())

    def _broadcast_caption(self, caption: PartialTranscript) -> None:
        committed = " ".join(part for part in (caption.final, caption.committed) if part)
        text = " ".join(part for part in (committed, caption.interim) if part)
        self.context.broadcast(wire.Caption(text=text, committed=len(committed)))
        self._prefetcher.prefill(committed, self._lifecycle.epoch)

    # --- Turns --------------------------------------------------------------------------------

    def _begin(self, step: Step, *, recording: str | None = None) -> None:
        """Store a new turn and start it."""
        self._lifecycle.start_step(self._lifecycle.begin(step, recording=recording))
        self._room.broadcast_state()

    def _begin_with_answer(self, text: str, intent: Intent | None = None) -> None:
        # The answer is stored in the transaction that starts its turn, so none stays unanswered.
        turn = self._lifecycle.begin(Step.ASSESS)
        _, step = self._conversation.add_answer(turn, text, wire.Source.TEXT, intent)
        self._lifecycle.advance(turn, step)

    def _abort(self, turn: Turn, state: TurnState, error: PrepServerError) -> None:
        self._lifecycle.abort(turn, state, error)
        if turn.step is Step.TRANSCRIBE and self._conversation.end_requested:
            self._begin(Step.CLOSING)
        else:
            self._room.broadcast_state()

    def _add_spoken_answer(self, turn: Turn, transcription: Transcription) -> None:
        self._audio.stop_transcribing_all()
        problem = find_problem(transcription)
        if problem is not None and problem.code == ErrorCode.SPEECH_DOUBTFUL:
            # The turn can be retried, so the recording is kept until the question is answered.
            self._abort(turn, TurnState.FAILED, problem)
            return
        if turn.recording is not None:
            self._recordings.delete(turn.recording)
        if problem is not None:
            self._abort(turn, TurnState.DONE, problem)
            return
        text = transcription.text.strip()
        message, step = self._conversation.add_answer(turn, text, wire.Source.SPEECH)
        self._transcript.add_transcription(message.id, transcription)
        self._lifecycle.advance(turn, step)

    def _minutes_left(self) -> float | None:
        """Return the minutes left for the interview, which may be negative; None means no limit."""
        minutes = self._context_store.spec().minutes
        if not minutes or (first := self._transcript.first_question()) is None:
            return None
        return minutes - (self.context.clock.now() - first.created_at) / 60.0
