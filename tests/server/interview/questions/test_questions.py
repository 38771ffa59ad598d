"""The question bank: sound data, a sensible choice from it, and skills found where they are."""

import itertools
import re
from collections import Counter
from typing import Any

import pytest

from prepserver.interview.questions.bank import (
    Bank,
    Question,
    load_bank,
    parse_questions,
    parse_skills,
)
from prepserver.wire.protocol import InterviewType, Level

BANK = load_bank()
TYPES = (InterviewType.BEHAVIOURAL, InterviewType.TECHNICAL, InterviewType.SYSTEM_DESIGN)
SEEDS = range(25)
MOST = 30
"""Questions of the longest interview."""

STOP_WORDS = frozenset(
    """
    a an and are as at be been but by can could did do does for from had has have how if in is it
    its more most not of on one or out so than that the their them then there these they this
    those to up was were what when where which while who whom why with would you your
    """.split()
)

ORDINARY_WORDS = frozenset(
    """
    architecture c cloud conflict design embedded failure feedback go hiring inclusion influence
    learning messaging mobile motivation networking performance planning r react reliability ruby
    rust search
    """.split()
)
"""Skills whose name alone means nothing."""

every_type = pytest.mark.parametrize("type", TYPES, ids=str)
every_level = pytest.mark.parametrize("level", Level, ids=str)


def of(type: InterviewType, level: Level) -> list[Question]:
    return [q for q in BANK.questions if q.type is type and level in q.levels]


def content(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9+#']+", text.lower())) - STOP_WORDS


# --- The data ---------------------------------------------------------------------------------


def test_there_are_enough_questions() -> None:
    """A person can practise for weeks before the bank is known by heart."""
    assert len(BANK.questions) >= 300
    for type in TYPES:
        assert sum(question.type is type for question in BANK.questions) >= 80


@every_type
@every_level
def test_each_type_and_level_can_fill_an_interview(type: InterviewType, level: Level) -> None:
    """The longest interview finds enough questions without another level's."""
    assert len(of(type, level)) >= MOST


@every_type
@every_level
def test_each_type_and_level_has_openers(type: InterviewType, level: Level) -> None:
    """Interviews do not all begin the same, whatever the candidate's trade."""
    usual = [q for q in of(type, level) if q.opener and not professional(q)]
    assert len(usual) >= 6


def professional(question: Question) -> bool:
    trades = {"customer support", "data analysis", "design", "marketing", "nursing"}
    trades |= {"product management", "project management", "sales", "teaching"}
    return not trades.isdisjoint(question.skills)


def test_each_skill_has_questions() -> None:
    """Whatever skill a resume names, there is more than one thing to ask about it."""
    counts = Counter(skill for question in BANK.questions for skill in question.skills)
    assert [skill for skill in BANK.skills if counts[skill] < 2] == []


def test_questions_are_single_sentences() -> None:
    """What is spoken is one sentence, and it ends with its only question mark."""
    for question in BANK.questions:
        assert re.fullmatch(r"[A-Z][^?.!:;\n]*\?", question.text.replace(".NET", "NET"))
        assert 40 <= len(question.text) <= 180


def test_topics_differ() -> None:
    """No two questions are announced alike."""
    topics = Counter(question.topic.lower() for question in BANK.questions)
    assert [topic for topic, count in topics.items() if count > 1] == []


def test_topics_continue_a_sentence() -> None:
    """A topic stands after "Let us talk about": only names keep their capital, no full stop."""
    names = {"GraphQL", "Java's", "Python", "Python's", "R", "React", "SQL"}
    for question in BANK.questions:
        assert question.topic[0].islower() or question.topic.split()[0] in names
        assert not question.topic.endswith(tuple(".,:;!?"))


def test_what_to_listen_for_continues_a_sentence() -> None:
    """The phrases stand after "Think about", and no question says the same one twice."""
    for question in BANK.questions:
        assert len(set(question.listen_for)) == len(question.listen_for)
        for phrase in question.listen_for:
            assert phrase[0].islower() or phrase.startswith("None ")


def test_no_two_questions_are_nearly_the_same() -> None:
    """Two questions share less than half of the words that carry their meaning."""
    words = {question.id: content(question.text) for question in BANK.questions}
    alike = [
        (one, other)
        for one, other in itertools.combinations(words, 2)
        if 2 * len(words[one] & words[other]) >= len(words[one] | words[other])
    ]
    assert alike == []


# --- Broken data ------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "id": "proud-of",
    "text": "What is a piece of work that you are proud of today?",
    "topic": "work you are proud of",
    "levels": ["mid"],
    "skills": ["ownership"],
    "listen_for": ["your own part in it", "the difference it made"],
}
SKILLS: dict[str, Any] = {"personal": {"ownership": {"common": True}}}


