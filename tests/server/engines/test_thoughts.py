"""Removal of thoughts from streamed replies."""

import random
from collections.abc import AsyncGenerator

import pytest

from prepserver.engines.thoughts import ThoughtFilter, generate_reply, with_closed_thought
from prepserver.engines.types import ChatTurn, Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.support.loop import asynchronous

THOUGHT = "Okay, is 1 < 2? [So] they said <b>."
QUESTION = "Why did you choose an index on two columns?"
HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>"
MARKED = [
    "<think>{}</think>",
    "<think>\n{}\n</think>\n\n",
    "<THINK>{}</THINK>",
    "\n<Think>{}</think>\n",
    "<thinking>{}</thinking>",
    "<thought>{}</thought>",
    "<reasoning>{}</reasoning>",
    "<seed:think>{}</seed:think>",
    "<mm:think>{}</mm:think>",
    "[THINK]{}[/THINK]",
    "◁think▷{}◁/think▷",
    "<|START_THINKING|>{}<|END_THINKING|><|START_RESPONSE|>",
    "<|begin_of_thought|>{}<|end_of_thought|><|begin_of_solution|>",
    "<|inner_prefix|>{}<|inner_suffix|>",
    "<|channel>thought\n{}<channel|>",
    "<|open|>think<|sep|>{}<|close|>think<|sep|><|open|>response<|sep|>",
    HARMONY,
    HARMONY + "\n",
    "<|channel|>commentary<|message|>{}<|end|>" + HARMONY.format("More."),
    "analysisWe need to ask. {}assistantfinal",
    "Here are my reasoning steps:\n{}[BEGIN FINAL RESPONSE]",
    "Here is my thought process: {} Here is my response: ",
    "<think>{}</think><response>",
    '<think effort="low">{}</think>',
    "<think\n>{}</think>",
    "<think/>",
    "<thought_process>{}</thought_process><final_answer>",
    "<internal_monologue>{}</internal_monologue><output>",
    '<details type="reasoning" done="true"><summary>Thought for 3 s</summary>{}</details>',
    "<think>{}</think><answer>",
    "<think></think>\n<think>{}</think>",
    "<think>\n<think>{}</think>",
    "<think>a <think>{}</think> b</think>",
    "</think>\n\n",
    "",
]


def filtered(
    pieces: list[str],
    *,
    hold: bool | None = False,
    is_question: bool = False,
    truncated: bool = False,
) -> list[str]:
    """Return the text that a filter releases after each piece and at the end."""
    thoughts = ThoughtFilter(hold=hold, is_question=is_question)
    return [*map(thoughts.feed, pieces), thoughts.finish(truncated=truncated)]


def split(text: str, seed: int) -> list[str]:
    """Split a text into pieces of 1 to 7 characters; a single letter is never the first piece."""
    rng = random.Random(seed)
    pieces: list[str] = []
    while text:
        length = rng.randint(2 if not pieces and text[0].isalpha() else 1, 7)
        pieces.append(text[:length])
        text = text[length:]
    return pieces


@pytest.mark.parametrize("marked", MARKED)
@pytest.mark.parametrize("hold", [False, None, True])
def test_a_marked_thought_is_removed(marked: str, hold: bool | None) -> None:
    """A thought between any known marks is removed, wherever the reply is split into pieces."""
    reply = marked.format(THOUGHT) + QUESTION
    assert "".join(filtered([reply], hold=hold)).lstrip() == QUESTION
    for seed in range(20):
        assert "".join(filtered(split(reply, seed), hold=hold)).lstrip() == QUESTION


def test_a_thought_in_the_middle_is_removed() -> None:
    """A thought within a reply is removed, with the white space on one of its sides."""
    assert "".join(filtered(["Thanks. <think>a?</think>\nWhy?"])) == "Thanks. Why?"
    assert "".join(filtered(["Thanks.<think>a?</think> Why?<think>b"])) == "Thanks. Why?"


@pytest.mark.parametrize("hold", [False, None, True])
@pytest.mark.parametrize("reply", ["<think>" + THOUGHT, "[THINK]" + THOUGHT + "[/THI"])
def test_an_unclosed_thought_is_removed(reply: str, hold: bool | None) -> None:
    """A thought that the reply does not end is removed."""
    assert "".join(filtered([reply], hold=hold)) == ""


def test_a_thought_may_mention_its_own_mark() -> None:
    """If a thought mentions its opening mark, the reply follows the last closing mark."""
    reply = "<think>They wrote <think> there.</think>" + QUESTION
    assert "".join(filtered([reply])) == QUESTION
    assert "".join(filtered([reply], truncated=True)) == ""


def test_text_that_begins_no_mark_is_released_at_once() -> None:
    """A piece of text is released at once, except for an end that may be the beginning of a
    mark."""
    pieces = ["Is", " a", " <", "b> or <th", "e> [", "x] ", "a<", "thin", "g> one?"]
    released = filtered(pieces)
    assert released == ["Is", " a", " ", "<b> or ", "<the> ", "[x] ", "a", "", "<thing> one?", ""]


