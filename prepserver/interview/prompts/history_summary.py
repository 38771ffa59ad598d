"""Summaries of the oldest exchanges in an interview that outgrows the model's context.

In prompts, the summary replaces the exchanges for which there is no room. The stored transcript
stays complete.
"""

from contextlib import aclosing

import msgspec
import structlog

from prepserver.engines.types import ModelInfo, Priority, TextDelta
from prepserver.errors import InferenceError
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.prompts.build import build_history_summary_prompt, count_outgrown_messages
from prepserver.interview.prompts.context import HistorySummary, PromptContext

__all__ = ["summarise_history"]

log = structlog.get_logger(__name__)


async def summarise_history(
    gateway: Gateway,
    call: Call,
    info: ModelInfo,
    context: PromptContext,
    seed: int,
    *,
    ahead: bool = False,
) -> HistorySummary | None:
    """Generate a summary of the exchanges for which a prompt has no room.

    Return None if every exchange fits or is already covered by a summary. If the model fails, log a
    warning and return None: the turn continues without the summary. `ahead` means that the next
    answer has not arrived yet: room for that answer is reserved, and the call runs at prefill
    priority, behind every call for which a user is waiting. Raises RateLimited if the user has used
    up an allowance.
    """
    outgrown = count_outgrown_messages(info, context, ahead=ahead)
    previous = context.history_summary
    if outgrown <= previous.covered:
        return None
    prompt = build_history_summary_prompt(info, context, outgrown, seed)
    if ahead:
        prompt = msgspec.structs.replace(prompt, priority=Priority.PREFILL)
    parts = [prompt.opening]
    summary_call = msgspec.structs.replace(call, purpose="history_summary")
    try:
        async with aclosing(gateway.generate(summary_call, prompt)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    parts.append(event.text)
    except InferenceError as error:
        log.warning("history.summary_failed", interview=call.interview, code=error.code)
        return None
    text = " ".join(f"{previous.text} {''.join(parts)}".split())
    log.info(
        "history.summarised",
        interview=call.interview,
        messages=outgrown,
        characters=len(text),
        ahead=ahead,
    )
    return HistorySummary(covered=outgrown, text=text)
