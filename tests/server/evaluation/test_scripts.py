"""The scripts of the evaluation, and the candidates and plans that are made from them."""

import re
from collections import Counter

import pytest

from prepserver.errors import BadRequest
from prepserver.evaluation.candidates import Candidate, Utterance
from prepserver.evaluation.plans import plan_injections, plan_interviews
from prepserver.evaluation.scripts import load_scripts
from prepserver.evaluation.words import fold_text
from prepserver.interview.dialogue.intents import classify_intent
from prepserver.interview.questions.bank import load_bank
from prepserver.wire.limits import MAX_ANSWER
from prepserver.wire.protocol import Intent, Message, MessageKind, Role, Source

SCRIPTS = load_scripts()
STYLES = {style.name: style for style in SCRIPTS.styles}
BACKEND = SCRIPTS.roles[0]


def ask(text: str, *, id: str = "q1", topic: str = "t1") -> Message:
    return Message(
        id=id,
        role=Role.INTERVIEWER,
        kind=MessageKind.QUESTION,
        text=text,
        source=Source.BANK,
        position=0,
        created_at=0.0,
        topic=topic,
    )


def answers(style: str, count: int = 4, seed: str = "s") -> list[Utterance]:
    """Return what a candidate says to `count` questions on different topics."""
    candidate = Candidate(SCRIPTS, STYLES[style], BACKEND, seed)
    question = "How did you make a slow query fast?"
    return [candidate.reply(ask(question, id=f"q{n}", topic=f"t{n}")) for n in range(count)]


def test_there_are_fifty_injections_in_all_places() -> None:
    """Fifty different injections stand in documents and answers, in at least six languages."""
    assert len({one.text for one in SCRIPTS.injections}) == 50
    places = Counter(one.place for one in SCRIPTS.injections)
    assert set(places) == {"resume", "job", "typed", "spoken"}
    assert min(places.values()) >= 10
    assert len({one.language for one in SCRIPTS.injections}) >= 6


def test_no_question_of_the_bank_holds_a_canary() -> None:
    """A canary in a message of the interviewer cannot come from the bank."""
    questions = " ".join(
        fold_text(text)
        for one in load_bank().questions
        for text in (one.text, one.easier, one.harder, one.vague)
    )
    canaries = {canary for one in SCRIPTS.injections for canary in one.canaries}
    pattern = r"(?<!\w){}(?!\w)"
    found = {c for c in canaries if re.search(pattern.format(re.escape(fold_text(c))), questions)}
    assert found == set()


def test_every_group_and_craft_of_a_role_exists() -> None:
    """The roles name only groups of stories that exist, and crafts that are families or have
    words."""
    groups = {story.group for story in SCRIPTS.stories}
    families = {family for one in load_bank().questions for family in one.families}
    for role in SCRIPTS.roles:
        assert set(role.stories) <= groups
        assert set(role.crafts) <= families.union(SCRIPTS.crafts)


@pytest.mark.parametrize("style", STYLES)
def test_a_candidate_says_the_same_with_the_same_seed(style: str) -> None:
    """The words of a candidate depend on the seed alone, and fit into one message."""
    said = answers(style)
    assert said == answers(style)
    assert all(0 < len(one.text) <= MAX_ANSWER for one in said)


@pytest.mark.parametrize("style", ["strong", "vague", "dont-know", "off-topic", "one-word"])
def test_a_candidate_does_not_repeat_the_same_words(style: str) -> None:
    """The first four answers of a candidate differ."""
    assert len({one.text for one in answers(style)}) == 4


@pytest.mark.parametrize(
    ("style", "intents"),
    [
        ("strong", {Intent.ANSWER}),
        ("dont-know", {Intent.DONT_KNOW}),
        ("off-topic", {Intent.OFF_TOPIC}),
        ("hostile", {Intent.HOSTILE}),
        ("asks-back", {Intent.QUESTION}),
        ("asks-for-help", {Intent.REPEAT, Intent.REPHRASE, Intent.PAUSE, Intent.SKIP}),
    ],
)
def test_a_candidate_means_what_the_style_says(style: str, intents: set[Intent]) -> None:
    """The expected intents are those of the style."""
    assert {one.intent for one in answers(style)} == intents


