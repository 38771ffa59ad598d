"""Prompts with the longest inputs in every size of context, and estimates beside a tokenizer."""

import itertools
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from prepserver.engines.types import ModelInfo, Prompt
from prepserver.interview.dialogue.decision import Move, MoveKind
from prepserver.interview.prompts.build import (
    BLOCK,
    build_decision_prompt,
    build_history_summary_prompt,
    build_prefill_prompt,
    build_reply,
    count_outgrown_messages,
)
from prepserver.interview.prompts.context import HistorySummary, PromptContext
from prepserver.interview.prompts.token_budget import estimate_tokens, estimate_turns, truncate
from prepserver.interview.questions.bank import load_bank
from prepserver.interview.turns.steps import Step
from prepserver.wire.agenda import SkillEvidence, Where
from prepserver.wire.limits import MAX_ANSWER, MAX_COMPANY, MAX_QUESTION, MAX_ROLE
from prepserver.wire.protocol import Intent, InterviewSpec, MessageKind
from tests.server.engines.llama.running import STARTER
from tests.support.contexts import OPEN_TOPIC, context_after, message

BANK = load_bank()

SCRIPTS = {
    "en": "word ",
    "digits": "1234567890",
    "marks": "!?#$ ",
    "lines": "\n\n \t",
    "de": "Größe ",
    "ru": "слово ",
    "ja": "言葉",
    "hi": "शब्द ",
    "emoji": "🙂",
}
"""Pieces of text in several scripts."""

TEXTS = {
    "prose": "I moved the ledger out of the monolith, since it had the clearest boundary. " * 20,
    "figures": "p99 fell from 1,250 ms to 87.5 ms; on 2024-03-11 we served 48,300 req/s. " * 20,
    "code": 'for i in range(10):\n    if x[i] != None: y += f(x[i], "a", {"k": 1})\n' * 20,
    "letters": "a b c I X y z " * 80,
} | {name: piece * 300 for name, piece in SCRIPTS.items()}

MOVES = (
    Move(MoveKind.PROBE, "how it turned out"),
    Move(MoveKind.CONCRETE),
    Move(MoveKind.DEEPER),
    Move(MoveKind.EASIER),
    OPEN_TOPIC,
)


def model(context: int) -> ModelInfo:
    return ModelInfo(name="large", parameters=8_000_000_000, context=context)


def longest_context(piece: str, language: str, exchanges: int) -> PromptContext:
    """Return the context of an interview in which every text has the maximum length."""

    def fill(length: int) -> str:
        return (piece * length)[:length]

    spec = InterviewSpec(
        role=fill(MAX_ROLE), company=fill(MAX_COMPANY), questions=20, language=language
    )
    context = context_after([fill(MAX_ANSWER)] * 7, spec)
    skill = SkillEvidence(name="x", spelling=fill(80), quote=fill(2_000), where=Where.BOTH)
    topics = tuple(
        msgspec.structs.replace(
            each, topic=msgspec.structs.replace(each.topic, question=fill(MAX_QUESTION))
        )
        for each in context.agenda.topics
    )
    messages = itertools.islice(itertools.cycle(context.messages), 2 * exchanges)
    return msgspec.structs.replace(
        context,
        messages=tuple(messages),
        agenda=msgspec.structs.replace(context.agenda, topics=topics, skills=(skill,) * 12),
    )


def all_prompts(info: ModelInfo, context: PromptContext) -> list[Prompt]:
    """Return the prompts of all steps after the last answer of the context."""
    replies = [build_reply(step, info, context, 1)[0] for step in (Step.CLOSING, Step.SUMMARY)]
    for move in MOVES:
        moved = msgspec.structs.replace(context, next_move=move)
        replies.append(build_reply(Step.QUESTION, info, moved, 1)[0])
    for intent in (Intent.QUESTION, Intent.REPHRASE):
        request = message(MessageKind.REQUEST, context.messages[-1].text, 99, intent=intent)
        asked = msgspec.structs.replace(context, messages=(*context.messages, request))
        replies.append(build_reply(Step.REPLY, info, asked, 1)[0])
    return [
        build_prefill_prompt(info, context, context.messages[-1].text, "i"),
        build_decision_prompt(info, context, ("a point",)),
        build_history_summary_prompt(info, context, len(context.messages), 1),
        *(reply for reply in replies if isinstance(reply, Prompt)),
    ]


def estimate(prompt: Prompt) -> int:
    return estimate_turns(prompt.turns) + estimate_tokens(prompt.opening) + prompt.max_tokens


@pytest.mark.parametrize("size", [2_048, 3_000, 4_096, 8_192])
@pytest.mark.parametrize("name", list(SCRIPTS))
def test_the_longest_prompts_fit(size: int, name: str) -> None:
    """In each size of context, the prompt of each step and the longest reply fit, although every
    text of the interview has the maximum length."""
    history = HistorySummary(text=SCRIPTS[name] * 1_000)
    for language, exchanges in (("en", 1), ("ja", 2), ("pt", 20)):
        context = longest_context(SCRIPTS[name], language, exchanges)
        for each in (context, msgspec.structs.replace(context, history_summary=history)):
            prompts = all_prompts(model(size), each)
            assert len(prompts) >= 9
            for prompt in prompts:
                assert estimate(prompt) <= size, prompt.purpose


