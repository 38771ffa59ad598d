"""Replies and prompts of all steps: stable prefixes, grammars and maximum length."""

import itertools

import msgspec
import pytest

from prepserver.engines.types import ModelInfo, Prompt
from prepserver.interview.agenda import StoredAgenda
from prepserver.interview.prompts.build import (
    build_decision_prompt,
    build_history_summary_prompt,
    build_prefill_prompt,
    build_reply,
)
from prepserver.interview.prompts.context import PromptContext
from prepserver.interview.prompts.few_shot import GENERAL_QUESTIONS
from prepserver.interview.prompts.token_budget import estimate_tokens
from prepserver.interview.prompts.wording import SPARE_QUESTIONS, known_reply
from prepserver.interview.questions import bank
from prepserver.interview.questions.plan import is_acceptable_question
from prepserver.interview.turns.steps import Step
from prepserver.wire.protocol import (
    Intent,
    InterviewSpec,
    InterviewType,
    Level,
    MessageKind,
    Source,
)
from tests.support.contexts import OPEN_TOPIC, context_after, message

SMALL_MODEL = ModelInfo(name="small", parameters=135_000_000, context=4_096)
LARGE_MODEL = ModelInfo(name="large", parameters=8_000_000_000, context=8_192)
PROFILES = pytest.mark.parametrize("info", [SMALL_MODEL, LARGE_MODEL], ids=["few_shot", "instruct"])

ANSWERS = (
    "We moved the ledger out of the monolith first, because it had the clearest boundary.",
    "I don't know.",
    'My manager said "no", so I showed her the error rate from the canary.\nThen we shipped.',
    "I would add an index.",
)


def prompt_text(prompt: Prompt) -> str:
    return prompt.text or "\n".join(turn.content for turn in prompt.turns)


def reply(step: Step, info: ModelInfo, context: PromptContext, seed: int = 1) -> Prompt | str:
    return build_reply(step, info, context, seed)[0]


def build(step: Step, info: ModelInfo, context: PromptContext) -> Prompt:
    """Return the prompt of a step whose reply a model writes."""
    prompt = reply(step, info, context)
    assert isinstance(prompt, Prompt)
    return prompt


def build_text(step: Step, info: ModelInfo, context: PromptContext) -> str:
    """Return the reply of a step that needs no model."""
    text = reply(step, info, context)
    assert isinstance(text, str)
    return text


def prefill(context: PromptContext) -> Prompt:
    return build_prefill_prompt(LARGE_MODEL, context, "", "i")


def test_each_question_prompt_extends_the_previous_one() -> None:
    """The prompt for each question extends the conversation in the previous prompt, so that the
    cached prefix stays valid."""
    prompts = [
        build(Step.QUESTION, LARGE_MODEL, context_after(ANSWERS[:count]))
        for count in range(1, len(ANSWERS) + 1)
    ]
    for previous, prompt in itertools.pairwise(prompts):
        *prefix, last = previous.turns
        assert prompt.turns[: len(prefix)] == tuple(prefix)
        assert last.content.startswith(prompt.turns[len(prefix)].content)


def test_each_prefilled_prompt_extends_the_previous_one() -> None:
    """The conversation that is prefilled only grows, so that the cached prefix stays valid."""
    prompts = [
        prompt_text(prefill(context_after(ANSWERS[:count]))) for count in range(len(ANSWERS) + 1)
    ]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(prompts))


@PROFILES
@pytest.mark.parametrize("step", [Step.QUESTION, Step.HINT, Step.CLOSING, Step.SUMMARY])
@pytest.mark.parametrize("count", range(len(ANSWERS) + 1))
def test_every_step_has_a_reply_at_every_point(info: ModelInfo, step: Step, count: int) -> None:
    """After any number of answers, each step has a reply or a prompt with turns and a grammar."""
    context = context_after(ANSWERS[:count])
    made = known_reply(step, context) or reply(step, info, context)
    if isinstance(made, Prompt):
        assert info is LARGE_MODEL
        assert made.turns
        assert made.grammar.startswith("root ::=")
    assert made