def test_a_strong_answer_fits_the_question() -> None:
    """The story of a strong candidate is the one about the question's subject."""
    (said,) = answers("strong", 1)
    assert "query plan" in said.text


@pytest.mark.parametrize(
    ("follow_up", "start"),
    [
        ("Why did you begin with the index?", "I started with the index"),
        ("What was your own part in it?", "I did the measurements"),
        ("How did it turn out?", "The median fell"),
        ("How did you check the effect of that?", "I recorded a thousand"),
        ("What would you do differently today?", "I would agree on a target"),
        ("What was the hardest bit?", "Writes to the address table"),
    ],
)
def test_a_strong_candidate_answers_what_a_follow_up_asks(follow_up: str, start: str) -> None:
    """Each kind of follow-up question gets the detail of the story that it asks for."""
    candidate = Candidate(SCRIPTS, STYLES["strong"], BACKEND, "s")
    candidate.reply(ask("How did you make a slow query fast?"))
    assert candidate.reply(ask(follow_up, id="q2")).text.startswith(start)


def test_every_request_of_a_candidate_is_recognised_by_rules() -> None:
    """The rules of the dialogue take each request for what the candidate means."""
    for style in SCRIPTS.styles:
        for request in style.requests:
            assert classify_intent(request.text) is request.intent, request.text


def test_a_request_is_made_once_per_question() -> None:
    """After the reply to a request, the candidate answers the open question."""
    candidate = Candidate(SCRIPTS, STYLES["asks-for-help"], BACKEND, "s")
    question = ask("How did you make a slow query fast?")
    assert candidate.reply(question).intent is not Intent.ANSWER
    assert candidate.reply(question).intent is Intent.ANSWER


def test_no_request_is_made_where_a_question_is_an_answer() -> None:
    """A candidate who asks back answers a question that invites questions."""
    candidate = Candidate(SCRIPTS, STYLES["asks-back"], BACKEND, "s")
    invited = ask("What would you like to ask us about the work?")
    assert candidate.reply(invited).intent is Intent.ANSWER


def test_every_candidate_gets_the_number_of_interviews() -> None:
    """Each candidate has as many interviews as asked for, and all roles and types occur."""
    planned = plan_interviews(SCRIPTS, 1, each=2)
    assert set(Counter(one.style.name for one in planned).values()) == {2}
    assert {one.role.name for one in planned} == {role.name for role in SCRIPTS.roles}
    assert len({one.name for one in planned}) == len(planned)
    assert planned == plan_interviews(SCRIPTS, 1, each=2)
    assert planned != plan_interviews(SCRIPTS, 2, each=2)


def test_a_plan_keeps_to_the_chosen_names() -> None:
    """Chosen candidates, roles and types restrict the plan."""
    planned = plan_interviews(
        SCRIPTS, 1, candidates=["vague"], roles=["Beekeeper"], types=["technical"], each=3
    )
    assert {(one.style.name, one.role.name, one.type) for one in planned} == {
        ("vague", "Beekeeper", "technical")
    }


@pytest.mark.parametrize(
    "chosen",
    [
        {"candidates": ["unknown"]},
        {"roles": ["Astronaut"]},
        {"types": ["sung"]},
        {"roles": ["Beekeeper"], "types": ["system-design"]},
        {"candidates": [""]},
    ],
)
def test_an_unknown_name_is_refused(chosen: dict[str, list[str]]) -> None:
    """An unknown name, or a selection without any interview, is an error that names the choice."""
    with pytest.raises(BadRequest, match="Choose"):
        plan_interviews(SCRIPTS, 1, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "count"), [(None, 50), (1, 4), (5, 20), (0, 0)])
def test_every_injection_occurs_once(limit: int | None, count: int) -> None:
    """The planned interviews hold each injection once, up to the limit of each place."""
    planned = plan_injections(SCRIPTS, 1, limit=limit)
    texts = [one.text for each in planned for one in each.injections]
    assert len(texts) == len(set(texts)) == count
