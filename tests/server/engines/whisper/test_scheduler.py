"""Who waits longest goes first, and who has stopped speaking before that."""

from prepserver.engines.whisper.scheduler import PendingWork, first


def test_nobody_waits() -> None:
    """No recordings, or none with work."""
    assert first([]) is None
    assert first([None, None]) is None


def test_who_waits_longest_goes_first() -> None:
    """Of equals, who was there first."""
    assert first([PendingWork(3.0), None, PendingWork(1.0), PendingWork(2.0)]) == 2
    assert first([PendingWork(1.0), PendingWork(1.0)]) == 0


def test_the_last_piece_of_a_recording_goes_before_the_rest() -> None:
    """Somebody waits for it in silence; among such, again, who waits longest."""
    assert first([PendingWork(1.0), PendingWork(5.0, last=True)]) == 1
    assert first([PendingWork(5.0, last=True), PendingWork(1.0), PendingWork(4.0, last=True)]) == 2