def test_text_at_the_end_is_released_even_if_it_begins_a_mark() -> None:
    """The end of a reply is released even if it could be the beginning of a mark."""
    assert "".join(filtered(["Is 1 <"])) == "Is 1 <"


def test_a_reply_may_begin_inside_a_thought() -> None:
    """If the opening mark is part of the prompt, text that is kept back is removed when the closing
    mark arrives, and the text after it is released at once."""
    pieces = ["Okay, is 1", " < 2? </thi", "nk>\n\n", "Why", " so?"]
    for hold in (True, None):
        assert filtered(pieces, hold=hold) == ["", "", "", "Why", " so?", ""]


def test_an_unmarked_thought_that_was_released_is_an_error() -> None:
    """If released text turns out to be a thought, the reply fails with a retryable error."""
    thoughts = ThoughtFilter()
    assert thoughts.feed("Okay, is 1 < 2?") == "Okay, is 1 < 2?"
    with pytest.raises(InferenceError) as caught:
        thoughts.feed("</think>Why?")
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.BAD_REPLY, True)
    assert thoughts.unopened


def test_a_reply_that_is_kept_back_is_released_at_its_end() -> None:
    """Text that is kept back is released at the end of a reply, unless the reply was cut off."""
    assert filtered(["Let's", " begin."], hold=None) == ["", "", "Let's begin."]
    assert filtered(["Let's", " begin."], hold=True, truncated=True) == ["", "", ""]


@pytest.mark.parametrize(
    "words", [["Hello", " there"], ["I", "'d ask"], ["Great", "."], ["W", "hy"]]
)
def test_only_a_reply_that_may_be_a_thought_is_kept_back(words: list[str]) -> None:
    """If the first words are not typical of a thought, they are released without delay."""
    released = filtered(words, hold=None)
    assert "".join(released) == "".join(words)
    assert "".join(released[:-1]) == "".join(words)


def test_a_question_is_complete_only_when_no_thought_has_ended() -> None:
    """If it is unknown whether a question begins inside a thought, it is kept back from its first
    question mark, so that a question within a thought is not taken for the reply."""
    pieces = ["Fine, is", " it? Or", " not?"]
    for truncated in (False, True):
        released = filtered(pieces, hold=None, is_question=True, truncated=truncated)
        assert released == ["Fine, is", " it", "", "? Or not?"]
    assert filtered(pieces, hold=None) == [*pieces, ""]
    thoughts = ThoughtFilter(hold=None, is_question=True)
    assert "?" not in "".join(map(thoughts.feed, pieces))
    with pytest.raises(InferenceError):
        thoughts.feed("</think>Why?")


@pytest.mark.parametrize(
    ("prompt", "added"),
    [
        ("<assistant>", ""),
        ("<assistant><think>\n", "\n</think>\n\n"),
        ("<assistant>[THINK]", "[/THINK]"),
        ("<|CHATBOT_TOKEN|><|START_THINKING|>", "<|END_THINKING|>"),
        ("<think>\n\n</think>\n\n", ""),
    ],
)
def test_the_thought_that_a_prompt_opens_is_closed(prompt: str, added: str) -> None:
    """A prompt that ends inside a thought is extended to the end of the thought."""
    assert with_closed_thought(prompt, empty_thought=False) == prompt + added


# --- Second attempts ----------------------------------------------------------------------------


CHAT = Prompt(turns=(ChatTurn("user", "Ask."),))


async def replies(prompt: Prompt, *texts: str) -> tuple[str, Usage, list[bool]]:
    """Return the reply to a prompt, its usage, and `skip_thought` of each attempt. The attempts
    yield the given texts, and an empty text is a thought."""
    attempts: list[bool] = []

    async def ask(prompt: Prompt) -> AsyncGenerator[TextDelta | Usage, None]:
        text = texts[len(attempts)]
        attempts.append(prompt.skip_thought)
        yield TextDelta(text)
        yield Usage(prompt_tokens=3, completion_tokens=2, seconds=1.0, thought=not text.strip())

    shown, usages = "", []
    async for event in generate_reply(ask, prompt):
        if isinstance(event, Usage):
            usages.append(event)
        else:
            shown += event.text
    (usage,) = usages
    return shown, usage, attempts


@asynchronous
async def test_a_reply_that_is_only_a_thought_is_asked_for_once_more() -> None:
    """After a reply that is only a thought, the model is asked once more, without a thought, and
    the usage covers both replies."""
    shown, usage, attempts = await replies(CHAT, "", "Why?")
    assert (shown, attempts) == ("Why?", [False, True])
    assert (usage.prompt_tokens, usage.completion_tokens, usage.seconds) == (6, 4, 2.0)


@asynchronous
async def test_a_second_reply_that_is_only_a_thought_is_empty() -> None:
    """If the second reply is only a thought, too, the reply is empty."""
    shown, _, attempts = await replies(CHAT, " ", "\n")
    assert (shown.strip(), attempts) == ("", [False, True])


@asynchronous
async def test_other_replies_are_asked_for_once() -> None:
    """A reply with text and a reply to a plain text are not asked for again."""
    assert (await replies(CHAT, "Why?"))[2] == [False]
    assert (await replies(Prompt(text="Ask:"), ""))[2] == [False]
