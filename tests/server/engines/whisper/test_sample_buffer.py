"""A recording is kept as far as it is needed, under its own positions."""

import numpy as np

from prepserver.engines.whisper.sample_buffer import GROWTH, SampleBuffer


def counted(begin: int, end: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.arange(begin, end).astype(np.int16)


def test_parts_are_found_under_their_positions() -> None:
    """However it came in, and whatever was forgotten before."""
    tape = SampleBuffer()
    for begin in range(0, 3 * GROWTH, 700):
        tape.add(counted(begin, min(3 * GROWTH, begin + 700)))
    assert tape.end == 3 * GROWTH
    tape.forget(2 * GROWTH)
    tape.add(counted(3 * GROWTH, 3 * GROWTH + 10))
    part = tape.part(3 * GROWTH - 5, 3 * GROWTH + 5)
    assert part.tolist() == counted(3 * GROWTH - 5, 3 * GROWTH + 5).tolist()


def test_what_is_not_there_is_left_out() -> None:
    """Beyond the end, before the beginning, and of nothing at all."""
    tape = SampleBuffer()
    assert tape.part(0, 10).tolist() == []
    tape.add(counted(0, 2 * GROWTH))
    tape.forget(2 * GROWTH)
    assert tape.part(0, 5).tolist() == []
    assert tape.part(2 * GROWTH, 2 * GROWTH + 5).tolist() == []
    assert tape.end == 2 * GROWTH


def test_a_part_is_a_copy() -> None:
    """What comes later does not change what was taken."""
    tape = SampleBuffer()
    tape.add(counted(0, 10))
    part = tape.part(0, 10)
    tape.forget(10)
    tape.add(np.zeros(GROWTH, np.int16))
    assert part.tolist() == list(range(10))


def test_half_an_hour_does_not_stay_in_memory() -> None:
    """What is forgotten makes room for what comes."""
    tape = SampleBuffer()
    for second in range(1_800):
        tape.add(np.zeros(16_000, np.int16))
        tape.forget((second - 5) * 16_000)
    assert tape.room < 20 * 16_000


def test_forgetting_what_was_never_there_is_harmless() -> None:
    """Before the beginning, or beyond the end."""
    tape = SampleBuffer()
    tape.forget(-5)
    tape.forget(100)
    tape.add(counted(0, 3))
    assert (tape.end, tape.part(0, 3).tolist()) == (3, [0, 1, 2])
