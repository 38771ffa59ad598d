"""Prompts that are read ahead while there is room for it, one for each conversation."""

import asyncio

from prepserver.engines.types import LanguageModel, Prompt
from prepserver.gateway.fallback import Backend

__all__ = ["PrefillTasks"]


class PrefillTasks:
    """What is being read ahead now."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self, link: Backend[LanguageModel], prompt: Prompt) -> bool:
        """Read a prompt; False when there is no room for it, or nobody to keep it for.

        It ends early, as cancelled, when somebody needs its place or `stop` is called. Raises
        what the model raises, and CancelledError.
        """
        if not prompt.conversation:
            return False
        await self.stop(prompt.conversation)

        def evict() -> None:
            task.cancel()

        if link.state != "ready" or not link.admission.take_spare(evict):
            return False
        try:
            task = asyncio.create_task(link.engine.prefill(prompt))
            self._tasks[prompt.conversation] = task
            task.add_done_callback(lambda done: self._remove(prompt.conversation, done))
            await task
            return True
        finally:
            link.admission.leave_spare(evict)

    def _remove(self, conversation: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(conversation) is task:
            del self._tasks[conversation]

    async def stop(self, conversation: str) -> None:
        """End what is being read for a conversation: a newer prompt has made it pointless."""
        while (task := self._tasks.get(conversation)) is not None:
            task.cancel()
            await asyncio.wait({task})

    async def close(self) -> None:
        for conversation in list(self._tasks):
            await self.stop(conversation)
