"""Replies of small models to a request to put the open question in other words."""

import msgspec
import pytest

from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.few_shot import request_reply
from prepserver.interview.questions.bank import load_bank
from prepserver.wire.protocol import Intent, MessageKind
from tests.support.contexts import context_after, message

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
    reply, _ = request_reply(load_bank(), context, Intent.REPHRASE, 0)
    assert isinstance(reply, str)
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
