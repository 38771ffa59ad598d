"""Work done while the candidate is still answering: the model reads what is certain already."""

from msgspec import Struct

from prepserver.ai.gateway import Call, Gateway
from prepserver.errors import InferenceError
from prepserver.interview.asking import Asking
from prepserver.interview.plan import Brief
from prepserver.interview.prompts import reading_for
from prepserver.interview.transcript import Transcript
from prepserver.interview.turns import Turns
from prepserver.objects.object import Context

__all__ = ["Ahead", "Unread"]

_AHEAD = "ahead"
"""Key of the work beside the object: one reading at a time."""


class Unread(Struct, frozen=True):
    """Event: the model had no time for this draft."""

    draft: str


class Ahead:
    """Lets the model read the interview so far and a draft, the beginning of the answer.

    Captions and keystrokes come often and mostly add nothing that is certain: what the model has
    read just so is not put together from the database again.
    """

    def __init__(
        self,
        context: Context,
        gateway: Gateway,
        asking: Asking,
        transcript: Transcript,
        turns: Turns,
    ) -> None:
        self._context = context
        self._gateway = gateway
        self._asking = asking
        self._transcript = transcript
        self._turns = turns
        self._draft: str | None = None
        """The last one that was given to read, after all that was said before it."""

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

    def begin_anew(self) -> None:
        """What was said before the draft has changed, or is about to."""
        self._draft = None

    def unread(self, event: Unread) -> None:
        """The same draft may be given to read again."""
        if self._draft == event.draft:
            self._draft = None

    async def _read(self, call: Call, brief: Brief, draft: str) -> None:
        """It costs the user nothing and is dropped when somebody waits for the model."""
        try:
            info = await self._gateway.info()
        except InferenceError:
            read = False  # whoever needs the model is told
        else:
            prompt = reading_for(info, brief, draft, call.interview)
            read = await self._gateway.prefill(call, prompt)
        if not read:
            self._context.post(Unread(draft))
