"""Interviews on small models, whose replies are made by rules."""

from pathlib import Path

import msgspec
import pytest

from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.few_shot import request_reply
from prepserver.wire import client_messages
from prepserver.wire import protocol as wire
from prepserver.wire.protocol import Intent, MessageKind
from tests.server.interview.conversation import answer, open_room
from tests.support.clock import ManualClock
from tests.support.contexts import context_after, message
from tests.support.loop import asynchronous
from tests.support.models import CuedLanguageModel, split_words
from tests.support.objects import eventually
from tests.support.rooms import Rooms

ANSWER = "I wrote the comparison myself, and a colleague ran it each night."


def rephrase_after(*asked: str) -> tuple[PromptContext, str]:
    """Return a context in which the follow-up questions `asked` were asked, and the open one in
    other words. `easier` and `vague` stand for these forms of the main question."""
    context = context_after([ANSWER])
    base = context.current_question
    assert base is not None
    messages = list(context.messages)
    for text in asked:
        text = {"easier": base.easier, "vague": base.vague}.get(text, text)
        place = len(messages)
        messages.append(message(MessageKind.QUESTION, text, place, "topic-0"))
        messages.append(message(MessageKind.ANSWER, ANSWER, place + 1, intent=Intent.ANSWER))
    context = msgspec.structs.replace(context, messages=tuple(messages[:-1]))
    reply, _ = request_reply(context, Intent.REPHRASE, 0)
    return context, reply


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ((), "easier"),
        (("So you compared both sides. Who else saw the result?",), "easier"),
        (("easier",), "vague"),
        (("easier", "How did it end?"), "vague"),
    ],
)
def test_other_words_are_a_form_of_the_main_question(asked: tuple[str, ...], form: str) -> None:
    """A question is put in other words by a form of the main question that was not asked yet."""
    context, reply = rephrase_after(*asked)
    assert context.current_question is not None
    assert getattr(context.current_question, form) in reply


def test_a_question_without_unused_forms_is_repeated() -> None:
    """If both forms were asked, the open question is asked again."""
    _, reply = rephrase_after("easier", "vague", "How did it end?")
    assert reply.endswith("How did it end?")


@asynchronous
async def test_a_small_model_computes_nothing(tmp_path: Path) -> None:
    """In an interview that outgrows the context of a small model, drafts and questions are not
    prefilled, the history is not summarised, and no reply is generated; all replies stream."""
    clock = ManualClock()
    model = CuedLanguageModel(clock, [split_words("They spoke.")], parameters=135_000_000)
    async with Rooms(tmp_path, clock=clock, language=model) as rooms:
        client = await open_room(rooms, questions=5)
        for number in range(5):
            text = f"For project {number} I wrote the service and measured it. " * 60
            await client.send(client_messages.UserTyping(draft=text[:400]))
            await client.send(answer(text))
            await client.wait_for_phase(wire.Phase.IDLE)
            await eventually(lambda: client.room_idle)
        replies = [m.message for m in client.messages if isinstance(m, wire.InterviewMessage)]
        streamed = [m.text for m in client.messages if isinstance(m, wire.Delta)]
    shown = [each.text for each in replies if each.kind is not MessageKind.ANSWER]
    assert all(text in whole for text, whole in zip(streamed, shown, strict=True))
    assert [each.kind for each in replies[-2:]] == [MessageKind.CLOSING, MessageKind.SUMMARY]
    assert not model.prefilled
    assert not model.prompts
