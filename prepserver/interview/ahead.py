"""Work done while the candidate is still answering: the model reads what is certain already."""

from prepserver.ai.gateway import Call, Gateway
from prepserver.errors import InferenceError
from prepserver.interview.plan import Brief
from prepserver.interview.prompts import reading_for

__all__ = ["read"]


async def read(gateway: Gateway, call: Call, brief: Brief, draft: str) -> None:
    """Have the model read the interview so far and `draft`, the beginning of the answer.

    It costs the user nothing and is dropped when somebody waits for the model.
    """
    try:
        info = await gateway.info()
    except InferenceError:
        return  # whoever needs the model is told
    await gateway.prefill(call, reading_for(info, brief, draft, call.interview))
