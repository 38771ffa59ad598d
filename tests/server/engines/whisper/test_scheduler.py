"""Who waits longest goes first, and who has stopped speaking before that."""

from prepserver.engines.whisper.scheduler import Turn, first


def test_nobody_waits() -> None:
    """No recordings, or none with work."""
    assert first([]) is None
    assert first([None, None]) is None


def test_who_waits_longest_goes_first() -> None:
    """Of equals, who was there first."""
    assert first([Turn(3.0), None, Turn(1.0), Turn(2.0)]) == 2
    assert first([Turn(1.0), Turn(1.0)]) == 0


def test_the_last_piece_of_a_recording_goes_before_the_rest() -> None:
    """Somebody waits for it in silence; among such, again, who waits longest."""
    assert first([Turn(1.0), Turn(5.0, last=True)]) == 1
    assert first([Turn(5.0, last=True), Turn(1.0), Turn(4.0, last=True)]) == 2
