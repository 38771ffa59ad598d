"""The search for skills in resumes and job descriptions."""

import pytest

from prepserver.interview.questions.bank import load_bank

BANK = load_bank()

ORDINARY_WORDS = frozenset(
    """
    architecture c cloud conflict design embedded engineering failure feedback finance go hiring
    inclusion influence learning messaging mobile motivation networking performance planning r react
    reliability ruby rust search
    """.split()
)
"""Skills whose names are also ordinary words; such a name counts only in a context that suits a
skill."""

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


def test_skills_of_a_backend_job() -> None:
    """An alias counts as a mention of its skill, and the skill with the most mentions comes
    first."""
    found = BANK.find_skills(BACKEND)
    assert found[:2] == ["apis", "go"]
    assert set(found) == {
        "apis", "go", "distributed systems", "python", "kubernetes", "cloud", "sql", "databases",
        "messaging", "mentoring", "ci/cd",
    }  # fmt: skip


def test_skills_of_a_frontend_job() -> None:
    """Hyphens, plurals and names with dots are recognised; the ordinary words "rest" and "go" name
    no skill."""
    assert set(BANK.find_skills(FRONTEND)) == {
        "frontend", "react", "typescript", "accessibility", "testing"
    }  # fmt: skip


def test_skills_of_a_nursing_job() -> None:
    """Skills outside computing are found; "express" and "swiftly" name no software."""
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
def test_skills_are_found_in_every_common_spelling(text: str, skills: list[str]) -> None:
    """Skills are found in the usual notations of resumes and job descriptions, such as aliases,
    lists and slashes."""
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
    """Words that are also names of technologies do not count in ordinary sentences."""
    assert BANK.find_skills(text) == []


def test_an_ordinary_word_near_a_skill_does_not_count() -> None:
    """An ordinary word near a skill, such as "Go" at the start of a sentence, names no second
    skill."""
    assert BANK.find_skills("We run Kubernetes.\n\nGo ahead and apply!") == ["kubernetes"]
    assert BANK.find_skills("Kubernetes\n\nGo ahead and apply") == ["kubernetes"]
    assert BANK.find_skills("communication and performance") == ["communication"]


def test_frequent_skills_come_first() -> None:
    """Skills are sorted by how often any of their names occurs; ties keep the order of first
    mention."""
    text = "Docker. SQL, Postgres. Python, Django, pandas. Linux."
    assert BANK.find_skills(text) == ["python", "sql", "docker", "linux"]


def test_unambiguous_names_are_found_in_any_case() -> None:
    """Every skill whose name is not an ordinary word is found by that name, even in capitals."""
    for skill in set(BANK.skills) - ORDINARY_WORDS:
        assert BANK.find_skills(f"we want {skill.upper()}, always") == [skill]


def test_ordinary_words_need_a_skill_context() -> None:
    """A skill whose name is an ordinary word is not found by that name alone."""
    for skill in ORDINARY_WORDS:
        assert BANK.find_skills(f"we want {skill} now") == []


@pytest.mark.parametrize(
    "text",
    [
        "Go," * 20_000,
        "Go\n" * 20_000,
        "Go" + " " * 60_000 + "SQL",
        "a." * 30_000,
        "- " * 30_000,
        "x" * 60_000,
        "a " * 30_000,
        "\u043e" * 60_000,
    ],
    ids=["list", "lines", "gap", "dots", "bullets", "one word", "letters", "look-alikes"],
)
def test_hostile_documents_are_searched_in_linear_time(text: str) -> None:
    """Searching a long, repetitive text does not time out and finds no skill that the text does not
    name."""
    assert set(BANK.find_skills(text)) <= {"sql"}
