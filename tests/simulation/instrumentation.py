"""Patches that observe the simulated server from inside."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import structlog

from prepserver.engines.types import Prompt
from prepserver.gateway.gateway import Call, Gateway
from prepserver.interview.interview import InterviewObject
from prepserver.interview.user_interviews import UserInterviews
from prepserver.objects.object import Context, DurableObject
from tests.simulation.server import CURRENT_SERVER

__all__ = ["instrumented"]

_HOOKS = ("on_start", "on_connect", "on_message", "on_close", "on_event", "on_alarm")


@contextlib.contextmanager
def instrumented() -> Iterator[None]:
    """Patch the server so that each logged error, and each event that a replaced instance handles,
    is recorded as a violation."""
    with contextlib.ExitStack() as patches:
        original = DurableObject.__init__

        def __init__(instance: DurableObject, context: Context) -> None:
            original(instance, context)
            if (server := CURRENT_SERVER.get()) is not None:
                server.register_instance(instance)

        patches.enter_context(patch.object(DurableObject, "__init__", __init__))
        patches.enter_context(patch.object(Gateway, "generate", _with_opening(Gateway.generate)))
        for kind in (InterviewObject, UserInterviews):
            for hook in _HOOKS:
                patches.enter_context(patch.object(kind, hook, _checked(getattr(kind, hook))))
        processors = structlog.get_config()["processors"]
        usual = list(processors)
        processors[:] = [_record_logged_error]
        patches.callback(processors.__setitem__, slice(None), usual)
        yield


def _with_opening(generate: Callable[..., Any]) -> Callable[..., Any]:
    """Return a wrapper of `generate` that first records the reply's opening, which clients see
    before admission."""

    def record_and_generate(
        gateway: Gateway, call: Call, prompt: Prompt, *arguments: Any, **options: Any
    ) -> Any:
        if (server := CURRENT_SERVER.get()) is not None:
            server.controller.start_reply(prompt)
        return generate(gateway, call, prompt, *arguments, **options)

    return record_and_generate


def _checked(hook: Callable[..., None]) -> Callable[..., None]:
    def check_and_handle(instance: DurableObject, *arguments: Any) -> None:
        if (server := CURRENT_SERVER.get()) is not None:
            server.check_current_instance(instance)
        hook(instance, *arguments)

    return check_and_handle


def _record_logged_error(logger: object, method: str, event: Any) -> Any:
    server = CURRENT_SERVER.get()
    if method in ("error", "critical", "exception") and server is not None and not server.ended:
        cause = event.get("exc_info")
        server.errors.append(f"an error was logged: {event['event']} {event!r} {cause!r}")
    raise structlog.DropEvent
