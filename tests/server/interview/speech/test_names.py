"""Names in documents, in the documents' own spelling."""

import time

import pytest

from prepserver.interview.speech.names import find_names, spell_as_in

JOB = """
Senior Backend Engineer
WHAT YOU BRING
- Go services that talk over gRPC, with PostgreSQL and Kafka
- You report to Martha Jensen's team in Porto. You know Kafka, Redis and Kubernetes.
- CI/CD, C++, GD&T and S3
Write to jobs@ledgerline.example or https://ledgerline.example/Jobs before March 2026.
"""


def test_names_keep_their_spelling() -> None:
    """Names by shape come first, then capitalised words within sentences, the frequent ones
    first."""
    names = find_names([JOB])
    assert names[:6] == ["gRPC", "PostgreSQL", "CI/CD", "C++", "GD&T", "S3"]
    assert names[6] == "Kafka"
    assert {"Martha Jensen", "Porto", "Redis", "Kubernetes"} <= set(names)


@pytest.mark.parametrize(
    "word", ["Senior", "WHAT", "BRING", "You", "Write", "March", "2026", "jobs", "Jobs", "Go"]
)
def test_other_words_are_no_names(word: str) -> None:
    """Headings, the first words of sentences, months, numbers and addresses are no names."""
    assert not any(word in name.split() for name in find_names([JOB]))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("\n \n", []),
        ("Wir nutzen Kafka und FreeRTOS im Team für Daten.", ["FreeRTOS"]),
        ("•", []),
        ("we use DBT\u00adX", ["DBTX"]),
        ("we use " + "Ab" * 20, []),
        ("with Anna, Berta and Carla Maria Dora Emilia", ["Anna", "Berta", "Carla Maria Dora"]),
    ],
)
def test_unusual_texts(text: str, names: list[str]) -> None:
    """Empty texts have no names, invisible characters are removed, and long words and runs of
    names are limited. In a language that capitalises nouns, only the shape shows a name."""
    found = find_names([text], nouns_capitalised="Wir" in text)
    assert found[: len(names)] == names
    assert names or not found


@pytest.mark.parametrize("unit", ["aB", "A ", "Aa ", "x@y", ".", "A.b", "\n", "Ä/", "a b "])
def test_the_search_is_linear(unit: str) -> None:
    """A document of the maximum size is searched in a fraction of a second, whatever it holds."""
    started = time.process_time()
    find_names([unit * (32_000 // len(unit))])
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("text", "name", "spelling"),
    [
        ("We use PostgreSQL. postgresql rocks; PostgreSQL!", "postgresql", "PostgreSQL"),
        ("We use C++ and c++.", "c++", "C++"),
        ("Nothing of the kind", "kafka", "kafka"),
        ("", "kafka", "kafka"),
        ("KAFKAESQUE", "kafka", "kafka"),
    ],
)
def test_a_name_is_spelt_as_in_the_text(text: str, name: str, spelling: str) -> None:
    """A name takes the text's most frequent spelling, and its own where the text lacks it."""
    assert spell_as_in(text, name) == spelling