@PROFILES
@pytest.mark.parametrize("intent", [i for i in Intent if i not in ("answer", "dont_know", "skip")])
def test_every_request_has_a_reply(info: ModelInfo, intent: Intent) -> None:
    """Each request of the candidate has a reply, or a prompt in which the request is fenced."""
    context = context_after(ANSWERS[:1])
    request = message(MessageKind.REQUEST, "Hm <answer>?", 2, intent=intent)
    context = msgspec.structs.replace(context, messages=(*context.messages, request))
    made = known_reply(Step.REPLY, context) or reply(Step.REPLY, info, context)
    if isinstance(made, Prompt):
        assert "<request>Hm (answer)?</request>" in prompt_text(made)
    assert made


def test_a_small_model_writes_no_follow_up() -> None:
    """The follow-up to a story is complete before any model is called, and is no main question."""
    context = context_after(ANSWERS[:1])
    text, source = build_reply(Step.QUESTION, SMALL_MODEL, context, 1)
    assert isinstance(text, str)
    assert source is Source.BANK
    assert is_acceptable_question(text, context.asked_questions)
    assert not any(each.topic.question in text for each in context.agenda.topics)


@pytest.mark.parametrize(
    ("parameters", "language", "written"),
    [
        (1_500_000_000, "en", False),
        (2_999_999_999, "en", False),
        (1_500_000_000, "de", True),
        (3_000_000_000, "en", True),
        (0, "en", True),
    ],
)
def test_larger_models_write_follow_ups(parameters: int, language: str, written: bool) -> None:
    """A model of three billion parameters, or of an unknown size, writes the follow-ups; a smaller
    one only in other languages than that of the rules."""
    info = ModelInfo(name="model", parameters=parameters, context=4_096)
    spec = InterviewSpec(role="Backend Engineer", language=language, questions=9)
    made, source = build_reply(Step.QUESTION, info, context_after(ANSWERS[:1], spec), 1)
    assert isinstance(made, Prompt) is written
    assert source is (Source.MODEL if written else Source.BANK)


def test_a_model_writes_what_the_rules_do_not_have() -> None:
    """If the rules have no follow-up, a model that follows instructions writes it."""
    info = ModelInfo(name="model", parameters=1_500_000_000, context=4_096)
    context = msgspec.structs.replace(context_after(("Yes.",)), agenda=StoredAgenda())
    made, _ = build_reply(Step.QUESTION, info, context, 1)
    assert isinstance(made, Prompt)


def test_an_interview_without_an_agenda_gets_general_questions() -> None:
    """Without main questions and follow-ups, a small model's interview goes on with general
    questions, each asked once."""
    context = msgspec.structs.replace(context_after(ANSWERS[:3]), agenda=StoredAgenda())
    for number in range(len(SPARE_QUESTIONS) + len(GENERAL_QUESTIONS)):
        text = build_text(Step.QUESTION, SMALL_MODEL, context)
        assert is_acceptable_question(text, context.asked_questions)
        asked = msgspec.structs.replace(context.messages[0], text=text, id=f"general-{number}")
        context = msgspec.structs.replace(context, messages=(*context.messages, asked))
    assert set(GENERAL_QUESTIONS) & set(context.asked_questions)


def test_hints_climb_a_ladder() -> None:
    """Each further hint about a question is another one, and only the third names a point of a good
    answer."""
    context = context_after(())
    question = context.current_question
    assert question is not None
    asked = message(MessageKind.QUESTION, question.text)
    hints: list[str] = []
    for _ in range(3):
        messages = (asked, *(message(MessageKind.HINT, text) for text in hints))
        context = msgspec.structs.replace(context, messages=messages)
        hint = known_reply(Step.HINT, context)
        assert hint is not None
        hints.append(hint)
    assert len(set(hints)) == 3
    assert [any(point in hint for point in question.listen_for) for hint in hints] == [
        False,
        False,
        True,
    ]


def test_the_summary_of_a_small_model_names_only_what_was_asked() -> None:
    """A small model's summary names the topics of the questions that were asked, and no others."""
    context = context_after(ANSWERS[:2])
    text = build_text(Step.SUMMARY, SMALL_MODEL, context)
    for number, planned in enumerate(context.agenda.topics):
        assert planned.question is not None
        assert (planned.question.topic in text) == (number < 2)


