"""Words and their stems."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from prepserver.interview.dialogue import relevance

WORDS = [
    f"{start}{end}" for start in ("rest", "oper", "migrat") for end in ("ation", "ations", "ing")
]


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_split_texts_at_the_same_time(frequent_switches: None) -> None:
    """Texts that are split in several threads have the same stems as in one."""
    texts = [f"{word}{number}" for number in range(400) for word in WORDS]
    alone = [relevance.split_stems(text) for text in texts]
    relevance._stem.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(relevance.split_stems, texts))
    assert together == alone
