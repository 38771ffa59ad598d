"""Whisper's mel filter bank."""

import hashlib

import numpy as np
import pytest

from prepserver.models.mel import filter_bank


def test_every_filter_has_unit_area() -> None:
    """The weights of each wide filter, multiplied by 40 Hz, sum to about one, as Slaney's norm
    requires."""
    areas = filter_bank(80).sum(axis=1) * 40
    # Narrow triangles cover few bins, so only the wide ones are close to one.
    assert areas[40:] == pytest.approx(1.0, abs=0.07)


def test_low_bands_are_linear_and_high_bands_logarithmic() -> None:
    """The peaks of the filters are spaced linearly below 1 kHz and logarithmically above."""
    peaks = filter_bank(128).argmax(axis=1) * 40.0
    low = peaks[(peaks > 0) & (peaks < 900)]
    high = peaks[peaks > 4000]
    assert np.diff(low).max() <= 40
    ratios = high[1:] / high[:-1]
    assert ratios == pytest.approx(np.full(len(ratios), ratios.mean()), abs=0.015)


def test_weights_agree_with_librosa() -> None:
    """Selected weights equal those of librosa.filters.mel(sr=16000, n_fft=400, n_mels=80)."""
    bank = filter_bank(80)
    assert bank.shape == (80, 201)
    assert bank.dtype == np.float32
    assert bank[0, :3] == pytest.approx([0.0, 0.024862593, 0.0], abs=1e-8)
    assert bank[1, 1:4] == pytest.approx([0.0019908, 0.0228717, 0.0], abs=1e-6)


def test_the_filters_have_the_same_bits_on_every_machine() -> None:
    """The filters have the same hash on every machine, since the hashes of converted models depend
    on the filters."""
    assert (
        hashlib.sha256(filter_bank(80).tobytes()).hexdigest()
        == "85818f156f7e189453901a515e4726d270d307f976e161cf9403e8caab405498"
    )
