"""Question banks that users add as files."""

import codecs
import os
from pathlib import Path

import pytest

from prepserver.app import create_services
from prepserver.config import Config
from prepserver.errors import BadRequest
from prepserver.interview.questions.bank import load_bank
from prepserver.interview.questions.bank_files import (
    MAX_FILE_BYTES,
    MAX_FILES,
    add_bank_files,
    find_bank_files,
    read_bank_file,
)
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import InterviewType, Level

BANK = load_bank()
GOOD = """
[[question]]
id = "my-lighthouse-lamp"
type = "technical"
text = "How do you keep the lamp of a lighthouse burning through a storm?"
topic = "the lamp in a storm"
levels = ["junior", "mid", "senior"]
skills = ["problem solving"]
families = ["any"]
listen_for = ["checks before the storm", "a spare lamp", "what was learnt"]
easier = "What makes the lamp of a lighthouse go out?"
harder = "How would you do it without any help from the shore?"
vague = "Which storm do you remember, and what did you do first?"
"""
OWN_CRAFT = """
[skills.professional]
"lighthouse keeping" = { aliases = ["fresnel lens"] }

[families.lighthouse]
titles = ["lighthouse keeper"]
skills = ["lighthouse keeping"]
""" + GOOD.replace('["problem solving"]', '["lighthouse keeping"]').replace(
    'families = ["any"]', 'families = ["lighthouse"]'
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def refuse(*paths: Path) -> str:
    """Return the message of the error that adding the files raises."""
    with pytest.raises(BadRequest) as caught:
        add_bank_files(BANK, paths)
    assert caught.value.code is ErrorCode.BAD_QUESTION_BANK
    assert caught.value.message.endswith(".")
    return caught.value.message


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        codecs.BOM_UTF8 + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        b"# A comment\n" + GOOD.encode(),
        GOOD.replace("storm", "stürm").encode(),
    ],
    ids=["plain", "byte-order mark", "CRLF", "comment", "umlaut"],
)
def test_a_file_adds_its_questions(file: Path, content: bytes) -> None:
    """A file in UTF-8 adds its questions to those of the package, however its lines end."""
    file.write_bytes(content)
    bank = add_bank_files(BANK, [file])
    assert len(bank.questions) == len(BANK.questions) + 1
    assert [one.id for one in bank.get_questions(["my-lighthouse-lamp"])] == ["my-lighthouse-lamp"]


def test_a_file_defines_skills_and_families(file: Path) -> None:
    """A file may define skills and families; people of the family are asked its questions, and
    documents that name the skill."""
    file.write_text(OWN_CRAFT)
    bank = add_bank_files(BANK, [file])
    selected = bank.select_questions(
        InterviewType.TECHNICAL, Level.MID, ["lighthouse keeping"], 3, 1, role="Lighthouse keeper"
    )
    assert "my-lighthouse-lamp" in [question.id for question in selected]
    assert bank.find_skills("I clean every Fresnel lens.") == ["lighthouse keeping"]
    assert bank.typical_skills("Lighthouse keeper") == ("lighthouse keeping",)
    others = bank.select_questions(InterviewType.TECHNICAL, Level.MID, [], 30, 1, role="Nurse")
    assert "my-lighthouse-lamp" not in [question.id for question in others]


