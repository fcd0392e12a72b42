"""FFT frames: a sound as a sequence of short spectra, and back by overlap-add."""

from dataclasses import dataclass

import numpy as np

from noizenet.errors import ParameterError


@dataclass(frozen=True)
class FrameTransform:
    """The spectra of overlapping windowed frames, as real numbers.

    N is ``frame_samples``, H ``hop_samples``, R = N / H the frames that cover each sample,
    w the window, the square root of a periodic Hann: w(n) = sin(pi n / N). It is applied in
    analysis and again in synthesis, where w² of overlapping frames adds up to R / 2.

    Frame k (0, 1, …) covers the N samples from kH - (N - H) up to and including
    (k + 1)H - 1; what lies before sample 0 or after the last one counts as zero. So

    - frame k knows no sample later than (k + 1)H - 1, and its newest block of H samples,
      kH … (k + 1)H - 1, is in no earlier frame;
    - block b is complete once frames b … b + R - 1 are added up, and no others touch it.

    A frame is laid out as the N/2 + 1 real parts of its spectrum from DC to Nyquist, then the
    N/2 - 1 imaginary parts without those two, which are always 0: N numbers for N samples.
    """

    frame_samples: int = 1024
    """N: even, a multiple of the hop."""
    hop_samples: int = 512
    """H: at most half a frame."""

    def __post_init__(self):
        frame, hop = self.frame_samples, self.hop_samples
        if frame < 2 or frame % 2:
            raise ParameterError(f"frame_samples {frame} must be an even number above 0")
        if hop < 1 or frame % hop or frame < 2 * hop:
            raise ParameterError(
                f"hop_samples {hop} must divide frame_samples {frame}, and be at most half of it"
            )

    @property
    def window(self) -> np.ndarray:
        """w, float64 (frame_samples,)."""
        return np.sin(np.pi * np.arange(self.frame_samples) / self.frame_samples)

    @property
    def overlap(self) -> int:
        """R, the number of frames that cover each sample."""
        return self.frame_samples // self.hop_samples

    def n_frames(self, n_samples: int) -> int:
        """How many frames the transform of ``n_samples`` has: every one that covers any."""
        return -(-n_samples // self.hop_samples) + self.overlap - 1

    def to_frames(self, samples: np.ndarray) -> np.ndarray:
        """The frames of a sound.

        Parameters
        ----------
        samples
            (n_samples,), at least one.

        Returns
        -------
        np.ndarray
            float32 (n_frames, frame_samples), laid out as the class says.
        """
        samples = np.asarray(samples, dtype=np.float64)
        if samples.ndim != 1 or not len(samples):
            raise ParameterError(f"samples of shape {samples.shape} must be (n_samples,)")
        n_frames = self.n_frames(len(samples))
        n_before = self.frame_samples - self.hop_samples
        n_padded = (n_frames - 1) * self.hop_samples + self.frame_samples
        padded = np.pad(samples, (n_before, n_padded - n_before - len(samples)))
        segments = np.lib.stride_tricks.sliding_window_view(padded, self.frame_samples)
        spectra = np.fft.rfft(segments[:: self.hop_samples] * self.window)
        return np.concatenate((spectra.real, spectra.imag[:, 1:-1]), axis=1).astype(np.float32)

    def to_samples(self, frames: np.ndarray, n_samples: int | None = None) -> np.ndarray:
        """The sound of frames, by overlap-add; the inverse of :meth:`to_frames`.

        Parameters
        ----------
        frames
            (n_frames, frame_samples), at least ``overlap`` of them.
        n_samples
            Cut to this many; None returns every sample that all its frames are there for:
            (n_frames - overlap + 1) * hop_samples.

        Returns
        -------
        np.ndarray
            float32 (n_samples,), within 1e-5 of a sound in [-1, 1] whose frames they are.
        """
        frames = np.asarray(frames, dtype=np.float64)
        if frames.ndim != 2 or frames.shape[1] != self.frame_samples:
            raise ParameterError(
                f"frames of shape {frames.shape} must be (n_frames, {self.frame_samples})"
            )
        n_blocks = len(frames) - self.overlap + 1
        if n_blocks < 1:
            raise ParameterError(f"{len(frames)} frames are too few: {self.overlap} make sound")
        n_complete = n_blocks * self.hop_samples
        if n_samples is None:
            n_samples = n_complete
        if not 0 <= n_samples <= n_complete:
            raise ParameterError(f"n_samples {n_samples} must be 0 to {n_complete} here")

        segments = np.fft.irfft(self._to_spectra(frames), n=self.frame_samples) * self.window
        segments = segments.reshape(-1, self.overlap, self.hop_samples)
        samples = np.zeros((n_blocks, self.hop_samples))
        for part in range(self.overlap):  # block b is part r of frame b + R - 1 - r
            first = self.overlap - 1 - part
            samples += segments[first : first + n_blocks, part]
        squared_window = (self.window**2).reshape(self.overlap, self.hop_samples)
        samples /= squared_window.sum(axis=0)
        return samples.reshape(-1)[:n_samples].astype(np.float32)

    def synthesis_matrix(self) -> np.ndarray:
        """The linear map from a frame's numbers to the samples it was made of.

        Returns
        -------
        np.ndarray
            float64 (frame_samples, frame_samples): ``frame @ matrix`` is w(n) x(n), the
            windowed segment; multiplied by w once more it is what overlap-add sums.
        """
        return np.fft.irfft(self._to_spectra(np.eye(self.frame_samples)), n=self.frame_samples)

    def _to_spectra(self, frames: np.ndarray) -> np.ndarray:
        """Frames to the complex spectra (n_frames, frame_samples/2 + 1) that they stand for."""
        n_real = self.frame_samples // 2 + 1
        spectra = frames[:, :n_real].astype(np.complex128)
        spectra.imag[:, 1:-1] = frames[:, n_real:]
        return spectra
