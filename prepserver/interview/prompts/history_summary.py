"""An interview that outgrows the model's context: its oldest exchanges become a summary.

Nothing is cut silently: what a prompt does not show word for word, it shows condensed. The
transcript keeps every word.
"""

from contextlib import aclosing

import msgspec
import structlog

from prepserver.engines.types import ModelInfo, Priority, TextDelta
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.prompts.build import condensing_prompt, outgrown
from prepserver.interview.questions.bank import Bank
from prepserver.interview.questions.plan import HistorySummary, PromptContext

__all__ = ["condense"]

log = structlog.get_logger(__name__)


async def condense(
    gateway: Gateway,
    call: Call,
    info: ModelInfo,
    bank: Bank,
    brief: PromptContext,
    seed: int,
    *,
    ahead: bool = False,
) -> HistorySummary | None:
    """A summary of what does not fit into a prompt any more, or None when all of it does, or is
    condensed already. A model that fails costs the summary, not the turn: None, and a warning.

    `ahead` is for when the next answer is still to come: there has to be room for it too, and
    everybody who waits for the model goes first.
    """
    upto = outgrown(info, brief, ahead=ahead)
    known = brief.condensed
    if upto <= known.upto:
        return None
    prompt = condensing_prompt(info, bank, brief, upto, seed)
    if ahead:
        prompt = msgspec.structs.replace(prompt, priority=Priority.PREFILL)
    parts = [prompt.opening]
    charged = msgspec.structs.replace(call, purpose="condense")
    try:
        async with aclosing(gateway.generate(charged, prompt)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    parts.append(event.text)
    except InferenceError as error:
        log.warning("prompt.not_condensed", interview=call.interview, code=error.code)
        return None
    text = " ".join(f"{known.text} {''.join(parts)}".split())
    log.info(
        "prompt.condensed",
        interview=call.interview,
        messages=upto,
        characters=len(text),
        ahead=ahead,
    )
    return HistorySummary(upto=upto, text=text)