def test_a_folder_adds_its_toml_files(tmp_path: Path) -> None:
    """Of a folder, the TOML files are read in the order of their names, hidden files excepted."""
    for name in ("b.toml", "a.toml", ".hidden.toml", "notes.txt"):
        (tmp_path / name).write_text("broken" if name[0] in ".n" else "")
    assert [one.name for one in find_bank_files([tmp_path])] == ["a.toml", "b.toml"]
    assert find_bank_files([tmp_path / "a.toml", tmp_path / "a.toml"]) == [tmp_path / "a.toml"]
    assert add_bank_files(BANK, []) is BANK


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"# only a comment", "empty"),
        (GOOD.encode("utf-16"), "UTF-16"),
        (GOOD.replace("storm", "stürm").encode("latin-1"), "not UTF-8"),
        (b"[[question]\n", "not valid TOML"),
        (b"x = " + b"[" * 5000, "TOML"),
        (b"#" * (MAX_FILE_BYTES + 1), "larger than 2 MB"),
        (b"#" * 10_000_000, "larger than 2 MB"),
        (b"questions = 1\n", "`questions` is unknown"),
        (b"question = 1\n", "not a table"),
        (b"question = [1]\n", "not a table"),
        (b"skills = 1\n", "skills"),
        (b"[skills]\nx = 1\n", "skills"),
        (b"[skills.technical]\nx = 1\n", "skill"),
        (b"[skills.odd]\nx = {}\n", "'x'"),
        (b"families = 1\n", "families"),
        (b"[families]\nx = 1\n", "'x'"),
        (b'[families.x]\ntitles = ["x"]\n', "'x'"),
        (b'[skills.technical]\nmine = { aliases = ["python"] }\n', "'python'"),
        (b'[families.nursing]\ntitles = ["x"]\nskills = ["nursing"]\n', "'nursing'"),
        (b'[families.x]\ntitles = ["nurse"]\nskills = ["nursing"]\n', "'nurse'"),
    ],
)
def test_a_broken_file_is_refused(file: Path, content: bytes, words: str) -> None:
    """A file that cannot be used ends in a sentence that names the file and the fault."""
    file.write_bytes(content)
    message = refuse(file)
    assert str(file) in message
    assert words in message


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"technical"', '"practical"', "type"),
        ('type = "technical"\n', "", "type"),
        ('"technical"', '"mixed"', "mixed|types"),
        ("burning through a storm?", "burning.", "text"),
        ("burning through a storm?", "on?" + " Why?" * 40, "text"),
        ('"the lamp in a storm"', '"the lamp of a lighthouse in a storm"', "topic"),
        ('"mid"', '"middle"', "levels"),
        ('["junior", "mid", "senior"]', "[]", "levels"),
        ('["problem solving"]', '["juggling"]', "juggling"),
        ('["problem solving"]', '"problem solving"', "skills"),
        ('["any"]', '["circus"]', "circus"),
        ('"checks before the storm", "a spare lamp", ', "", "listen_for"),
        ("easier = ", "simpler = ", "easier|simpler"),
        ("you do first?", "you do first.", "vague"),
        ('families = ["any"]', 'families = ["any"]\nopener = "yes"', "opener"),
        ('id = "my-lighthouse-lamp"\n', "", "id"),
        ("my-lighthouse-lamp", "My Lamp", "id"),
        ("my-lighthouse-lamp", "debug-hardest", "Two questions"),
    ],
)
def test_a_wrong_field_is_named(file: Path, old: str, new: str, field: str) -> None:
    """The error about a wrong question names the file, the question and the field."""
    assert old in GOOD
    file.write_text(GOOD.replace(old, new))
    message = refuse(file)
    assert str(file) in message
    assert any(one in message for one in field.split("|"))
    assert old.startswith(("id", "my-")) or "'my-lighthouse-lamp'" in message


def test_ids_are_distinct_across_files(tmp_path: Path) -> None:
    """Two files may not use the same id; the second is named."""
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text(GOOD)
    message = refuse(tmp_path)
    assert "b.toml" in message
    assert "my-lighthouse-lamp" in message


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """A missing path, a pipe, a folder called like a file, a dangling link and an endless device
    are refused at once."""
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "link.toml").symlink_to(tmp_path / "nowhere")
    folder = tmp_path / "outer"
    (folder / "inner.toml").mkdir(parents=True)
    for path in (tmp_path / "none", tmp_path / "pipe.toml", tmp_path / "link.toml", folder):
        assert str(path) in refuse(path)
    assert "/dev/zero" in refuse(Path("/dev/zero"))


def test_the_number_of_files_is_limited(tmp_path: Path) -> None:
    """A folder with more files than the limit is refused before any is read."""
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number:04}.toml").write_text("")
    assert str(MAX_FILES) in refuse(tmp_path)


def test_every_fault_is_collected(file: Path) -> None:
    """Reading a file names each wrong question and keeps the right ones."""
    wrong = GOOD.replace("my-lighthouse-lamp", "other").replace('["any"]', "1")
    file.write_text(GOOD + wrong + wrong.replace('"technical"', "7"))
    read = read_bank_file(file)
    assert [question.id for question in read.questions] == ["my-lighthouse-lamp"]
    assert len(read.faults) == 2


def test_a_server_with_a_broken_bank_does_not_start(file: Path, tmp_path: Path) -> None:
    """Starting the server with a broken bank raises the typed error before it opens its data."""
    file.write_text("broken")
    config = Config(data_dir=tmp_path / "data", question_banks=(file,))
    with pytest.raises(BadRequest) as caught:
        create_services(config)
    assert caught.value.code is ErrorCode.BAD_QUESTION_BANK
    assert not (tmp_path / "data").exists()
