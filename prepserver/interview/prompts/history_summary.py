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
from prepserver.interview.prompts.build import build_history_summary_prompt, count_outgrown_messages
from prepserver.interview.prompts.context import HistorySummary, PromptContext
from prepserver.interview.questions.bank import Bank

__all__ = ["summarise_history"]

log = structlog.get_logger(__name__)


async def summarise_history(
    gateway: Gateway,
    call: Call,
    info: ModelInfo,
    bank: Bank,
    context: PromptContext,
    seed: int,
    *,
    ahead: bool = False,
) -> HistorySummary | None:
    """A summary of what does not fit into a prompt any more, or None when all of it does, or is
    condensed already. A model that fails costs the summary, not the turn: None, and a warning.

    `ahead` is for when the next answer is still to come: there has to be room for it too, and
    everybody who waits for the model goes first.
    """
    upto = count_outgrown_messages(info, context, ahead=ahead)
    known = context.history_summary
    if upto <= known.covered:
        return None
    prompt = build_history_summary_prompt(info, bank, context, upto, seed)
    if ahead:
        prompt = msgspec.structs.replace(prompt, priority=Priority.PREFILL)
    parts = [prompt.opening]
    charged = msgspec.structs.replace(call, purpose="history_summary")
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
        "prompt.history_summary",
        interview=call.interview,
        messages=upto,
        characters=len(text),
        ahead=ahead,
    )
    return HistorySummary(covered=upto, text=text)
