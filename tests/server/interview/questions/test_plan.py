"""The plan of an interview, and the rules for its questions."""

import pytest

from prepserver.interview.questions import bank
from prepserver.interview.questions.plan import (
    is_acceptable_question,
    is_same_question,
    merge_skills,
    skill_choices,
)
from prepserver.wire.protocol import InterviewSpec


def test_an_extracted_skill_that_is_not_a_choice_is_dropped() -> None:
    """Merging extracted skills drops unknown names and duplicates."""
    spec = InterviewSpec(role="Data Engineer", job_description="Python and SQL, more SQL.")
    merged = merge_skills(bank.load_bank(), spec, ["Python", "sky diving", "python"])
    assert merged[0] == "python"
    assert "sql" in merged
    assert "sky diving" not in merged
    assert len(merged) == len(set(merged))


def test_without_documents_the_model_may_choose_behavioural_skills() -> None:
    """Without documents, extracted skills that suit every role are kept, and all others are
    dropped."""
    spec = InterviewSpec(role="Somebody")
    merged = merge_skills(bank.load_bank(), spec, ["communication", "nonsense", "sql"])
    assert merged == ["communication"]


def test_without_any_skill_those_of_the_craft_are_taken() -> None:
    """If nothing names a skill and the model extracts none, the skills are typical of the role."""
    assert merge_skills(bank.load_bank(), InterviewSpec(role="Tax adviser"), [])[0] == "finance"
    assert merge_skills(bank.load_bank(), InterviewSpec(role="Somebody"), []) == []


@pytest.mark.parametrize(
    "role",
    """Software Engineer,Backend Engineer,Frontend Developer,Full Stack Developer,Data Engineer
    Data Scientist,Data Analyst,Machine Learning Engineer,DevOps Engineer,SRE,Cloud Engineer
    Security Engineer,QA Engineer,Mobile Developer,Embedded Engineer,Engineering Manager
    Product Manager,Product Owner,UX Designer,Project Manager,Scrum Master,Sales Manager
    Account Executive,Customer Support Agent,Marketing Manager,Accountant,Financial Analyst
    Nurse,Teacher,Mechanical Engineer,Electrical Engineer,Graduate Trainee""".replace(
        "\n    ", ","
    ).split(","),
)
def test_common_roles_have_skills_without_documents(role: str) -> None:
    """The name of a common role is enough for at least four skills to choose from."""
    assert len(skill_choices(bank.load_bank(), InterviewSpec(role=role))) >= 4


@pytest.mark.parametrize(
    ("text", "acceptable"),
    [
        ("How did you keep both systems in step?", True),
        ("How did you keep both systems in step", False),
        ("How? And why did you do it that way?", False),
        ("Why so?", False),
        ("What is it " + "that you did " * 40 + "there?", False),
    ],
)
def test_an_acceptable_question_has_one_question_mark_at_its_end(
    text: str, acceptable: bool
) -> None:
    """A question is acceptable only if it has exactly one question mark, at the end, and is neither
    too short nor too long."""
    assert is_acceptable_question(text, ()) is acceptable


def test_a_reworded_question_is_not_acceptable() -> None:
    """A question that differs from an earlier one only in case, word order or punctuation is not
    acceptable."""
    asked = ["How did you keep both systems in step?"]
    assert not is_acceptable_question("How did you keep both systems in step ?", asked)
    assert not is_acceptable_question("In step: how did you keep both systems?", asked)
    assert is_acceptable_question("How did you keep the queue in order?", asked)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What did you learn?", "What did you learn?", True),
        ("What did you learn?", "what did you LEARN", True),
        ("What did you learn?", "What did you earn?", False),
        (
            "How would you design a queue for ten million jobs a day?",
            "How would you design the queue for ten million jobs a day?",
            True,
        ),
        (
            "How would you design a queue for ten million jobs a day?",
            "How would you test a queue for ten million jobs?",
            False,
        ),
        ("?", "?", True),
        ("?", "What?", False),
        ("", "What?", False),
    ],
)
def test_questions_that_share_nine_tenths_of_their_words_are_the_same(
    one: str, other: str, same: bool
) -> None:
    """Two questions count as the same if they share at least nine tenths of the longer question's
    words, in whichever order they are compared."""
    assert is_same_question(one, other) is same
    assert is_same_question(other, one) is same
