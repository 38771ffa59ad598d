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
        pytest.param("ᴋᴜʙᴇʀɴᴇᴛᴇꜱ, ꜱǫʟ, ᴄᴏᴅᴇ ʀᴇᴠɪᴇᴡ", DATABASE | {"code review"},
                     id="small capitals"),
        pytest.param("Руthоn, Kubеrnеtes, Опыт с PostgreSQLа", {"python", *DATABASE},
                     id="Cyrillic look-alikes"),
        pytest.param("\u039aubernetes, \u03a1ython", {"python", "kubernetes"},
                     id="Greek look-alikes"),
        pytest.param("Пишу на С++ и С#", {"c++", "c#"}, id="C of a Cyrillic keyboard"),
        pytest.param("C\u266f, \uff23\uff0b\uff0b", {"c#", "c++"}, id="signs of languages"),
        pytest.param("P y t h o n  S Q L  M A C H I N E   L E A R N I N G",
                     {"python", "sql", "machine learning"}, id="spaced letters"),
        pytest.param("P\u0332y\u0332t\u0332h\u0332o\u0332n\u0332", {"python"}, id="underlined"),
        pytest.param("Kubernetes\u2122, SQL\u00ae", DATABASE, id="trademarks"),
        pytest.param("Kubernetes\u00b9, PostgreSQL\u00b2\u00b3", DATABASE, id="numbers of notes"),
        pytest.param("Java17, Python3.11 and PostgreSQL15", {"java", "python", "sql"},
                     id="glued versions"),
        pytest.param("\uf0a7Go\n\uf0a7Rust\n\uf0d8 C++", {"go", "rust", "c++"}, id="Wingdings"),
        pytest.param("o\tGo\no\tRust\no Python", {"go", "rust", "python"}, id="letter o as bullet"),
        pytest.param("1. Go\n2. Rust\n3) Python", {"go", "rust", "python"}, id="numbered list"),
        pytest.param("— Go\n— Rust\n— Python", {"go", "rust", "python"}, id="dashes as bullets"),
        pytest.param("✓Go ➢Rust\n→ React ■Python", {"go", "rust", "react", "python"},
                     id="glued dingbats"),
        pytest.param("🐍Python 🦀Rust🚀Go", {"python", "rust", "go"}, id="emoji"),
        pytest.param('"Python","Go";"Rust"', {"python", "go", "rust"}, id="quoted values"),
        pytest.param("skill,years\nPython,5\nGo,3\nC#,1", {"python", "go", "c#"}, id="CSV"),
        pytest.param("| Python | 5 |\n| Go | 3 |\n| Rust | 1 |", {"python", "go", "rust"},
                     id="rows of a table"),
        pytest.param("Python 3.11, Go 1.22, Rust (2 years), C", {"python", "go", "rust", "c"},
                     id="versions and years"),
        pytest.param("Python/Go|Rust\tC++", {"python", "go", "rust", "c++"}, id="slash, bar, tab"),
        pytest.param("machine_learning, code_review", JOINED, id="underscore"),
    ],
)  # fmt: skip
def test_skills_are_found_however_they_are_written(text: str, skills: set[str]) -> None:
    """The search finds the skills that a person reads."""
    assert set(BANK.find_skills(text)) == skills


@pytest.mark.parametrize(
    "text",
    [
        *("ingoing ungo", "Übergo", "I will go-\nvern it", "scala\u0301ble", "Pythoness"),
        *(
            "A p p l y   n o w, I a m",
            "Со стажем",
            "O(n\u00b2)",
            "1. Go to page 4\n2. React",
            "Javanese",
        ),
    ],
)
def test_parts_of_words_are_no_skills(text: str) -> None:
    """A skill's name inside a longer word of the same script is not found."""
    assert BANK.find_skills(text) == []


@pytest.mark.parametrize(
    "text", ["We use Python 3\nGo ahead and apply", "Python 3. Go home", "o Go home\no Python"]
)
def test_ordinary_words_beside_a_skill_are_no_skills(text: str) -> None:
    """An ordinary word after a skill and a number or a bullet is not a skill."""
    assert BANK.find_skills(text) == ["python"]
