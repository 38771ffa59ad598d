"""Speculative prefills: at most one per conversation, run only on idle model slots."""

import asyncio

from prepserver.engines.types import LanguageModel, Prompt
from prepserver.gateway.fallback import Backend

__all__ = ["PrefillTasks"]


class PrefillTasks:
    """Prefills in progress, by conversation."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run_prefill(self, backend: Backend[LanguageModel], prompt: Prompt) -> bool:
        """Prefill a prompt. Return True once the prefill is complete, or False if it cannot start.

        A prefill cannot start if the model is not ready, no slot is idle, or the prompt belongs to
        no conversation. The conversation's earlier prefill is cancelled. Raises CancelledError if
        the prefill is preempted by a call or stopped by `cancel_prefill`. Errors of the model are
        passed on.
        """
        if not prompt.conversation:
            return False
        await self.cancel_prefill(prompt.conversation)

        def preempt() -> None:
            task.cancel()

        if backend.state != "ready" or not backend.admission.try_acquire_idle_slot(preempt):
            return False
        try:
            task = asyncio.create_task(backend.engine.prefill(prompt))
            self._tasks[prompt.conversation] = task
            task.add_done_callback(lambda done: self._remove(prompt.conversation, done))
            await task
            return True
        finally:
            backend.admission.release_idle_slot(preempt)

    def _remove(self, conversation: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(conversation) is task:
            del self._tasks[conversation]

    async def cancel_prefill(self, conversation: str) -> None:
        """Cancel the conversation's prefill, if there is one, and wait until it has ended."""
        while (task := self._tasks.get(conversation)) is not None:
            task.cancel()
            await asyncio.wait({task})

    async def close(self) -> None:
        """Cancel all prefills and wait until they have ended."""
        for conversation in list(self._tasks):
            await self.cancel_prefill(conversation)
