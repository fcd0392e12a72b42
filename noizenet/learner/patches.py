"""A song as a text of spectra: a vocabulary of short patches, learned from the songs.

A patch is the spectra of ``PATCH_BLOCKS`` blocks in a row, 46 ms. Patches that sound alike share a
code (principal components of their levels in dB, then k-means); what a code sounds like is the
mean spectrum of its patches. So whatever is drawn from the vocabulary is a spectrum of the music,
and what a network learns is what follows what.

The spectra of neighbouring blocks of a song share most of their window; those of two codes in a
row share nothing. A prediction that does not fit what rang before it amplifies that by its whole
gain, up to 50 dB, so a text's spectra are blended over some blocks before they are followed.
"""

from collections.abc import Sequence

import numpy as np
import scipy.ndimage
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from noizenet.config import GUIDE_ORDER
from noizenet.learner.guide import Guide, SpectralGuide, band_powers, mel_filters
from noizenet.sound.spectra import HOP_SAMPLES, N_BINS, autocorrelation, spectra_around

PATCH_BLOCKS = 4
PATCH_SAMPLES = PATCH_BLOCKS * HOP_SAMPLES
N_BANDS, LOWEST_BAND_HZ = 160, 40.0
LEAST_POWER = 1e-8  # -80 dB
N_COMPONENTS = 32
PATCHES_PER_CODE = 4  # on average, so that codes come again
KMEANS_ROUNDS = 20
BLEND_BLOCKS = 7
FITTED = ("projection", "offset", "centres", "lags", "powers")
KMEANS_PATCHES = 20_000  # are enough to find the codes


class PatchCodec:
    """Scaled samples <-> codes of patches.

    Parameters
    ----------
    projection, offset : (D, 4 · N_BANDS), (D,) from a patch's levels in dB to its components
    centres : (K, D) of the codes
    lags, powers : (K, PATCH_BLOCKS, …) of each code, see :class:`SpectralGuide`
    """

    hop_samples = PATCH_SAMPLES

    def __init__(
        self,
        projection: np.ndarray,
        offset: np.ndarray,
        centres: np.ndarray,
        lags: np.ndarray | None = None,
        powers: np.ndarray | None = None,
    ):
        self.projection = projection
        self.offset = offset
        self.centres = centres
        self.lags = lags
        self.powers = powers
        self.n_codes = len(centres)

    @classmethod
    def fit(cls, songs: Sequence[np.ndarray], most_codes: int, rng: int) -> "PatchCodec":
        """Learn the vocabulary from all songs (scaled samples).

        Spectra are seven times as large as their song, so they are made of one song after the
        other, and again when they are needed again.
        """
        levels = np.concatenate(
            [patch_levels(spectra_around(song)).astype(np.float32) for song in songs]
        )
        chosen = levels
        if len(levels) > KMEANS_PATCHES:
            rows = np.random.default_rng(rng).choice(len(levels), KMEANS_PATCHES, replace=False)
            chosen = levels[np.sort(rows)]
        components = PCA(min(N_COMPONENTS, *chosen.shape), random_state=rng).fit(chosen)
        n_codes = int(np.clip(len(chosen) // PATCHES_PER_CODE, 1, most_codes))
        points = components.transform(chosen)
        with threadpool_limits(1):  # three threads add up in whatever order they end
            clusters = KMeans(n_codes, n_init=1, max_iter=KMEANS_ROUNDS, random_state=rng)
            clusters.fit(points)
        centres = clusters.cluster_centers_[np.unique(clusters.labels_)]
        projection = components.components_
        codec = cls(projection, -projection @ components.mean_, centres)

        sums, counts = np.zeros((len(centres), PATCH_BLOCKS, N_BINS)), np.zeros(len(centres))
        for song in songs:
            of_song = spectra_around(song)
            codes = codec._nearest(patch_levels(of_song))
            np.add.at(sums, codes, _patches(of_song))
            np.add.at(counts, codes, 1)
        kept = np.flatnonzero(counts)  # a subset's code may be nearest to none of all patches
        codec.centres, codec.n_codes = centres[kept], len(kept)
        means = (sums[kept] / counts[kept, None, None]).reshape(-1, sums.shape[-1])
        shape = (len(kept), PATCH_BLOCKS, -1)
        codec.lags = autocorrelation(means, GUIDE_ORDER).reshape(shape)
        codec.powers = band_powers(means).reshape(shape)
        return codec

    def encode(self, numbers: np.ndarray) -> np.ndarray:
        """Codes (N,) int64 of scaled samples (n,); what does not fill a patch is left out."""
        n_whole = len(numbers) // PATCH_SAMPLES * PATCH_SAMPLES
        return self._nearest(patch_levels(spectra_around(numbers)[: n_whole // HOP_SAMPLES]))

    def decode(self, codes: np.ndarray, guiding: SpectralGuide) -> Guide:
        """What the player follows."""
        lags, powers = (
            blended(of_code[codes].reshape(-1, of_code.shape[-1]))
            for of_code in (self.lags, self.powers)
        )
        return guiding.of_powers(lags, powers, heard=False)

    def start(self) -> np.ndarray:
        """The code before the first: silence."""
        return self.encode(np.zeros(PATCH_SAMPLES))

    def embedding(self) -> np.ndarray:
        """Codes that sound alike near each other, (K, D) float32 around unit size."""
        return (self.centres / np.sqrt(np.square(self.centres).mean() + 1e-9)).astype(np.float32)

    def _nearest(self, levels: np.ndarray) -> np.ndarray:
        points = levels @ self.projection.T + self.offset
        distances = np.square(self.centres).sum(1) - 2 * points @ self.centres.T
        return distances.argmin(1)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was fitted, for the checkpoint."""
        return {f"patch_{name}": getattr(self, name) for name in FITTED}

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray]) -> "PatchCodec":
        """The vocabulary again, from :meth:`arrays`."""
        return cls(*(arrays[f"patch_{name}"] for name in FITTED))


def blended(blocks: np.ndarray) -> np.ndarray:
    """Each block (N, …) with its neighbours."""
    weights = np.hanning(BLEND_BLOCKS + 2)[1:-1]
    return scipy.ndimage.convolve1d(blocks, weights / weights.sum(), axis=0, mode="nearest")


def patch_levels(spectra: np.ndarray) -> np.ndarray:
    """Levels of the bands of each whole patch in dB, (n_patches, 4 · N_BANDS)."""
    bands = spectra @ mel_filters(N_BANDS, LOWEST_BAND_HZ).T
    return _patches(10 * np.log10(bands.astype(np.float64) + LEAST_POWER)).reshape(
        -1, PATCH_BLOCKS * N_BANDS
    )


def _patches(blocks: np.ndarray) -> np.ndarray:
    """(n_patches, PATCH_BLOCKS, …): blocks in a row, without what does not fill one."""
    n_whole = len(blocks) // PATCH_BLOCKS * PATCH_BLOCKS
    return blocks[:n_whole].reshape(-1, PATCH_BLOCKS, *blocks.shape[1:])
