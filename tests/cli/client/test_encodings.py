import random

import pytest

from prepcli.client.encodings import decode_text, find_declared_encoding


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", ["Résumé ☕", "Python", "私は五年間", "👩‍💻\r\n"])
def test_marks_and_utf8_are_certain(encoding: str, text: str) -> None:
    """Text in UTF-8 or behind a byte order mark is decoded without a guess."""
    decoded = decode_text(text.encode(encoding))
    assert decoded is not None
    assert (decoded.text, decoded.guess) == (text, "")


def test_big_endian_mark_is_certain() -> None:
    """Text behind a big-endian byte order mark is decoded without a guess."""
    decoded = decode_text(b"\xfe\xff" + "Résumé".encode("utf-16-be"))
    assert decoded is not None
    assert (decoded.text, decoded.guess) == ("Résumé", "")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-16-le", "Résumé of Ada Lovelace"),
        ("utf-16-be", "Python"),
        ("utf-16-le", "私は五年間の経験\r\nPython\r\n"),
        ("cp1252", "Ingénieur – Python"),
        ("cp1252", "Résumé of José Núñez — 5 years’ experience with “Python” and SQL."),
        ("cp1252", "naïve résumé, Zürich"),
        ("cp1252", "João Conceição – São Paulo"),
        ("cp1252", "Størrelse: 12 €"),
        ("iso-8859-1", "Größe: Straße in München"),
        ("cp1250", "Životopis: pět let zkušeností s Pythonem"),
        ("cp1250", "Łukasz Wójcik, inżynier, Kraków"),
        ("iso-8859-2", "Zażółć gęślą jaźń, doświadczenie: Python, SQL"),
        ("cp1251", "Опыт работы: Python, PostgreSQL, пять лет разработки."),
        ("koi8-r", "Опыт работы: Python, PostgreSQL, пять лет разработки."),
        ("cp1253", "Εμπειρία πέντε ετών με Python και SQL"),
        ("cp1254", "Beş yıllık Python ve SQL deneyimi, İstanbul'da geliştirici"),
        ("cp1255", "חמש שנות ניסיון עם Python ו-SQL"),
        ("cp1256", "خمس سنوات خبرة مع Python و SQL"),
        ("cp874", "ประสบการณ์ห้าปีกับ Python และ SQL"),
        ("shift_jis", "私は五年間Pythonでバックエンドを開発してきました。"),
        ("euc-jp", "私は五年間Pythonでバックエンドを開発してきました。"),
        ("iso-2022-jp", "私は五年間Pythonでバックエンドを開発してきました。"),
        ("gb18030", "我有五年的Python和Kubernetes经验。"),
        ("big5", "我有五年的Python和Kubernetes經驗。"),
        ("euc-kr", "저는 5년 동안 파이썬과 Kubernetes로 개발했습니다."),
    ],
)
def test_other_encodings_are_guessed(encoding: str, text: str) -> None:
    """A sentence in another encoding is decoded, and the guess is named."""
    decoded = decode_text(text.encode(encoding))
    assert decoded is not None
    assert decoded.text == text
    assert decoded.guess


def test_declared_encoding_is_used() -> None:
    """Text that is not UTF-8 is decoded as it declares, like web browsers do; a false or unknown
    declaration is ignored."""
    page = '<meta charset="{}">Größe “42” für München'
    for declared in ("iso-8859-1", "Windows-1252"):
        data = page.format(declared).encode("cp1252")
        decoded = decode_text(data, find_declared_encoding(data))
        assert decoded is not None
        assert "Größe “42”" in decoded.text
        assert not decoded.guess
    for declared in ("utf-8", "utf-16", "klingon", "rot13", "hex"):
        data = page.format(declared).encode("cp1252")
        decoded = decode_text(data, find_declared_encoding(data))
        assert decoded is not None
        assert "Größe “42”" in decoded.text
    data = page.format("iso-8859-1").encode()
    decoded = decode_text(data, find_declared_encoding(data))
    assert decoded is not None
    assert "Größe “42”" in decoded.text


def test_damaged_utf8_stays_utf8() -> None:
    """A damaged byte among text in UTF-8 is counted and replaced; the rest is kept."""
    decoded = decode_text("Ingénieur à Genève, ".encode() + b"\xe9" + " ☕".encode())
    assert decoded is not None
    assert decoded.text == "Ingénieur à Genève, \ufffd ☕"
    assert (decoded.guess, decoded.damaged) == ("", 1)


@pytest.mark.parametrize(
    "data",
    [
        b"a\x00b\x00\x00\x00c",
        b"\x01\x02\x03\x04\x05text",
        bytes(range(256)),
        b"\x00" * 1000,
        random.Random(1).randbytes(1000),
        random.Random(2).randbytes(5001),
    ],
)
def test_binary_data_is_not_text(data: bytes) -> None:
    """Binary data has no text."""
    assert decode_text(data) is None


def test_every_input_is_decoded_or_refused() -> None:
    """No bytes and no declaration raise an error."""
    source = random.Random(3)
    marks = (b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\x00\x00\xfe\xff", b"\x1b$B")
    for _ in range(200):
        data = source.choice(marks) + source.randbytes(source.randrange(40))
        decode_text(data, source.choice(["", "utf-7", "idna", "big5", "undefined", "\udc80"]))
