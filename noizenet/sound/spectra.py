"""Power spectra of short stretches of a sound, from which its linear prediction is made.

A sound is cut into blocks of ``HOP_SAMPLES``, and each block has one spectrum: of what comes just
before it, which is all that may be known when the block is to be guessed, or of what lies around
it, which is what the block itself is like.

The windowed stretch is filled up with as many zeros, so the inverse transform of a spectrum is the
autocorrelation of the stretch, without anything that wraps around (Wiener and Khinchin).
"""

import numpy as np
import scipy.fft

from noizenet.errors import ParameterError

HOP_SAMPLES = 256  # 86 blocks a second
WINDOW_SAMPLES = 2048  # 93 ms
FALL_SAMPLES = 128  # the window before a block ends steeply: the newest samples tell most
N_BINS = WINDOW_SAMPLES + 1
SLAB_BLOCKS = 128  # transformed at once: 4 MB, which stays in the cache
EVERY_BLOCK = slice(None)


def _rise(n_samples: int) -> np.ndarray:
    """From 0 to 1 as a squared sine."""
    return np.sin(np.pi / 2 * (np.arange(n_samples) + 0.5) / n_samples) ** 2


WINDOW_BEFORE = np.concatenate((_rise(WINDOW_SAMPLES - FALL_SAMPLES), _rise(FALL_SAMPLES)[::-1]))
WINDOW_AROUND = np.concatenate((_rise(WINDOW_SAMPLES // 2), _rise(WINDOW_SAMPLES // 2)[::-1]))


def n_blocks_of(n_samples: int) -> int:
    """How many blocks a sound has; the last one may be shorter."""
    return -(-n_samples // HOP_SAMPLES)


def spectra_before(samples: np.ndarray, blocks: slice = EVERY_BLOCK) -> np.ndarray:
    """The power spectra of the samples before each block; no later ones are looked at.

    Parameters
    ----------
    samples : (n_samples,)
    blocks : which blocks are wanted, without a step; all by default

    Returns
    -------
    (n_blocks, N_BINS) float32
        From 0 Hz to Nyquist, divided by the sum of the squared window: the autocorrelation that
        belongs to it is that of one sample, at lag 0 the mean square. What lies before the
        beginning counts as silence.

    Raises
    ------
    ParameterError
        Samples that are not a mono sound.
    """
    return _spectra(samples, WINDOW_BEFORE, -WINDOW_SAMPLES, blocks)


def spectra_around(samples: np.ndarray, blocks: slice = EVERY_BLOCK) -> np.ndarray:
    """As :func:`spectra_before`, of a Hann window around the middle of each block.

    What lies before the beginning or after the end counts as silence.
    """
    return _spectra(samples, WINDOW_AROUND, (HOP_SAMPLES - WINDOW_SAMPLES) // 2, blocks)


def _spectra(samples: np.ndarray, window: np.ndarray, offset: int, blocks: slice) -> np.ndarray:
    """Spectra of the windows that begin ``offset`` samples after the beginning of each block."""
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ParameterError(f"samples of shape {samples.shape} must be mono, (n_samples,)")
    first, stop, _ = blocks.indices(n_blocks_of(len(samples)))
    spectra = np.empty((max(0, stop - first), N_BINS), np.float32)
    # so scaled, the squares need no further division
    window = (window / np.sqrt(np.square(window).sum())).astype(np.float32)
    for slab in range(0, len(spectra), SLAB_BLOCKS):
        n = min(SLAB_BLOCKS, len(spectra) - slab)
        start = (first + slab) * HOP_SAMPLES + offset
        end = start + (n - 1) * HOP_SAMPLES + WINDOW_SAMPLES
        heard = samples[max(0, start) : max(0, end)].astype(np.float32)
        n_before = min(max(0, -start), end - start)
        heard = np.pad(heard, (n_before, end - start - n_before - len(heard)))
        windows = np.lib.stride_tricks.sliding_window_view(heard, WINDOW_SAMPLES)[::HOP_SAMPLES]
        found = scipy.fft.rfft(windows * window, 2 * WINDOW_SAMPLES, overwrite_x=True)
        np.add(found.real**2, found.imag**2, out=spectra[slab : slab + n])
    return spectra


def autocorrelation(spectra: np.ndarray, order: int) -> np.ndarray:
    """The autocorrelation, lag 0 to ``order``, that belongs to power spectra.

    Parameters
    ----------
    spectra : (n, N_BINS)
    order : 0 to WINDOW_SAMPLES

    Returns
    -------
    (n, order + 1) float64

    Raises
    ------
    ParameterError
        An order or a number of bins beyond these.
    """
    if spectra.ndim != 2 or spectra.shape[1] != N_BINS:
        raise ParameterError(f"spectra of shape {spectra.shape} must be (n, {N_BINS})")
    if not 0 <= order <= WINDOW_SAMPLES:
        raise ParameterError(f"order {order} must be from 0 to {WINDOW_SAMPLES}")
    lags = np.empty((len(spectra), order + 1))
    for slab in range(0, len(spectra), SLAB_BLOCKS):
        # Real and even, so its inverse transform is a cosine transform. In float32 this would
        # leave noise at -70 dB of the whole, and that is louder than music's upper octaves.
        part = spectra[slab : slab + SLAB_BLOCKS].astype(np.float64)
        lags[slab : slab + len(part)] = scipy.fft.dct(part, 1, overwrite_x=True)[:, : order + 1]
    lags /= 2 * WINDOW_SAMPLES
    return lags