def test_the_opening_in_another_language_fits() -> None:
    """The prompt that translates the first question fits, and a question that is too long for the
    smallest context is asked as it stands."""
    context = longest_context("Größe ", "de", 0)
    context = msgspec.structs.replace(context, next_move=OPEN_TOPIC)
    question, _ = build_reply(Step.QUESTION, model(8_192), context, 1)
    assert isinstance(question, Prompt)
    assert estimate(question) <= 8_192
    question, _ = build_reply(Step.QUESTION, model(2_048), context, 1)
    assert isinstance(question, str)
    assert question.endswith(("Größe " * MAX_QUESTION)[:MAX_QUESTION])


@pytest.mark.parametrize("size", [512, 1_024, 2_047])
def test_a_small_context_needs_no_prompt(size: int) -> None:
    """A model whose context has no room for instructions writes nothing: rules make all replies."""
    context = longest_context("word ", "en", 3)
    for step in (Step.QUESTION, Step.CLOSING, Step.SUMMARY):
        assert isinstance(build_reply(step, model(size), context, 1)[0], str)


def test_every_question_of_the_bank_can_be_translated() -> None:
    """The smallest context with instructions has room to translate each question of the bank."""
    assert all(estimate_tokens(question.text) <= 2_048 // 16 for question in BANK.questions)


@pytest.mark.parametrize("size", [2_048, 4_096])
def test_few_turns_change_the_beginning(size: int) -> None:
    """While an interview grows, old messages are omitted in blocks, alike for each step."""
    text = "I moved the ledger out of the monolith. " * 6
    context, omitted = longest_context(text, "en", 20), []
    for count in range(1, 41):
        part = msgspec.structs.replace(context, messages=context.messages[:count])
        omitted.append(count_outgrown_messages(model(size), part))
    assert omitted == sorted(omitted)
    assert all(each % BLOCK == 0 or each == count for count, each in enumerate(omitted))
    starts = {prompt.turns[1:3] for prompt in all_prompts(model(size), context)[:2]}
    assert len(starts) <= 2


def test_the_end_of_a_long_history_summary_is_kept() -> None:
    """A prompt contains only the end of a history summary that is longer than its share."""
    context = longest_context("word ", "en", 2)
    history = HistorySummary(text=f"They began. {'They went on. ' * 500}They ended.")
    context = msgspec.structs.replace(context, history_summary=history)
    turns = build_prefill_prompt(model(2_048), context, "", "i").turns
    assert turns[1].content.startswith("So far: ")
    assert turns[1].content.endswith("They ended.")
    assert "They began." not in turns[1].content


@pytest.mark.parametrize("tokens", [0, 1, 7, 100])
@pytest.mark.parametrize("name", list(TEXTS))
def test_a_truncated_text_is_the_longest_that_fits(name: str, tokens: int) -> None:
    """A truncated text is a beginning of the text that fits, and one more character does not."""
    text = TEXTS[name]
    cut = truncate(text, tokens)
    assert text.startswith(cut)
    assert estimate_tokens(cut) <= tokens < estimate_tokens(text[: len(cut) + 1])
    assert truncate(cut, tokens) == cut


COUNT_TOKENS = """
import sys
import msgspec
from prepserver.engines.llama.native import LlamaContext
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.llama.tokenizer import PromptTokenizer
from prepserver.engines.types import Prompt

native = LlamaContext(LlamaOptions(path=sys.argv[1], n_ctx=512))
tokenizer = PromptTokenizer(native)
texts, prompts = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[list[str], list[Prompt]])
counts = [len(native.tokenize(text, parse_control=False)) for text in texts]
counts += [len(tokenizer.tokenize(prompt)) for prompt in prompts]
print(msgspec.json.encode(counts).decode())
"""
"""Program that prints the number of tokens of each text and of each prompt."""


def count_tokens(model: Path, texts: list[str], prompts: list[Prompt]) -> list[int]:
    # A process may load either of the two native engines, not both.
    done = subprocess.run(
        [sys.executable, "-c", COUNT_TOKENS, str(model)],
        input=msgspec.json.encode((texts, prompts)),
        capture_output=True,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=list[int])


@pytest.mark.models
def test_the_estimate_is_not_too_low(models_dir: Path) -> None:
    """The starter's tokenizer finds no more tokens than estimated, in single texts of any script
    and in whole prompts with the chat template."""
    texts = list(TEXTS.values())
    prompts = [
        prompt
        for piece in SCRIPTS.values()
        for prompt in all_prompts(model(4_096), longest_context(piece, "pt", 3))
    ]
    counts = count_tokens(models_dir / STARTER, texts, prompts)
    for text, count in zip(texts, counts, strict=False):
        assert count <= estimate_tokens(text), text
    for prompt, count in zip(prompts, counts[len(texts) :], strict=True):
        assert count + prompt.max_tokens <= estimate(prompt)