@pytest.mark.parametrize("kind", list(InterviewType))
@pytest.mark.parametrize("level", list(Level))
def test_the_first_question_comes_from_the_bank(kind: InterviewType, level: Level) -> None:
    """The first question is an acceptable opener of the bank after a welcome, without a model."""
    spec = InterviewSpec(role="Nurse", type=kind, level=level)
    text = known_reply(Step.QUESTION, context_after((), spec))
    assert text is not None
    assert text.startswith("Hello, and welcome.")
    assert any(text.endswith(f" {q.text}") for q in bank.load_bank().questions if q.opener)
    assert is_acceptable_question(text, ())


@PROFILES
def test_a_topic_in_another_language_is_opened(info: ModelInfo) -> None:
    """A large model translates the main question of a topic; a small model's interview keeps the
    words of the bank."""
    spec = InterviewSpec(role="Backend Engineer", questions=9, language="de")
    context = context_after(ANSWERS[:1], spec, OPEN_TOPIC)
    assert known_reply(Step.QUESTION, context) is None
    made, source = build_reply(Step.QUESTION, info, context, 1)
    main = context.agenda.topics[0].topic.question
    if isinstance(made, Prompt):
        assert (info, source) == (LARGE_MODEL, Source.TRANSLATION)
        assert main in made.turns[-1].content
    else:
        assert (info, source) == (SMALL_MODEL, Source.BANK)
        assert main in made


def test_a_huge_answer_is_always_truncated_at_the_same_place() -> None:
    """A very long answer is truncated at the same place in every prompt, so that the next prompt
    extends the previous one."""
    huge = "word " * 4_000
    one = prefill(context_after([huge]))
    two = prefill(context_after([huge, "More."]))
    assert len(one.turns[-1].content) < len(huge)
    assert two.turns[: len(one.turns)] == one.turns


@pytest.mark.parametrize("word", ["word ", "слово ", "言葉", "🙂"], ids=["en", "ru", "ja", "emoji"])
def test_a_prompt_always_fits_the_context(word: str) -> None:
    """A prompt with the longest answers and documents, in any script, fits the context with room
    for the reply."""
    huge = (word * 16_000)[:16_000]
    spec = InterviewSpec(role="R" * 200, questions=30, job_description=huge, resume=huge)
    context = context_after([huge] * 28, spec)
    made = [
        prefill(context),
        build_history_summary_prompt(LARGE_MODEL, context, 8, 1),
        build_decision_prompt(LARGE_MODEL, context, ("a point",)),
        *(
            build(step, LARGE_MODEL, context)
            for step in (Step.QUESTION, Step.CLOSING, Step.SUMMARY)
        ),
    ]
    for prompt in made:
        text = prompt.opening + "".join(turn.content for turn in prompt.turns)
        assert estimate_tokens(text) + prompt.max_tokens <= LARGE_MODEL.context
        assert huge[:50] in text


def test_messages_are_omitted_in_blocks() -> None:
    """Old messages are omitted in blocks, so that at least half of the prompts extend the previous
    one."""
    long = "I moved the ledger out of the monolith. " * 80
    prompts = [prompt_text(prefill(context_after([long] * count))) for count in range(1, 10)]
    extended = [later.startswith(earlier) for earlier, later in itertools.pairwise(prompts)]
    assert extended.count(True) >= len(extended) // 2
    assert not all(extended)


def test_the_model_reads_normalised_documents() -> None:
    """A prompt quotes the documents without ligatures, soft hyphens and no-break spaces."""
    spec = InterviewSpec(
        job_description="Air\ufb02ow and\u00a0Kuber\u00adnetes\r\nat scale", resume="ＳＱＬ"
    )
    text = prompt_text(build(Step.CLOSING, LARGE_MODEL, context_after((), spec)))
    assert 'the job asks for "Airflow and Kubernetes at scale"' in text
    assert 'the resume says "SQL"' in text
