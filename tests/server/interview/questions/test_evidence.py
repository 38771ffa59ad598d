"""Skills with evidence from the role, the job description and the resume."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from prepserver.interview.questions.bank import load_bank
from prepserver.interview.questions.evidence import MAX_QUOTE
from prepserver.wire.agenda import SkillEvidence, Where

BANK = load_bank()
MATERIALS = Path(__file__).parent / "materials"


def find(job: str = "", resume: str = "", role: str = "", limit: int = 100) -> list[SkillEvidence]:
    return BANK.find_evidence(role, job, resume, limit=limit)


def names(evidence: list[SkillEvidence]) -> set[str]:
    return {one.name for one in evidence}


def spellings(evidence: list[SkillEvidence]) -> set[str]:
    return {word for one in evidence for word in (one.spelling, *one.also)}


# --- Whole documents --------------------------------------------------------------------------


def read_part(part: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = tomllib.loads(
        (MATERIALS / f"{part}.toml").read_text("utf-8")
    )["document"]
    return documents


def is_same(listed: str, evidence: SkillEvidence) -> bool:
    """Return True if one of the names of the evidence contains the listed name as whole words, or
    the other way round."""
    words = [word.casefold() for word in (evidence.name, evidence.spelling, *evidence.also)]
    pairs = [
        pair for word in words for pair in ((listed.casefold(), word), (word, listed.casefold()))
    ]
    return any(re.search(rf"(?<!\w){re.escape(a)}(?![\w+#])", b) for a, b in pairs)


@pytest.mark.parametrize(
    ("part", "precision", "recall"),
    [("seen", 0.95, 0.95), ("held", 0.87, 0.9), ("fresh", 0.9, 0.85)],
)
def test_the_skills_that_a_person_reads_are_found(
    part: str, precision: float, recall: float
) -> None:
    """Most of the skills that a person lists are found, and most of what is found is on the
    person's list, in documents of different crafts."""
    right = found = read = listed = 0
    for document in read_part(part):
        evidence = find(**{document["kind"]: document["text"]})
        right += sum(any(is_same(name, one) for name in document["skills"]) for one in evidence)
        found += len(evidence)
        read += sum(any(is_same(name, one) for one in evidence) for name in document["skills"])
        listed += len(document["skills"])
    assert right / found >= precision, (right, found)
    assert read / listed >= recall, (read, listed)


@pytest.mark.parametrize(
    "document", read_part("seen") + read_part("held") + read_part("fresh"), ids=lambda d: d["title"]
)
def test_quotes_are_the_documents_words(document: dict[str, Any]) -> None:
    """Each quote is short and contains the skill's spelling, and both are the document's words."""
    squeezed = " ".join(document["text"].split())
    for one in find(**{document["kind"]: document["text"]}):
        assert one.spelling in one.quote
        assert len(one.quote) <= MAX_QUOTE
        assert one.quote.strip("…") in squeezed
        assert one.count >= 1


# --- Kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "You will work closely with product managers and data scientists.",
        "You report to the sales director.",
        "Reporting to our Director of Marketing, you support the sales team.",
        "Liaise with the finance department and external auditors.",
        "Product managers and designers rely on your analyses.",
        "Our company's data engineering team uses Rust and React.",
        "You hand leads over to account executives.",
        "Du unterstützt unsere Product Owner und das Data Team.",
    ],
)
def test_the_work_of_others_is_no_skill(text: str) -> None:
    """Titles and teams of the people around the candidate name no skill of the candidate."""
    assert find(job=text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Benefits:\n- Coaching and mentoring\n- Hybrid work\n- Learning budget",
        "We are an innovative company with 300 people.",
        "We value diversity and inclusion and are an equal opportunity employer.",
        "Your data is processed under the GDPR.",
        "What we offer\n* Flexibility\n* A Python conference every year",
        "Requirements:\n- BSc or MSc\n- Fluent German and English\n- Driving licence",
        "Start: March 2026. Salary: 60,000 EUR. Apply via jobs@example.com.",
        "",
        " \n\t\n",
    ],
)  # fmt: skip
def test_boilerplate_is_no_skill(text: str) -> None:
    """Benefits, legal notes, degrees, languages, months and the employer's praise are no skills."""
    assert find(job=text) == []


@pytest.mark.parametrize(
    ("line", "spelled"),
    [
        ("Experience with Snowflake, dbt and Terraform", {"Snowflake", "dbt", "Terraform"}),
        ("Knowledge of SAP MM and HACCP", {"SAP MM", "HACCP"}),
        ("GD&T, FreeRTOS and ISO 13485", {"GD&T", "FreeRTOS", "ISO 13485"}),
        ("Experience with hydraulic presses", {"hydraulic presses"}),
        ("Proficient in AutoCAD or Revit", {"AutoCAD", "Revit"}),
        ("Erfahrung mit SAP MM und HACCP", {"SAP MM", "HACCP"}),
        ("Python (Django) and React", {"Python", "Django", "React"}),
        ("gRPC, Kafka, PostgreSQL", {"gRPC", "Kafka", "PostgreSQL"}),
    ],
)
def test_terms_keep_the_documents_spelling(line: str, spelled: set[str]) -> None:
    """Technical terms in a list of requirements are found in the document's own spelling, whether
    the vocabulary knows them or not."""
    assert spellings(find(job=f"Requirements:\n- {line}\n")) == spelled


