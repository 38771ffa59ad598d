"""Normalisation of the texts that candidates bring."""

import pytest

from prepserver.interview.documents import normalise_text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ﬂow of ﬁles and oﬃces", "flow of files and offices"),
        ("machine\u00a0learning\u202fat\u3000scale", "machine learning at scale"),
        ("front\u2011end, back\u2010end, end\u2212to\u2212end", "front-end, back-end, end-to-end"),
        ("Kuber\u00adnetes", "Kubernetes"),
        ("Kuber\u00ad\r\n  netes", "Kubernetes"),
        ("Post\u200bgre\u2060SQL\ufeff \u200e(SQL)\u200f", "PostgreSQL (SQL)"),
        ("Ｃ＋＋／Ｃ＃，１２", "C++/C#,12"),
        ("𝐏𝐲𝐭𝐡𝐨𝐧 𝘑𝘢𝘷𝘢", "Python Java"),
        ("Re\u0301sume\u0301", "Résumé"),
        ("one\r\ntwo\rthree\x0bfour\x0cfive\u2028six\u2029seven\x85eight",
         "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight"),
        ("hidden\U000e0069\U000e0067", "hidden"),
        ("\uf0b7 Kafka", "• Kafka"),
        ("plain text, 熟悉 and кот", "plain text, 熟悉 and кот"),
    ],
)  # fmt: skip
def test_text_is_normalised(written: str, read: str) -> None:
    """Characters that a person reads as the same text become the same characters."""
    assert normalise_text(written) == read
    assert normalise_text(read) == read
