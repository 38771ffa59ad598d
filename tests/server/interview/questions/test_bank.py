"""The question bank: its data, rejection of invalid data, and selection of questions."""

import itertools
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from prepserver.interview.questions import bank as bank_module
from prepserver.interview.questions.bank import (
    Bank,
    Question,
    load_bank,
    parse_questions,
)
from prepserver.interview.questions.families import Families, parse_families
from prepserver.interview.questions.similarity import find_similar
from prepserver.interview.questions.skills import Vocabulary, parse_skills
from prepserver.wire.protocol import InterviewType, Level

BANK = load_bank()
TYPES = (InterviewType.BEHAVIOURAL, InterviewType.TECHNICAL, InterviewType.SYSTEM_DESIGN)
FAMILIES = tomllib.loads(
    (Path(bank_module.__file__).parent / "data" / "families.toml").read_text("utf-8")
)
SEEDS = range(25)
LONGEST = 30
"""Number of questions in the longest interview."""

every_type = pytest.mark.parametrize("type", TYPES, ids=str)
every_level = pytest.mark.parametrize("level", Level, ids=str)


def questions_of(type: InterviewType, level: Level) -> list[Question]:
    return [q for q in BANK.questions if q.type is type and level in q.levels]


# --- The data ---------------------------------------------------------------------------------


def test_there_are_enough_questions() -> None:
    """The bank has at least 600 questions, and at least 80 of each type."""
    assert len(BANK.questions) >= 600
    for type in TYPES:
        assert sum(question.type is type for question in BANK.questions) >= 80


@every_type
@every_level
def test_each_type_and_level_can_fill_an_interview(type: InterviewType, level: Level) -> None:
    """For each type and level, the bank has enough questions for the longest interview."""
    assert len(questions_of(type, level)) >= LONGEST


@every_type
@every_level
def test_each_type_and_level_has_openers(type: InterviewType, level: Level) -> None:
    """For each type and level, the bank has at least six openers for people who write software."""
    openers = [q for q in questions_of(type, level) if q.opener]
    assert sum(not {"any", "software"}.isdisjoint(q.families) for q in openers) >= 6


def test_each_family_has_questions_of_its_own() -> None:
    """Each family has, alone or with its parent, at least twelve questions and an opener, and three
    questions for each level."""
    for name, family in FAMILIES.items():
        names = {name, family.get("parent", name)}
        own = [q for q in BANK.questions if not names.isdisjoint(q.families)]
        assert len(own) >= 12, name
        assert any(q.opener for q in own), name
        for level in Level:
            assert sum(level in q.levels for q in own) >= 3, (name, level)


@pytest.mark.parametrize("field", ["easier", "harder", "vague"])
def test_other_forms_are_single_questions_of_their_own(field: str) -> None:
    """The easier form, the harder form and the request for something concrete are each one
    sentence that ends with a question mark; no two questions share one."""
    forms = Counter(getattr(question, field) for question in BANK.questions)
    assert [form for form, count in forms.items() if count > 1] == []
    for question in BANK.questions:
        form = getattr(question, field).replace(".NET", "NET").replace("Node.js", "Node")
        assert re.fullmatch(r"[A-Z][^?.!:;\n]*\?", form), question.id
        assert form != question.text


def test_each_skill_has_questions() -> None:
    """Each skill in the vocabulary has at least two questions."""
    counts = Counter(skill for question in BANK.questions for skill in question.skills)
    assert [skill for skill in BANK.skills if counts[skill] < 2] == []


def test_questions_are_single_sentences() -> None:
    """Each question is one sentence of 40 to 180 characters with one question mark at its end."""
    for question in BANK.questions:
        assert re.fullmatch(r"[A-Z][^?.!:;\n]*\?", question.text.replace(".NET", "NET"))
        assert 40 <= len(question.text) <= 180


def test_topics_differ() -> None:
    """No two questions have the same topic."""
    topics = Counter(question.topic.lower() for question in BANK.questions)
    assert [topic for topic, count in topics.items() if count > 1] == []


def test_topics_continue_a_sentence() -> None:
    """Each topic can follow "Let us talk about": only names are capitalised, and no punctuation
    ends the topic."""
    names = {"GraphQL", "Java's", "Python", "Python's", "R", "React", "SQL"}
    for question in BANK.questions:
        assert question.topic[0].islower() or question.topic.split()[0] in names
        assert not question.topic.endswith(tuple(".,:;!?"))


def test_what_to_listen_for_continues_a_sentence() -> None:
    """Each `listen_for` phrase can follow "Think about", and no question lists a phrase twice."""
    for question in BANK.questions:
        assert len(set(question.listen_for)) == len(question.listen_for)
        for phrase in question.listen_for:
            assert phrase[0].islower() or phrase.startswith("None ")