@pytest.mark.parametrize(
    "line",
    [
        "Experience in a fast moving team",
        "A good sense of humour",
        "Willingness to travel within Europe",
        "You live in Hamburg or Berlin",
        "Experience in a similar role",
        "Teamfähigkeit und Belastbarkeit",
    ],
)
def test_ordinary_words_of_requirements_are_no_terms(line: str) -> None:
    """Nouns that name no skill are not taken for terms, though they stand among requirements."""
    assert find(job=f"Requirements:\n- {line}\n") == []


@pytest.mark.parametrize(
    ("job", "resume", "where"),
    [
        ("You must know Kafka.", "Ran Kafka for two years.", Where.BOTH),
        ("You must know Kafka.", "Ran a shop.", Where.JOB),
        ("You must know Kafka.", "", Where.JOB),
        ("", "Ran Kafka for two years.", Where.RESUME),
    ],
)
def test_the_place_is_known(job: str, resume: str, where: Where) -> None:
    """A skill is marked as named in the job, in the resume, or in both."""
    assert [(one.name, one.where) for one in find(job, resume)] == [("messaging", where)]


@pytest.mark.parametrize(
    ("line", "level", "years"),
    [
        ("5+ years of experience with Python", "", 5),
        ("Python (3 years)", "", 3),
        ("2-4 years of Python", "", 2),
        ("At least three years of Python", "", 3),
        ("Expert knowledge of Python", "expert", 0),
        ("Basic knowledge of Python", "basic", 0),
        ("Python: advanced", "advanced", 0),
        ("Mindestens 3 Jahre Erfahrung mit Python", "", 3),
        ("Sehr gute Kenntnisse in Python", "sehr gute", 0),
        ("Solid SQL (4 years), Python", "solid", 0),
        ("Python", "", 0),
    ],
)
def test_levels_and_years_are_read(line: str, level: str, years: int) -> None:
    """The level and the years are those that the document gives for the skill."""
    found = {one.name: one for one in find(job=f"Requirements\n- {line}")}["python"]
    assert (found.level, found.years) == (level, years)


def test_important_skills_come_first() -> None:
    """Requirements come before tasks, tasks before what is nice to have, and the resume's other
    skills last; among equals those that both documents name come first."""
    job = """
Your tasks
- Run Kubernetes

Nice to have
- Rust

Requirements
- Python
- PostgreSQL
"""
    found = find(job, "Skills\nPostgreSQL, Kafka, Java")
    assert [one.spelling for one in found] == [
        "PostgreSQL", "Python", "Kubernetes", "Rust", "Kafka", "Java"
    ]  # fmt: skip
    assert [one.spelling for one in find(job, limit=2)] == ["Python", "PostgreSQL"]


@pytest.mark.parametrize(
    "heading",
    ["About the role", "Your tasks:", "WHAT WE EXPECT", "**Requirements**", "## Skills",
     "Dein Profil", "What you’ll bring", "Must-haves", "You have:", "Technical skills",
     "Qualifications"],
)  # fmt: skip
def test_headings_of_the_work_are_known(heading: str) -> None:
    """Lines below headings about the work and the candidate are read, after headings about the
    employer."""
    job = f"About us\nWe like Rust.\n\n{heading}\n- Kafka\n\nBenefits\n- Coaching\n"
    assert [one.spelling for one in find(job)] == ["Kafka"]


def test_the_role_names_skills() -> None:
    """A skill in the name of the role counts as a requirement, without any document."""
    assert names(find(role="Python developer")) == {"python"}
    assert find(role="Lighthouse keeper") == []


def test_requirements_at_the_end_are_found() -> None:
    """Requirements after a long description of the employer are found and come first."""
    job = (
        "We sell many kinds of tea in many towns. " * 700 + "\n\nRequirements:\n- Snowflake\n- Go\n"
    )
    assert [one.spelling for one in find(job)] == ["Snowflake", "Go"]


@pytest.mark.parametrize(
    "unit",
    [
        "experience with Snowflake, Terraform and 5 years of Python; ",
        "- Requirements: C, Go\n",
        "work with work with work with product ",
        "a",
        "A ",
        "( ",
        "1 years ",
        "\n\n",
        "Heading:\n",
        "e.g. ",
        "Requirements: " + "Aa" * 3000 + " ",
    ],
)
@pytest.mark.time_limit(60)
def test_the_search_takes_linear_time(unit: str) -> None:
    """A document of 200 KB is searched in seconds, whatever it repeats; a search in quadratic time
    would take minutes."""
    find(job=unit * (200_000 // len(unit)))


@pytest.mark.parametrize("text", ["\x00", "\ud800", "🐍" * 1000, "🐍Python", "\u202eabc", "𝐏ython"])
def test_any_characters_are_accepted(text: str) -> None:
    """Control characters, lone surrogates and emoji end in no error."""
    assert len(find(job=text, resume=text, role=text)) <= 1