def bank_of(*entries: dict[str, Any]) -> Bank:
    questions = parse_questions({"question": list(entries)}, InterviewType.BEHAVIOURAL)
    return Bank(questions, parse_skills(SKILLS))


def test_a_sound_question_is_read() -> None:
    """What the next tests break is whole to begin with."""
    assert [q.text for q in bank_of(GOOD).questions] == [GOOD["text"]]


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
        {"listen_for": ["only one phrase"]},
        {"listen_for": ["a whole sentence.", "the difference it made"]},
        {"id": "Proud Of"},
        {"opener": "yes"},
        {"comment": "an unknown field"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_broken_question_is_refused(wrong: dict[str, Any]) -> None:
    """A slip in the data fails the start, naming the question, instead of an interview."""
    with pytest.raises(ValueError, match=f"{wrong.get('id', 'proud-of')}'"):
        bank_of({**GOOD, **wrong})


def test_an_id_is_used_once() -> None:
    """Stored interviews may refer to a question by its id."""
    with pytest.raises(ValueError, match="two questions have the id 'proud-of'"):
        bank_of(GOOD, GOOD)


@pytest.mark.parametrize(
    "skills",
    [
        {"personal": {"ownership": {}, "accountability": {"aliases": ["Ownership"]}}},
        {"technical": {"ownership": {"alias": ["typo in the field's name"]}}},
        {"magical": {"ownership": {}}},
    ],
    ids=["name taken", "unknown field", "unknown kind"],
)
def test_a_broken_vocabulary_is_refused(skills: dict[str, Any]) -> None:
    """A slip in the vocabulary fails the start, naming the skill."""
    with pytest.raises(ValueError, match="ownership"):
        parse_skills(skills)


# --- Selection --------------------------------------------------------------------------------


@pytest.mark.parametrize("type", InterviewType, ids=str)
@every_level
def test_a_choice_is_whole(type: InterviewType, level: Level) -> None:
    """Any length up to the longest is filled with different questions after an opener."""
    for seed, skills in itertools.product(SEEDS, ([], ["python", "sql"], ["nursing"])):
        count = 1 + seed * 29 // 24
        chosen = BANK.select_questions(type, level, skills, count, seed)
        assert len(chosen) == count
        assert len({q.id for q in chosen}) == count
        assert chosen[0].opener
        assert level in chosen[0].levels
        if type is not InterviewType.MIXED:
            assert {q.type for q in chosen} == {type}


def test_no_questions_can_be_asked_for() -> None:
    """Nothing is chosen when nothing is wanted, from one type or from all."""
    for type in InterviewType:
        assert BANK.select_questions(type, Level.MID, [], 0, 1) == []


def test_the_same_arguments_choose_the_same() -> None:
    """An interview that is taken up again after a restart goes on with its plan."""
    for seed in SEEDS:
        once = BANK.select_questions(
            InterviewType.MIXED, Level.SENIOR, ["go", "leadership"], 12, seed
        )
        fresh = load_bank.__wrapped__()
        assert fresh.select_questions(
            InterviewType.MIXED, Level.SENIOR, ["go", "leadership"], 12, seed
        ) == (once)


def test_a_choice_is_the_same_in_every_process() -> None:
    """The seed alone decides, not the hash of strings, which differs in every process."""
    chosen = bank_of(*({**GOOD, "id": f"q-{n}"} for n in range(8))).select_questions(
        InterviewType.BEHAVIOURAL, Level.MID, [], 8, 7
    )
    assert [q.id for q in chosen] == ["q-5", "q-4", "q-0", "q-6", "q-7", "q-3", "q-1", "q-2"]


def test_a_longer_choice_begins_like_a_shorter_one() -> None:
    """Changing the number of questions keeps those that come first."""
    for seed in SEEDS:
        long = BANK.select_questions(InterviewType.TECHNICAL, Level.MID, ["java"], MOST, seed)
        assert (
            BANK.select_questions(InterviewType.TECHNICAL, Level.MID, ["java"], 5, seed) == long[:5]
        )


@every_type
def test_seeds_vary_the_choice(type: InterviewType) -> None:
    """Practising twice is not the same interview twice."""
    choices = {
        tuple(q.id for q in BANK.select_questions(type, Level.MID, [], 6, seed)) for seed in SEEDS
    }  # fmt: skip
    assert len(choices) == len(SEEDS)


def test_a_mixed_interview_takes_turns() -> None:
    """Each three questions in a row are of three types."""
    for seed in SEEDS:
        chosen = BANK.select_questions(InterviewType.MIXED, Level.JUNIOR, ["react"], MOST, seed)
        assert [q.type for q in chosen] == list(TYPES) * (MOST // 3)


@pytest.mark.parametrize(
    "skills",
    [["python", "sql", "testing"], ["react", "accessibility"], ["nursing"], ["go", "kubernetes"]],
    ids=" ".join,
)
@every_level
def test_wanted_skills_come_first(skills: list[str], level: Level) -> None:
    """The first questions of a technical interview are on the skills of the job, all of them."""
    for seed in SEEDS:
        chosen = BANK.select_questions(
            InterviewType.TECHNICAL, level, skills, 1 + len(skills), seed
        )
        asked = {name for question in chosen for name in question.skills}
        assert all(not asked.isdisjoint(skills) for question in chosen[1:])
        assert asked.issuperset(skills)


def test_the_first_skills_matter_most() -> None:
    """Of many skills, a short interview takes up the first three."""
    skills = ["rust", "networking", "linux", "java", "mobile", "statistics", "php"]
    for seed in SEEDS:
        chosen = BANK.select_questions(InterviewType.TECHNICAL, Level.MID, skills, 4, seed)
        assert {"rust", "networking", "linux"} <= {s for q in chosen for s in q.skills}


def test_no_skill_fills_the_interview() -> None:
    """After a handful of questions on the one skill that is known, others have their turn."""
    for seed in SEEDS:
        chosen = BANK.select_questions(InterviewType.TECHNICAL, Level.MID, ["databases"], 12, seed)
        assert 4 <= sum("databases" in question.skills for question in chosen) <= 8


def test_nobody_is_asked_about_a_foreign_field() -> None:
    """Without any known skill, a short interview stays with what anybody may be asked."""
    foreign = {"mobile", "r", "nursing", "embedded", "ruby", "sales", "machine learning"}
    for seed, type in itertools.product(SEEDS, TYPES):
        chosen = BANK.select_questions(type, Level.MID, ["no such skill"], 6, seed)
        assert all(foreign.isdisjoint(question.skills) for question in chosen)


@every_type
@every_level
def test_levels_are_kept_when_nothing_is_known(type: InterviewType, level: Level) -> None:
    """A beginner is not asked a veteran's questions while there are others."""
    for seed in SEEDS:
        chosen = BANK.select_questions(type, level, [], 8, seed)
        assert sum(level in question.levels for question in chosen) >= 7


def test_a_small_bank_gives_what_it_has() -> None:
    """Without openers, of another level and too few: still every question, once."""
    bank = bank_of({**GOOD, "levels": ["senior"]}, {**GOOD, "id": "other"})
    chosen = bank.select_questions(InterviewType.BEHAVIOURAL, Level.JUNIOR, [], 5, 1)
    assert [q.id for q in chosen] == ["other", "proud-of"]


# --- Skills in texts --------------------------------------------------------------------------

BACKEND = """
Senior Backend Engineer (Go)

You will build microservices in Go and Python that run on k8s in AWS. Our data lives in Postgres
and MongoDB, events flow through Kafka. Go beyond tickets: you design REST and gRPC APIs, react
to incidents and mentor others. CI/CD with GitHub Actions. We ship Go services every day.
"""
FRONTEND = """
Front-end developer
- React.js, TypeScript and CSS; Next.js is a plus
- WCAG 2.2, screen readers
- Unit tests (Jest), end-to-end tests (Playwright)
The rest is up to you, and you can go as far as you like.
"""
WARD = """
Registered Nurse, surgical ward. Excellent communication, attention to detail and teamwork.
You express concern early and act swiftly; prioritise under pressure. Patient safety first.
"""


def test_skills_of_a_backend_post() -> None:
    """Aliases count for their skill, the most frequent skill comes first."""
    found = BANK.find_skills(BACKEND)
    assert found[:2] == ["apis", "go"]
    assert set(found) == {
        "apis", "go", "distributed systems", "python", "kubernetes", "cloud", "sql", "databases",
        "messaging", "mentoring", "ci/cd",
    }  # fmt: skip


def test_skills_of_a_frontend_post() -> None:
    """Hyphens, plurals and names with dots are seen through; "rest" and "go" are not skills."""
    assert set(BANK.find_skills(FRONTEND)) == {
        "frontend", "react", "typescript", "accessibility", "testing"
    }  # fmt: skip


def test_skills_of_a_nursing_post() -> None:
    """Work outside of computing has its skills, and no programming language is read into it."""
    assert set(BANK.find_skills(WARD)) == {
        "nursing", "communication", "attention to detail", "teamwork", "prioritisation"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "skills"),
    [
        ("C, C++ and Python", ["c", "c++", "python"]),
        ("C/C++", ["c", "c++"]),
        ("C# and .NET, ASP.NET Core", ["c#"]),
        ("Wrote drivers in C", ["c"]),
        ("Languages: R", ["r"]),
        ("R, SQL", ["r", "sql"]),
        ("Go/Rust/Java", ["go", "rust", "java"]),
        ("• Go\n• Rust\n• Docker", ["go", "rust", "docker"]),
        ("rewrote the billing service in Rust", ["rust"]),
        ("Golang developer", ["go"]),
        ("Go engineer", ["go"]),
        ("JavaScript (not Java)", ["javascript", "java"]),
        ("Node, Express and Postgres", ["javascript", "sql"]),
        ("react, redux and typescript", ["react", "typescript"]),
        ("react/node/typescript", ["react", "javascript", "typescript"]),
        ("Machine\nlearning", ["machine learning"]),
        ("microservices; a microservice", ["distributed systems"]),
        ("A/B tests", ["statistics"]),
        ("a Go-based service and Go’s tools, in Go", ["go"]),
        ("feedback, mentoring", ["feedback", "mentoring"]),
        ("Java, Spring", ["java"]),
        ("swift, sql", ["sql"]),
        ("Software Engineer (Go)", ["go"]),
        ("Touch-and-Go, Python", ["python"]),
        ("Appendix C Python", ["python"]),
        ("", []),
    ],
)
def test_names_as_people_write_them(text: str, skills: list[str]) -> None:
    """Each form on its own, in the order of mention."""
    found = BANK.find_skills(text)
    assert sorted(found) == sorted(skills)


@pytest.mark.parametrize(
    "text",
    [
        "Go ahead, take some rest, and we will go over the rest of the plan.",
        "As we go, we react to what we see. Go, team! Let's go. Where did they Go?",
        "Our go-to-market team, the Go-to-market plan and C-level staff gave it an A+.",
        "In Spring 2021 Mr. C. Jones moved on to plan B, and then to plan C.",
        "The room is in block C, the seats are in C and the song is in C.",
        "Vitamin C helps, R. Smith expressed thanks, and the nails began to rust.",
        "A swift reply and a cloud in the sky made us flutter; the node of a spring was bash.",
        "The embedded reporter was searching the containers for a mobile phone.",
        "I spoke with my manager about the design of the house and about a good performance.",
        "We were learning from each other, and hiring a van had no influence on planning.",
    ],
)
def test_ordinary_english_names_no_skills(text: str) -> None:
    """Words that are also names of technologies mean nothing in a sentence."""
    assert BANK.find_skills(text) == []


def test_a_skill_beside_ordinary_words_stays_alone() -> None:
    """A new sentence or paragraph after a technology does not turn "Go" into one."""
    assert BANK.find_skills("We run Kubernetes.\n\nGo ahead and apply!") == ["kubernetes"]
    assert BANK.find_skills("Kubernetes\n\nGo ahead and apply") == ["kubernetes"]
    assert BANK.find_skills("communication and performance") == ["communication"]


def test_frequent_skills_come_first() -> None:
    """Three mentions, however they are written, weigh more than two, and ties keep their order."""
    text = "Docker. SQL, Postgres. Python, Django, pandas. Linux."
    assert BANK.find_skills(text) == ["python", "sql", "docker", "linux"]


def test_unambiguous_names_are_found_in_any_case() -> None:
    """Every skill that is no ordinary word is found by its own name."""
    for skill in set(BANK.skills) - ORDINARY_WORDS:
        assert BANK.find_skills(f"we want {skill.upper()}, always") == [skill]


def test_ordinary_words_need_company() -> None:
    """The other skills do not follow from their bare name in a sentence."""
    for skill in ORDINARY_WORDS:
        assert BANK.find_skills(f"we want {skill} now") == []


@pytest.mark.parametrize(
    "text",
    ["Go," * 20_000, "Go\n" * 20_000, "Go" + " " * 60_000 + "SQL", "a." * 30_000, "- " * 30_000],
    ids=["list", "lines", "gap", "dots", "bullets"],
)
def test_hostile_documents_are_read_whole(text: str) -> None:
    """Repetition and emptiness neither fail nor name a skill that is not there."""
    assert set(BANK.find_skills(text)) <= {"sql"}
