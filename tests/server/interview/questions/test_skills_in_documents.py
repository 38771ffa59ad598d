"""The search for skills in text as PDF readers, word processors, web pages and East Asian keyboards
write it."""

import pytest

from prepserver.interview.questions.bank import load_bank

BANK = load_bank()

DATABASE = {"kubernetes", "sql"}
JOINED = {"machine learning", "code review"}


def bold(text: str) -> str:
    """Return `text` in the bold letters of Unicode's mathematical alphabets."""
    return "".join(
        chr(ord(c) - ord("a") + 0x1D41A) if c.islower()
        else chr(ord(c) - ord("A") + 0x1D400) if c.isupper()
        else c
        for c in text
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "skills"),
    [
        pytest.param(
            "Required: Airflow, Kubernetes, PostgreSQL, machine learning and code review.",
            DATABASE | JOINED | {"data engineering"},
            id="plain",
        ),
        pytest.param("Air\ufb02ow work\ufb02ows", {"data engineering"}, id="ligature"),
        pytest.param("machine\u00a0learning, code\u202freview", JOINED, id="no-break space"),
        pytest.param("machine\u2011learning, code\u2010review", JOINED, id="no-break hyphen"),
        pytest.param("ma\u00adchine learn\u00ading, Kuber\u00adnetes, Post\u00adgreSQL",
                     DATABASE | {"machine learning"}, id="soft hyphen"),
        pytest.param("Kuber\u00ad\nnetes and Post\u00ad\r\n  greSQL", DATABASE,
                     id="soft hyphen at the end of a line"),
        pytest.param("Kuber-\nnetes, Postgre-\r\nSQL and front-\nend", DATABASE | {"frontend"},
                     id="hyphen at the end of a line"),
        pytest.param("Kuber\u200bnetes, Post\u200dgre\u2060SQL, \ufeffmachine\u200c learning",
                     DATABASE | {"machine learning"}, id="zero width"),
        pytest.param("\u202aKubernetes\u202c \u200ePostgreSQL\u200f", DATABASE,
                     id="direction marks"),
        pytest.param("Ｋｕｂｅｒｎｅｔｅｓ、ＰｏｓｔｇｒｅＳＱＬ", DATABASE, id="full width"),
        pytest.param(bold("Kubernetes") + ", " + bold("PostgreSQL"), DATABASE, id="bold letters"),
        pytest.param("Ⓚⓤⓑⓔⓡⓝⓔⓣⓔⓢ ᴾostgreSQL", DATABASE, id="circled and raised letters"),
        pytest.param("machine\r\nlearning and code\rreview", JOINED, id="line ends"),
        pytest.param("machine\u2028learning, code\x0breview", JOINED, id="line separators"),
        pytest.param("熟悉Kubernetes和PostgreSQL，了解TensorFlow。",
                     DATABASE | {"machine learning"}, id="Han"),
        pytest.param("Kubernetes를 운영하고 PostgreSQL로 개발", DATABASE, id="Hangul"),
        pytest.param("Kubernetesの運用とPostgreSQLを使ったバックエンド", DATABASE, id="Kana"),
        pytest.param("ใช้Kubernetesและฐานข้อมูลPostgreSQLได้", DATABASE, id="Thai"),
        pytest.param("Опыт с Kubernetesом и PostgreSQLем", DATABASE, id="Cyrillic"),
        pytest.param("تجربة في Kubernetesو PostgreSQLمع", DATABASE, id="Arabic"),
        pytest.param("3年Python経験、C++とC#、.NET開発", {"python", "c++", "c#"},
                     id="signs beside Kana"),
        pytest.param("精通Go和React，熟悉Rust开发", {"go", "react", "rust"},
                     id="ordinary words beside Han"),
        pytest.param("Разработка на Go и React", {"go", "react"},
                     id="ordinary words beside Cyrillic"),
    ],
)  # fmt: skip
def test_skills_are_found_however_they_are_written(text: str, skills: set[str]) -> None:
    """The search finds the skills that a person reads."""
    assert set(BANK.find_skills(text)) == skills


@pytest.mark.parametrize(
    "text", ["ingoing ungo", "Übergo", "I will go-\nvern it", "scala\u0301ble", "Pythoness"]
)
def test_parts_of_words_are_no_skills(text: str) -> None:
    """A skill's name inside a longer word of the same script is not found."""
    assert BANK.find_skills(text) == []
