"""Reduction of web pages and fragments of HTML to the text that a person reads on them."""

import email
import email.policy
import re
import sys
from typing import Any

from prepcli.client.encodings import DecodedText, decode_text, find_declared_encoding

__all__ = ["is_html", "is_mime_archive", "read_mime_archive", "reduce_html"]

_BLOCKS = frozenset(
    """
    address article aside blockquote body caption center dd details div dl dt fieldset figcaption
    figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main menu ol p pre section
    summary table tbody tfoot thead tr ul
    """.split()
)
"""Elements that stand on lines of their own."""

_DROPPED = frozenset(
    """
    applet audio canvas datalist embed head iframe math nav noembed noframes noscript object option
    script select style svg template title video
    """.split()
)
"""Elements that a reader does not see, or that lead to other pages."""

_PARTS = frozenset({"article", "main", "section"})
"""Elements whose footers belong to the text."""

_HIDING_STYLE = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden|left\s*:\s*-(?:9{3,}|10{4,}))", re.I
)
_HIDING_CLASSES = frozenset({"screen-reader-text", "sr-only", "visually-hidden", "visuallyhidden"})
_HIDING_ROLES = frozenset({"navigation", "banner", "search"})

_INLINE = "a|abbr|b|br|code|em|font|i|img|small|span|strong|u"
_TAG_NAMES = f"(?:{'|'.join(sorted(_BLOCKS | _DROPPED))}|td|th|button|label|link|meta|{_INLINE})"
_PAGE = re.compile(
    rf"(?>\s+|\ufeff|<!--.*?-->|<\?xml.*?\?>)*+<(?:!doctype\s+html|{_TAG_NAMES}[\s/>])", re.I | re.S
)
"""Beginning of a page, or of a fragment that starts with a tag."""
_TAG = re.compile(rf"</{_TAG_NAMES}\s*>|<(?:br|li|p)\s*/?>", re.I)
_SUFFIXES = frozenset({".htm", ".html", ".shtml", ".xht", ".xhtml"})
_MIN_TAGS = 3
"""Number of tags in a fragment that starts with text."""

_ARCHIVE = re.compile(
    rb"\s*(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*?"
    rb"content-type:\s*(?:multipart|text)/",
    re.I,
)

_HEADER_BYTES = 65_536
"""Number of bytes at the beginning of an archive that contain its type."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_XML_DECLARATION = re.compile(r"\A\s*+<\?xml.*?\?>", re.S)


def is_html(text: str, suffix: str) -> bool:
    """Return True if `text` is HTML. `suffix` is the end of the file's name, such as `.md`.

    Markdown may contain tags; it counts as HTML only if it starts with one.
    """
    if suffix in _SUFFIXES or _PAGE.match(text):
        return True
    return suffix not in (".md", ".markdown") and len(_TAG.findall(text)) >= _MIN_TAGS


def reduce_html(html: str, max_length: int = sys.maxsize) -> str:
    """Return the visible text of `html`: a line for each block, `- ` before each entry of a list,
    and nothing of scripts, styles, hidden elements and navigation. The result can be empty. Reading
    stops after `max_length` characters."""
    import lxml.etree
    import lxml.html

    html = _XML_DECLARATION.sub("", html.lstrip("\ufeff"), count=1)
    # In text with a few tags, the line ends are those of the person who wrote it.
    keep_lines = _PAGE.match(html) is None
    parser = lxml.html.HTMLParser(remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        root = lxml.html.document_fromstring(html, parser=parser)
    except lxml.etree.ParserError:  # there is no element
        return ""
    lines = _Lines()
    preformatted = 0
    walk: Any = lxml.etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        if lines.length > max_length:
            break
        hidden = _is_hidden(element)
        if element.tag in _BLOCKS or (element.tag == "br" and event == "start"):
            lines.end_line()
        if event == "start":
            if hidden:
                walk.skip_subtree()
                continue
            preformatted += element.tag == "pre"
            if element.tag == "li":
                lines.start_entry()
            elif _is_separate(element):
                lines.add(" ")
            lines.add(element.text, keep_lines=keep_lines or preformatted > 0)
        else:
            preformatted -= element.tag == "pre" and not hidden
            if element.tag in ("td", "th"):
                lines.add(" ")
            lines.add(element.tail, keep_lines=keep_lines or preformatted > 0)
    return lines.join()


class _Lines:
    """Lines of text under construction."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._parts: list[str] = []
        self._prefix = ""
        self.length = 0
        """Number of characters that were added, without white space at their ends."""

    def add(self, text: str | None, *, keep_lines: bool = False) -> None:
        """Add text to the current line; with `keep_lines`, each line of `text` ends a line."""
        first, *rest = _LINE_END.split(text or "") if keep_lines else [text or ""]
        self.length += len((text or "").strip())
        self._parts.append(first)
        for line in rest:
            self.end_line()
            self._parts.append(line)

    def start_entry(self) -> None:
        """Mark the next line as an entry of a list."""
        self._prefix = "- "

    def end_line(self) -> None:
        """End the current line, unless it is empty."""
        text = " ".join("".join(self._parts).split())
        self._parts.clear()
        if text:
            self._lines.append(self._prefix + text)
            self._prefix = ""

    def join(self) -> str:
        self.end_line()
        return "\n".join(self._lines)


def _is_separate(element: Any) -> bool:
    """Return True if a style sheet probably separates `element` from the one before it, as it does
    with labels and buttons."""
    before = element.getprevious()
    if before is None or before.tag != element.tag or before.tail:
        return False
    return element.tag in ("a", "button", "label") or (
        element.tag == "span" and (element.text or "")[:1].isupper()
    )


def _is_hidden(element: Any) -> bool:
    tag = element.tag
    if tag in _DROPPED:
        return True
    attributes = element.attrib
    if tag == "footer":
        return not any(above.tag in _PARTS for above in element.iterancestors())
    if tag == "dialog":
        return "open" not in attributes
    return (
        "hidden" in attributes
        or attributes.get("role", "").lower() in _HIDING_ROLES
        or _HIDING_STYLE.search(attributes.get("style", "")) is not None
        or not _HIDING_CLASSES.isdisjoint(attributes.get("class", "").split())
    )


def is_mime_archive(data: bytes) -> bool:
    """Return True if a file starts with the headers of an e-mail or of a saved web archive."""
    return _ARCHIVE.match(data, 0, _HEADER_BYTES) is not None


def read_mime_archive(data: bytes) -> DecodedText | None:
    """Return the page in a saved web archive (MHTML) or the text of an e-mail, or None if `data` is
    neither."""
    if not is_mime_archive(data):
        return None
    message = email.message_from_bytes(data, policy=email.policy.default)
    part = message.get_body(("html", "plain"))
    content = part.get_payload(decode=True) if part is not None else None
    if part is None or not isinstance(content, bytes):
        return None
    declared = part.get_content_charset() or find_declared_encoding(content)
    return decode_text(content, declared)