def test_no_two_questions_are_nearly_the_same() -> None:
    """Any two questions have fewer than half of their content words and of their shingles in
    common."""
    assert [(one.id, other.id) for one, other in find_similar(BANK.questions)] == []


# --- Broken data ------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "id": "proud-of",
    "text": "What is a piece of work that you are proud of today?",
    "topic": "work you are proud of",
    "levels": ["mid"],
    "skills": ["ownership"],
    "families": ["any"],
    "listen_for": ["your own part in it", "the difference it made"],
    "easier": "What did you make or do last week that went well?",
    "harder": "Which part of that work would you defend before people who dislike it?",
    "vague": "Which piece of it was yours alone, and who could confirm that?",
}
SKILLS: dict[str, Any] = {"personal": {"ownership": {"common": True}}}
CRAFTS: dict[str, Any] = {"law": {"titles": ["lawyer"], "skills": ["ownership"]}}


def build_bank(*entries: dict[str, Any]) -> Bank:
    questions = parse_questions({"question": list(entries)}, InterviewType.BEHAVIOURAL)
    return Bank(questions, Vocabulary(parse_skills(SKILLS)), Families(parse_families(CRAFTS)))


def test_a_valid_question_is_parsed() -> None:
    """A question that meets every rule is parsed."""
    assert [q.text for q in build_bank(GOOD).questions] == [GOOD["text"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "What is a piece of work that you are proud of? And why was it hard?"},
        {"text": "Tell me about a piece of work that you are proud of."},
        {"text": "What are you proud of?"},
        {"text": "What is a piece of work " + "that is good and " * 12 + "done?"},
        {"topic": "a piece of work that you are proud of"},
        {"levels": []},
        {"levels": ["expert"]},
        {"skills": []},
        {"skills": ["juggling"]},
        {"families": []},
        {"families": ["circus"]},
        {"easier": "What?"},
        {"vague": "Name one."},
        {"listen_for": ["only one phrase"]},
        {"listen_for": ["a whole sentence.", "the difference it made"]},
        {"id": "Proud Of"},
        {"opener": "yes"},
        {"comment": "an unknown field"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_invalid_question_is_rejected(wrong: dict[str, Any]) -> None:
    """Loading an invalid question raises ValueError with the id of the question."""
    with pytest.raises(ValueError, match=f"{wrong.get('id', 'proud-of')}'"):
        build_bank({**GOOD, **wrong})


def test_a_repeated_id_is_rejected() -> None:
    """Building a bank in which two questions have the same id raises ValueError, since stored
    interviews refer to ids."""
    with pytest.raises(ValueError, match="id 'proud-of'"):
        build_bank(GOOD, GOOD)


@pytest.mark.parametrize(
    "skills",
    [
        {"personal": {"ownership": {}, "accountability": {"aliases": ["Ownership"]}}},
        {"technical": {"ownership": {"alias": ["typo in the field's name"]}}},
        {"magical": {"ownership": {}}},
    ],
    ids=["name taken", "unknown field", "unknown kind"],
)
def test_an_invalid_vocabulary_is_rejected(skills: dict[str, Any]) -> None:
    """Loading a vocabulary with an invalid skill raises ValueError with the name of the skill."""
    with pytest.raises(ValueError, match="ownership"):
        Vocabulary(parse_skills(skills))


# --- Selection --------------------------------------------------------------------------------

SOFTWARE = "Software Engineer"


def select(
    type: InterviewType, level: Level, skills: list[str], count: int, seed: int
) -> list[Question]:
    """Select questions for a software engineer."""
    return BANK.select_questions(type, level, skills, count, seed, role=SOFTWARE)


@pytest.mark.parametrize("type", InterviewType, ids=str)
@every_level
def test_a_selection_is_complete(type: InterviewType, level: Level) -> None:
    """A selection of any length has the requested type, starts with an opener of the requested
    level, and repeats no question."""
    for seed, skills in itertools.product(SEEDS, ([], ["python", "sql"], ["nursing"])):
        count = 1 + seed * 29 // 24
        selected = select(type, level, skills, count, seed)
        assert len(selected) == count
        assert len({q.id for q in selected}) == count
        assert selected[0].opener
        assert level in selected[0].levels
        if type is not InterviewType.MIXED:
            assert {q.type for q in selected} == {type}


def test_a_selection_may_be_empty() -> None:
    """Selecting zero questions of any type returns an empty list."""
    for type in InterviewType:
        assert select(type, Level.MID, [], 0, 1) == []


def test_equal_arguments_give_equal_selections() -> None:
    """Equal arguments select the same questions, even after the bank has been loaded again."""
    for seed in SEEDS:
        once = select(InterviewType.MIXED, Level.SENIOR, ["go", "leadership"], 12, seed)
        fresh = load_bank.__wrapped__()
        assert fresh.select_questions(
            InterviewType.MIXED, Level.SENIOR, ["go", "leadership"], 12, seed, role=SOFTWARE
        ) == (once)


def test_a_selection_is_the_same_in_every_process() -> None:
    """The selection does not depend on string hashes, which differ between processes."""
    selected = build_bank(*({**GOOD, "id": f"q-{n}"} for n in range(8))).select_questions(
        InterviewType.BEHAVIOURAL, Level.MID, [], 8, 7
    )
    assert [q.id for q in selected] == ["q-5", "q-4", "q-0", "q-6", "q-7", "q-3", "q-1", "q-2"]


def test_a_longer_selection_begins_with_the_shorter_one() -> None:
    """The longer of two selections that differ only in length begins with the shorter one."""
    for seed in SEEDS:
        long = select(InterviewType.TECHNICAL, Level.MID, ["java"], LONGEST, seed)
        short = select(InterviewType.TECHNICAL, Level.MID, ["java"], 5, seed)
        assert short == long[:5]


@every_type
def test_seeds_vary_the_selection(type: InterviewType) -> None:
    """For each type, 25 seeds give 25 different selections."""
    selections = {
        tuple(q.id for q in select(type, Level.MID, [], 6, seed)) for seed in SEEDS
    }  # fmt: skip
    assert len(selections) == len(SEEDS)


def test_a_mixed_interview_alternates_between_the_types() -> None:
    """A mixed interview repeats the three types in a fixed order."""
    for seed in SEEDS:
        selected = select(InterviewType.MIXED, Level.JUNIOR, ["react"], LONGEST, seed)
        assert [q.type for q in selected] == list(TYPES) * (LONGEST // 3)


@pytest.mark.parametrize(
    "skills",
    [["python", "sql", "testing"], ["react", "accessibility"], ["nursing"], ["go", "kubernetes"]],
    ids=" ".join,
)
@every_level
def test_wanted_skills_come_first(skills: list[str], level: Level) -> None:
    """In a technical interview, the first questions after the opener cover all requested skills."""
    for seed in SEEDS:
        selected = select(InterviewType.TECHNICAL, level, skills, 1 + len(skills), seed)
        asked = {name for question in selected for name in question.skills}
        assert all(not asked.isdisjoint(skills) for question in selected[1:])
        assert asked.issuperset(skills)


def test_the_first_skills_matter_most() -> None:
    """If many skills are requested, an interview of four questions covers the first three of
    them."""
    skills = ["rust", "networking", "linux", "java", "mobile", "statistics", "php"]
    for seed in SEEDS:
        selected = select(InterviewType.TECHNICAL, Level.MID, skills, 4, seed)
        assert {"rust", "networking", "linux"} <= {s for q in selected for s in q.skills}


def test_no_skill_fills_the_interview() -> None:
    """In an interview of twelve questions with one requested skill, four to eight questions are
    about that skill."""
    for seed in SEEDS:
        selected = select(InterviewType.TECHNICAL, Level.MID, ["databases"], 12, seed)
        assert 4 <= sum("databases" in question.skills for question in selected) <= 8


def test_special_skills_are_asked_only_on_request() -> None:
    """An interview covers a skill of another craft only if the skill was requested."""
    special = {"mobile", "r", "nursing", "embedded", "ruby", "sales", "machine learning"}
    for seed, type in itertools.product(SEEDS, TYPES):
        selected = select(type, Level.MID, ["no such skill"], LONGEST, seed)
        assert all(special.isdisjoint(question.skills) for question in selected)


@every_type
@every_level
def test_levels_are_kept_without_requested_skills(type: InterviewType, level: Level) -> None:
    """Without requested skills, at least seven of eight selected questions have the requested
    level."""
    for seed in SEEDS:
        selected = select(type, level, [], 8, seed)
        assert sum(level in question.levels for question in selected) >= 7


def test_a_small_bank_gives_all_its_questions() -> None:
    """If the bank has fewer questions than requested, each question is selected once, even if its
    level differs from the requested level."""
    bank = build_bank({**GOOD, "levels": ["senior"]}, {**GOOD, "id": "other"})
    selected = bank.select_questions(InterviewType.BEHAVIOURAL, Level.JUNIOR, [], 5, 1)
    assert [q.id for q in selected] == ["other", "proud-of"]


# --- Crafts -----------------------------------------------------------------------------------

ROLES = [
    ("Backend Engineer", {"any", "backend", "software"}),
    ("Senior Back-End Developer (m/f/d)", {"any", "backend", "software"}),
    ("Data Engineer", {"any", "data"}),
    ("Site Reliability Engineer", {"any", "sre", "software"}),
    ("Product Manager", {"any", "product"}),
    ("Product Designer", {"any", "design"}),
    ("Registered Nurse, ICU", {"any", "nursing"}),
    ("Maths teacher", {"any", "teaching"}),
    ("Financial Analyst", {"any", "finance"}),
    ("Mechanical Engineer", {"any", "engineering"}),
    ("Software Engineering Intern", {"any", "internship", "software"}),
    ("iOS developer", {"any", "mobile", "software"}),
    ("Software sales manager", {"any", "sales"}),
    ("Senior Backend Software Engineer", {"any", "backend", "software"}),
    ("Nurse / Teacher", {"any", "nursing", "teaching"}),
    ("Mobile phone salesman", {"any", "sales"}),
    ("Interior designer", {"any"}),
    ("Consultant", {"any"}),
    ("Intern", {"any", "internship"}),
    ("CEO", {"any"}),
    ("asdf", {"any"}),
    ("Teacher of marking parallel classes", {"any", "teaching"}),
    ("\U0001f40d\U0001f680", {"any"}),
    ("Test driver", {"any"}),
    ("Landscape architect", {"any"}),
    ("Research Assistant", {"any"}),
    ("Truck driver", {"any"}),
    ("Lawyer", {"any"}),
    ("Chef", {"any"}),
    ("Lighthouse keeper", {"any"}),
    ("Security guard", {"any"}),
    ("Air traffic controller", {"any"}),
    ("", {"any"}),
]


@pytest.mark.parametrize(("role", "families"), ROLES, ids=[role for role, _ in ROLES])
def test_a_role_belongs_to_its_families(role: str, families: set[str]) -> None:
    """A role belongs to the families that its words name and to their parents."""
    assert Families(parse_families(FAMILIES)).of_role(role) == families


@pytest.mark.parametrize(("role", "families"), ROLES, ids=[role for role, _ in ROLES])
def test_no_question_of_another_craft_is_asked(role: str, families: set[str]) -> None:
    """Without documents, every question of an interview of any type and length suits the role's
    families, and the longest interview can be filled."""
    skills = list(BANK.typical_skills(role))[:6]
    for type, level, seed in itertools.product(InterviewType, Level, range(5)):
        selected = BANK.select_questions(type, level, skills, LONGEST, seed, role=role)
        assert len(selected) == LONGEST
        assert all(not families.isdisjoint(question.families) for question in selected)


def test_an_interview_begins_and_ends_with_usual_questions() -> None:
    """The usual first question is an opener; the usual last questions end with the candidate's
    own, and suit every craft."""
    assert len({BANK.select_opener(seed) for seed in SEEDS}) >= 2
    for seed in SEEDS:
        opener = BANK.select_opener(seed)
        assert opener is not None
        assert opener.opener
        closers = BANK.select_closers(3, seed)
        assert len({q.id for q in closers}) == 3
        assert closers[-1].id == "closer-your-questions"
        assert all(q.families == ("any",) and not q.opener for q in (*closers,))
        assert closers == BANK.select_closers(3, seed)


def test_a_bank_without_usual_questions_has_no_opener() -> None:
    """A bank without usual questions gives no opener and no closers."""
    assert build_bank(GOOD).select_opener(1) is None
    assert build_bank(GOOD).select_closers(3, 1) == []
    assert [len(BANK.select_closers(count, 1)) for count in (-1, 0, 1, 99)] == [0, 0, 1, 6]


def test_a_named_skill_of_another_craft_is_asked() -> None:
    """If the job description of a nurse names SQL, SQL may be asked about."""
    selected = BANK.select_questions(
        InterviewType.TECHNICAL, Level.MID, ["sql", "nursing"], 8, 1, role="Nurse"
    )
    assert {"sql", "nursing"} <= {skill for question in selected for skill in question.skills}


@pytest.mark.parametrize(
    "families",
    [
        {"law": {"titles": [], "skills": ["ownership"]}},
        {"law": {"titles": ["lawyer"], "skills": ["ownership"], "parent": "courts"}},
        {"law": {"titles": ["lawyer"], "skills": ["ownership"], "motto": "unknown field"}},
        {
            "law": {"titles": ["lawyer"], "skills": ["ownership"]},
            "laws": {"titles": ["lawyer"], "skills": ["ownership"]},
        },
    ],
    ids=["no title", "unknown parent", "unknown field", "shared title"],
)
def test_an_invalid_family_is_rejected(families: dict[str, Any]) -> None:
    """Loading an invalid family raises ValueError with the name of the family."""
    with pytest.raises(ValueError, match="law"):
        Families(parse_families(families))
