import contextlib
from pathlib import Path

import pytest

from prepcli.client.documents import read_document
from prepcli.client.web_pages import is_html, reduce_html
from prepcli.errors import DocumentError


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Python</p><p>SQL</p>", "Python\nSQL"),
        ("<ul><li>Python<li>SQL</ul>", "- Python\n- SQL"),
        ("Python<br>SQL<br/>Go", "Python\nSQL\nGo"),
        ("<p>C&#43;&#43; &amp; C&nbsp;&ndash; R&eacute;sum&eacute;</p>", "C++ & C – Résumé"),
        ("<p>Post<b>gre</b>SQL</p>", "PostgreSQL"),
        ("<table><tr><td>Go</td><td>SQL</td></tr></table>", "Go SQL"),
        ("<p>Wrapped\n   over lines</p>", "Wrapped over lines"),
        ("<pre>a\nb</pre>", "a\nb"),
        ("<h1>Role</h1>Python", "Role\nPython"),
    ],
)
def test_visible_text_is_kept(html: str, text: str) -> None:
    """Each block is a line, inline elements join words, and entities are decoded."""
    assert reduce_html(html) == text


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>{'java': 1}</script>",
        "<script type='application/ld+json'>{\"java\": 1}</script>",
        "<style>.java{}</style>",
        "<!-- java -->",
        "<noscript>Enable java</noscript>",
        "<template><p>java</p></template>",
        "<nav><a>java</a></nav>",
        "<div hidden>java</div>",
        "<div style='color: red; display:none'>java</div>",
        "<div style='position:absolute;left:-9999px'>java</div>",
        "<p style='visibility : hidden'>java</p>",
        "<div role=navigation>java</div>",
        "<span class='a sr-only'>java</span>",
        "<footer>java jobs</footer>",
        "<svg><text>java</text></svg>",
        "<select><option>java</select>",
        "<iframe>java</iframe>",
        "<img alt=java src=java.png>",
    ],
)
def test_hidden_text_is_dropped(hidden: str) -> None:
    """Scripts, styles, comments, navigation and hidden elements are dropped, and the text around
    them is kept."""
    page = f"<html><head><title>java</title></head><body><p>Python</p>{hidden}<p>SQL</p></body>"
    assert reduce_html(page) == "Python\nSQL"


def test_pages_are_recognised_by_content() -> None:
    """Pages and fragments are HTML whatever the file's name; other text is not, even if it speaks
    of tags or contains comparisons."""
    for html in (
        "<!DOCTYPE html><title>Job</title>",
        "\ufeff <!-- saved from url=(0017)https://example.org -->\n<html lang=en>",
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>",
        "<li>Python</li>",
        "Python<br>SQL<br>Go<br>",
    ):
        assert is_html(html, ".txt")
    for text in (
        "Python",
        "We use <angle> brackets and a < b > c",
        "I know <div> and </p>",
        "<ada@example.org> Ada",
        "vector<int> and map<string, int>",
        "<T> generics in Rust",
    ):
        assert not is_html(text, ".txt")
    assert not is_html("# CV\n\nA <b>bold</b> claim<br>and<br>more</p>", ".md")
    assert is_html("no tags", ".html")


def test_saved_page_is_read(tmp_path: Path) -> None:
    """A saved page is read in the encoding that it declares, and a page without visible text raises
    DocumentError."""
    file = tmp_path / "job.html"
    page = "<html><head><meta charset=windows-1252><script>java</script></head><li>Größe: 5 €</li>"
    file.write_bytes(page.encode("cp1252"))
    assert read_document(file).text == "- Größe: 5 €"
    file.write_text("<html><script>renderEverything()</script></html>")
    with pytest.raises(DocumentError, match="without visible text"):
        read_document(file)


def test_web_archive_is_read(tmp_path: Path) -> None:
    """The page in a saved web archive and the body of an e-mail are read."""
    file = tmp_path / "job.mhtml"
    archive = (
        "From: <Saved by Blink>\r\nSubject: Job\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/related; type="text/html"; boundary="B"\r\n\r\n'
        "--B\r\nContent-Type: text/html; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        "<html><style>.java{}</style><p>Gr=C3=B6=C3=9Fe, Post=\r\ngreSQL</p></html>\r\n"
        "--B\r\nContent-Type: text/css\r\n\r\n.java{}\r\n--B--\r\n"
    )
    file.write_bytes(archive.encode())
    assert read_document(file).text == "Größe, PostgreSQL"
    file.write_bytes(
        b"Subject: Job\nContent-Type: text/plain; charset=latin1\n\nGr\xf6\xdfe, SQL\n"
    )
    assert read_document(file).text.strip() == "Größe, SQL"
    file.write_text("Role: Engineer\nTeam: Payments\n\nPython")
    assert read_document(file).text == "Role: Engineer\nTeam: Payments\n\nPython"


def test_deep_and_broken_pages_are_read() -> None:
    """Unclosed, deeply nested and nonsensical markup is reduced without an error."""
    assert "Python" in reduce_html("<div>" * 2000 + "Python")
    assert "Python" in reduce_html("<p><b>Python</p></i></li><")
    assert reduce_html("") == ""
    assert reduce_html("<!-- -->") == ""
    assert "Python" in reduce_html("<p>\x00\x01Python</p>")


@pytest.mark.parametrize(
    "html",
    [
        "<!-- x -->" * 50_000,
        "<!-- x " * 50_000,
        "<?xml ?>" * 50_000,
        "<?xml " * 50_000,
        " " * 200_000 + "x",
        "x" + " " * 200_000 + "<p>x",
        "<meta " * 50_000,
        "<p " + "a=b " * 50_000 + ">",
    ],
)
@pytest.mark.time_limit(20)
def test_hostile_markup_is_read_in_time(tmp_path: Path, html: str) -> None:
    """The time to read a page grows with its length and not faster."""
    file = tmp_path / "page"
    file.write_text(html)
    with contextlib.suppress(DocumentError):
        read_document(file)


def test_reading_stops_at_the_limit() -> None:
    """Text behind the maximum length is not read."""
    assert len(reduce_html("<p>word</p>" * 1000, 100)) < 200
