"""Looking at the server from inside while it is simulated."""

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
from tests.simulation.life import LIFE

__all__ = ["watched"]

_HOOKS = ("on_start", "on_connect", "on_message", "on_close", "on_event", "on_alarm")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Every event of an object is noticed, and so is every error that is logged."""
    with contextlib.ExitStack() as patches:
        born = DurableObject.__init__

        def __init__(instance: DurableObject, context: Context) -> None:
            born(instance, context)
            if (life := LIFE.get()) is not None:
                life.born(instance)

        patches.enter_context(patch.object(DurableObject, "__init__", __init__))
        patches.enter_context(patch.object(Gateway, "generate", _announced(Gateway.generate)))
        for kind in (InterviewObject, UserInterviews):
            for hook in _HOOKS:
                patches.enter_context(patch.object(kind, hook, _noticed(getattr(kind, hook))))
        processors = structlog.get_config()["processors"]
        usual = list(processors)
        processors[:] = [_listen]
        patches.callback(processors.__setitem__, slice(None), usual)
        yield


def _announced(generate: Callable[..., Any]) -> Callable[..., Any]:
    """The opening of a reply is shown before its turn at the model has come."""

    def announce(gateway: Gateway, call: Call, prompt: Prompt, *others: Any, **more: Any) -> Any:
        if (life := LIFE.get()) is not None:
            life.director.begin(prompt)
        return generate(gateway, call, prompt, *others, **more)

    return announce


def _noticed(hook: Callable[..., None]) -> Callable[..., None]:
    def handler(instance: DurableObject, *arguments: Any) -> None:
        if (life := LIFE.get()) is not None:
            life.served_by(instance)
        hook(instance, *arguments)

    return handler


def _listen(logger: object, method: str, event: Any) -> Any:
    life = LIFE.get()
    if method in ("error", "critical", "exception") and life is not None and not life.over:
        cause = event.get("exc_info")
        life.complaints.append(f"the log says {event['event']} {event!r} {cause!r}")
    raise structlog.DropEvent
