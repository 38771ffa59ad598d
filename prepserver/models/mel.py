"""Whisper's mel filter bank, which a ggml file holds before the weights."""

from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

__all__ = ["N_FFT", "SAMPLE_RATE", "filter_bank"]

SAMPLE_RATE = 16_000
"""Number of audio samples per second."""
N_FFT = 400
"""Number of samples in one window of the short-time Fourier transform: 25 ms."""

# Slaney's Auditory Toolbox (1998): linear below 1 kHz, then 27 steps to each factor of 6.4.
_HZ_PER_MEL = Decimal(200) / 3
_BREAK_HZ = Decimal(1000)
_BREAK_MEL = Decimal(15)
_LOG_STEPS = Decimal(27)
_LOG_FACTOR = Decimal("6.4")


def filter_bank(n_mels: int) -> NDArray[np.float32]:
    """Return triangular filters of unit area, equal to `librosa.filters.mel(16000, 400, n_mels)`.

    The result is a float32 array of shape (n_mels, 201), with one row of weights per mel band and
    one column per bin of the spectrum. The result is identical, bit for bit, on every machine. The
    band edges require a logarithm and a power, whose last bit can differ between processors, so
    the edges are computed in decimal arithmetic. All other steps are single IEEE operations.
    """
    edges = np.array(_band_edges(n_mels), dtype=np.float64)
    bins = np.arange(N_FFT // 2 + 1, dtype=np.float64) * (SAMPLE_RATE / N_FFT)
    widths = edges[1:] - edges[:-1]
    rising = (bins - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - bins) / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    areas = 2.0 / (edges[2:] - edges[:-2])
    return (triangles.astype(np.float64) * areas[:, None]).astype(np.float32)


def _band_edges(n_mels: int) -> list[float]:
    """Return n_mels + 2 band edges in Hz, evenly spaced in mels from 0 to half the sample rate."""
    with localcontext() as context:
        context.prec = 40
        step = _LOG_FACTOR.ln() / _LOG_STEPS
        top = _BREAK_MEL + (Decimal(SAMPLE_RATE) / 2 / _BREAK_HZ).ln() / step
        edges = []
        for index in range(n_mels + 2):
            mel = top * index / (n_mels + 1)
            if mel < _BREAK_MEL:
                edges.append(float(mel * _HZ_PER_MEL))
            else:
                edges.append(float(_BREAK_HZ * ((mel - _BREAK_MEL) * step).exp()))
        return edges
