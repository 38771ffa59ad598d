"""Work done while the candidate thinks and answers, to shorten the wait for the next question.

The model prefills the part of the next prompt that is already certain, and summarises the part of
the history for which the next prompt may have no room. If rules make the replies, because the model
is small, there is no such work.
"""

from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.events import HistorySummarized, PrefillDropped
from prepserver.interview.prompts.build import build_prefill_prompt
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.context_store import ContextStore
from prepserver.interview.prompts.history_summary import summarise_history
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.store import TurnStore
from prepserver.objects.object import Context

__all__ = ["Prefetcher"]

_PREFILL_TASK = "prefill"
"""Key of the background task that prefills; a new prefill replaces the running prefill."""

_SUMMARY_TASK = "history_summary"
"""Key of the background task that summarises the history. The summary has a key of its own, so that
a new caption, which replaces the prefill, does not cancel the summary."""


class Prefetcher:
    """Object that prefills the conversation and the draft, which is the beginning of the answer.

    Captions and keystrokes arrive often, and most of them leave the committed text unchanged. A
    draft equal to the last one is ignored before anything is loaded from the database.

    When the first draft after a question arrives, the object decides whether the history has to be
    summarised. The decision is not stored, and is repeated after a crash.
    """

    def __init__(
        self,
        context: Context,
        gateway: Gateway,
        context_store: ContextStore,
        transcript: Transcript,
        turns: TurnStore,
    ) -> None:
        self._context = context
        self._gateway = gateway
        self._context_store = context_store
        self._transcript = transcript
        self._turns = turns
        self._draft: str | None = None
        """Draft of the latest prefill; None if there is none or the prefill is no longer valid."""
        self._summary_checked = False
        """True once the need for a summary has been decided for the current question."""

    def prefill(self, draft: str, epoch: int) -> None:
        """Start to prefill the conversation with `draft`, in place of any earlier draft.

        `epoch` is the interview's current epoch. Do nothing if the draft is unchanged, a turn is
        active, or no question is open although one was asked. Before the first question, what is
        known of the interview is prefilled.
        """
        draft = draft.strip()
        if (
            draft == self._draft
            or self._turns.active() is not None
            or (
                self._transcript.open_question() is None
                and self._transcript.first_question() is not None
            )
        ):
            return
        self._draft = draft
        call = self._context_store.create_call("prefill", "")
        prompt_context = self._context_store.load()
        self._context.spawn(lambda: self._prefill(call, prompt_context, draft), _PREFILL_TASK)
        if not self._summary_checked and (turn := self._turns.latest_question()) is not None:
            self._summary_checked = True
            summary_call = self._context_store.create_history_summary_call(turn)
            self._context.spawn(
                lambda: self._summarise(summary_call, prompt_context, epoch), _SUMMARY_TASK
            )

    def invalidate(self) -> None:
        """Forget the draft and cancel an unfinished summary, since the prompt is changing.

        The next turn rarely needs the cancelled summary, since an answer that arrives so soon after
        its question is short. If a summary is needed, the turn generates one. Only the words
        generated so far are lost: the prompt of the summary is already in the KV cache.
        """
        self._draft = None
        if self._summary_checked:
            self._summary_checked = False
            self._context.cancel(_SUMMARY_TASK)

    def on_prefill_dropped(self, event: PrefillDropped) -> None:
        """Allow the dropped draft to be prefilled again."""
        if self._draft == event.draft:
            self._draft = None

    def on_history_summarised(self, event: HistorySummarized) -> None:
        """Store the summary, and prefill the changed prompt, which contains the summary."""
        self._context_store.save_history_summary(event.summary)
        draft, self._draft = self._draft or "", None
        self.prefill(draft, event.epoch)

    async def _prefill(self, call: Call, prompt_context: PromptContext, draft: str) -> None:
        """Prefill at the lowest priority, free of charge. Post `PrefillDropped` unless the prefill
        is completed or the model writes no replies."""
        try:
            info = await self._gateway.model_info(call)
        except InferenceError:
            done = False  # the next turn reports the error
        else:
            if info.few_shot:
                return
            prompt = build_prefill_prompt(info, prompt_context, draft, call.interview)
            done = await self._gateway.prefill(call, prompt)
        if not done:
            self._context.post(PrefillDropped(draft))

    async def _summarise(self, call: Call, prompt_context: PromptContext, epoch: int) -> None:
        """Summarise the history if the next answer may not fit, and post the summary.

        Post nothing if every exchange fits, the call fails or the model writes no replies.
        """
        # A seed from the transcript alone gives the same summary again after a crash.
        seed = len(prompt_context.messages)
        try:
            info = await self._gateway.model_info(call)
            if info.few_shot:
                return
            summary = await summarise_history(
                self._gateway, call, info, prompt_context, seed, ahead=True
            )
        except PrepServerError:
            return  # the turn that needs the summary reports the error
        if summary is not None:
            self._context.post(HistorySummarized(epoch=epoch, summary=summary))
