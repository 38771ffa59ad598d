"""Builders of documents in the formats of office programs."""

import io
import zipfile

import pypdf
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

__all__ = ["pdf_document", "slow_word_document", "word_document", "zip_file"]


def pdf_document(*pages: str, password: str | None = None, owner: str | None = None) -> bytes:
    """Return a PDF document with a line of Latin-1 text on each page."""
    writer = pypdf.PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
            NameObject("/Encoding"): NameObject("/WinAnsiEncoding"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        stream = DecodedStreamObject()
        stream.set_data(b"BT /F 12 Tf 20 200 Td (%s) Tj ET" % text.encode("cp1252"))
        page[NameObject("/Contents")] = writer._add_object(stream)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F"): font})}
        )
    if password is not None:
        writer.encrypt(password, owner, algorithm="RC4-128")
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def word_document(body: str, **parts: str) -> bytes:
    """Return a Word document whose body consists of the given WordprocessingML. `parts` are further
    files of the folder `word`, by name without the suffix."""
    files = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/'
        'content-types"><Default Extension="xml" ContentType="application/xml"/><Override '
        'PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'wordprocessingml.document.main+xml"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        'relationships"><Relationship Id="a" Type="http://schemas.openxmlformats.org/officeDocument'
        '/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/document.xml": '<w:document xmlns:w="http://schemas.openxmlformats.org/'
        f'wordprocessingml/2006/main"><w:body>{body}</w:body></w:document>',
    }
    return zip_file(files | {f"word/{name}.xml": text for name, text in parts.items()})


def slow_word_document() -> bytes:
    """Return a Word document that takes half a minute to parse."""
    return word_document("<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 66_000)


def zip_file(files: dict[str, str]) -> bytes:
    """Return a compressed ZIP file."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return output.getvalue()
