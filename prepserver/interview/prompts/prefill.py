"""Work done while the candidate thinks and answers, so that little is left at the end of it: the
model reads what is certain already, and sums up what the next prompt will have no room for."""

from msgspec import Struct

from prepserver.errors import InferenceError, PrepServerError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.prompts.build import reading_for
from prepserver.interview.prompts.context import ContextReader
from prepserver.interview.prompts.history_summary import condense
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import HistorySummary, PromptContext
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns.store import TurnStore
from prepserver.objects.object import Context

__all__ = ["HistorySummarizedAhead", "Prefetcher", "PrefillDropped"]

_AHEAD = "ahead"
"""Key of the work beside the object: one reading at a time."""

_ABRIDGING = "abridging"
"""Key of the other work: captions come while it goes on, and must not end it."""


class PrefillDropped(Struct, frozen=True):
    """Event: the model had no time for this draft."""

    draft: str


class HistorySummarizedAhead(Struct, frozen=True):
    """Event: the beginning of the interview was condensed before that had to be."""

    condensed: HistorySummary
    standing: int
    """Of the interview when that was begun; see `Prefetcher.begin_anew`."""


class Prefetcher:
    """Lets the model read the interview so far and a draft, the beginning of the answer.

    Captions and keystrokes come often and mostly add nothing that is certain: what the model has
    read just so is not put together from the database again.

    Whether the beginning has to be condensed is looked at once for each question, with the first
    draft; right after the question that is the empty one. It does not survive a crash, nor needs
    to: the next life looks at it with its first draft.
    """

    def __init__(
        self,
        context: Context,
        gateway: Gateway,
        bank: Bank,
        asking: ContextReader,
        transcript: Transcript,
        turns: TurnStore,
    ) -> None:
        self._context = context
        self._gateway = gateway
        self._bank = bank
        self._asking = asking
        self._transcript = transcript
        self._turns = turns
        self._draft: str | None = None
        """The last one that was given to read, after all that was said before it."""
        self._standing = 0
        """Counts what makes pointless what was begun before."""
        self._looked = False
        """Whether it was looked at if there is something to condense."""

    def read(self, draft: str) -> None:
        """A later call replaces this. Nothing is read while the interviewer is at work."""
        draft = draft.strip()
        if (
            draft == self._draft
            or self._turns.active() is not None
            or self._transcript.open_question() is None
        ):
            return
        self._draft = draft
        call, brief = self._asking.call("prefill", ""), self._asking.brief()
        self._context.spawn(lambda: self._read(call, brief, draft), _AHEAD)
        if not self._looked and (asked := self._turns.asked()) is not None:
            self._looked = True
            paid, standing = self._asking.condensing_call(asked), self._standing
            self._context.spawn(lambda: self._abridge(paid, brief, standing), _ABRIDGING)

    def begin_anew(self) -> None:
        """What was said before the draft has changed, or is about to.

        A summary that is not ready is given up. A turn begins that most often has no need of it:
        an answer that comes as soon after its question is short. If it has, that turn condenses,
        and no more is lost than what was written of the summary: the model has read the text.
        """
        self._draft = None
        self._standing += 1
        if self._looked:
            self._looked = False
            self._context.cancel(_ABRIDGING)

    def unread(self, event: PrefillDropped) -> None:
        """The same draft may be given to read again."""
        if self._draft == event.draft:
            self._draft = None

    def abridged(self, event: HistorySummarizedAhead) -> None:
        """Keep the summary, and let the model read what prompts begin with from now on."""
        if event.standing == self._standing:
            self._asking.condense(event.condensed)
            draft, self._draft = self._draft or "", None
            self.read(draft)

    async def _read(self, call: Call, brief: PromptContext, draft: str) -> None:
        """It costs the user nothing and is dropped when somebody waits for the model."""
        try:
            info = await self._gateway.info()
        except InferenceError:
            read = False  # whoever needs the model is told
        else:
            prompt = reading_for(info, brief, draft, call.interview)
            read = await self._gateway.prefill(call, prompt)
        if not read:
            self._context.post(PrefillDropped(draft))

    async def _abridge(self, call: Call, brief: PromptContext, standing: int) -> None:
        """Nothing comes of it when there is no need, or the user may not ask for more."""
        # The same interview is condensed in the same words again after a crash.
        seed = len(brief.messages)
        try:
            info = await self._gateway.info()
            condensed = await condense(
                self._gateway, call, info, self._bank, brief, seed, ahead=True
            )
        except PrepServerError:
            return  # the turn that has need of it is told
        if condensed is not None:
            self._context.post(HistorySummarizedAhead(condensed, standing))
