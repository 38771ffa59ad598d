"""Sample buffer, which keeps the needed part of a recording at its original positions."""

import numpy as np

from prepserver.engines.whisper.sample_buffer import GROWTH, SampleBuffer


def samples_at(begin: int, end: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Return samples from `begin` to `end` whose values equal their positions."""
    return np.arange(begin, end).astype(np.int16)


def test_positions_count_from_the_beginning_of_the_recording() -> None:
    """Neither the lengths of the appended arrays nor discarded samples change a sample's
    position."""
    buffer = SampleBuffer()
    for begin in range(0, 3 * GROWTH, 700):
        buffer.append(samples_at(begin, min(3 * GROWTH, begin + 700)))
    assert buffer.end == 3 * GROWTH
    buffer.discard_before(2 * GROWTH)
    buffer.append(samples_at(3 * GROWTH, 3 * GROWTH + 10))
    copy = buffer.copy_range(3 * GROWTH - 5, 3 * GROWTH + 5)
    assert copy.tolist() == samples_at(3 * GROWTH - 5, 3 * GROWTH + 5).tolist()


def test_missing_samples_are_skipped() -> None:
    """Copying a range beyond the end, in the discarded part, or from an empty buffer gives no
    samples."""
    buffer = SampleBuffer()
    assert buffer.copy_range(0, 10).tolist() == []
    buffer.append(samples_at(0, 2 * GROWTH))
    buffer.discard_before(2 * GROWTH)
    assert buffer.copy_range(0, 5).tolist() == []
    assert buffer.copy_range(2 * GROWTH, 2 * GROWTH + 5).tolist() == []
    assert buffer.end == 2 * GROWTH


def test_a_copied_range_is_independent_of_the_buffer() -> None:
    """Neither discarding samples nor appending other samples changes a copied range."""
    buffer = SampleBuffer()
    buffer.append(samples_at(0, 10))
    copy = buffer.copy_range(0, 10)
    buffer.discard_before(10)
    buffer.append(np.zeros(GROWTH, np.int16))
    assert copy.tolist() == list(range(10))


def test_discarded_samples_free_their_memory() -> None:
    """The buffer of a long recording stays small while old samples are discarded."""
    buffer = SampleBuffer()
    for second in range(1_800):
        buffer.append(np.zeros(16_000, np.int16))
        buffer.discard_before((second - 5) * 16_000)
    assert buffer.capacity < 20 * 16_000


def test_discarding_outside_the_buffer_has_no_effect() -> None:
    """On an empty buffer, discarding before a negative position or beyond the end has no effect."""
    buffer = SampleBuffer()
    buffer.discard_before(-5)
    buffer.discard_before(100)
    buffer.append(samples_at(0, 3))
    assert (buffer.end, buffer.copy_range(0, 3).tolist()) == (3, [0, 1, 2])
