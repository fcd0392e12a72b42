"""Which numbers each training step reads: whole songs one after the other, or windows.

Both are a function of the step's number alone, so a stopped run goes on exactly where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noizenet.errors import ParameterError

WINDOW_SAMPLES = 10_000  # the reference's "1 s or less"
WINDOW_BATCH = 16


@dataclass(frozen=True)
class Batch:
    """One training step: (B, T, …) in, what should have come next, and where it begins."""

    inputs: Tensor
    targets: Tensor
    epoch: int
    song: int | None  # which song, in one-shot training
    fresh: bool  # begins from silence rather than from the carried state


def shifted(numbers: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets): each number is told from those before it, the first from silence."""
    return np.concatenate((start, numbers[:-1])), numbers


class OneShot:
    """A step is a whole song; nothing is cut and nothing is batched."""

    def __init__(
        self,
        songs: Sequence[np.ndarray],
        start: np.ndarray,
        rng: int,
        order: str,
        epochs: int | None,
        device: torch.device | str = "cpu",
    ):
        pairs = [shifted(song, start) for song in songs]
        self._pairs = [
            tuple(torch.from_numpy(part)[None].to(device) for part in pair) for pair in pairs
        ]
        self._rng = rng
        if order == "block" and epochs is None:
            raise ParameterError("--song-order block needs --epochs, the passes over each song")
        self._epochs_per_song = epochs if order == "block" else None
        self.steps_per_epoch = len(songs)
        self.numbers_per_epoch = sum(len(song) for song in songs)
        self.longest_steps = max(len(song) for song in songs)
        self.batch = 1

    def __getitem__(self, step: int) -> Batch:
        n_songs = len(self._pairs)
        if self._epochs_per_song is not None:
            song, epoch = divmod(step, self._epochs_per_song)
        else:
            epoch, place = divmod(step, n_songs)
            song = int(np.random.default_rng((self._rng, epoch)).permutation(n_songs)[place])
        return Batch(*self._pairs[song], epoch=epoch, song=song, fresh=True)


class Windows:
    """Truncated training: the songs in a row are cut into B streams, read window by window.

    The state is carried along a stream, its gradient is not: what lies further back than a
    window cannot be learned.
    """

    def __init__(
        self,
        songs: Sequence[np.ndarray],
        start: np.ndarray,
        window_steps: int,
        batch: int,
        device: torch.device | str = "cpu",
    ):
        inputs, targets = shifted(np.concatenate(songs), start)
        n_windows = len(targets) // (window_steps * batch)
        if n_windows == 0:
            raise ParameterError(
                f"--batch {batch} windows of {window_steps} steps need {batch * window_steps} in "
                f"all, the songs have {len(targets)}: lower --batch or --window-samples"
            )
        kept = n_windows * window_steps * batch
        self._streams = tuple(
            torch.from_numpy(part[:kept]).view(batch, -1, *part.shape[1:]).to(device)
            for part in (inputs, targets)
        )
        self._window_steps = window_steps
        self.steps_per_epoch = n_windows
        self.numbers_per_epoch = kept
        self.longest_steps = window_steps
        self.batch = batch

    def __getitem__(self, step: int) -> Batch:
        epoch, index = divmod(step, self.steps_per_epoch)
        part = slice(index * self._window_steps, (index + 1) * self._window_steps)
        inputs, targets = (stream[:, part] for stream in self._streams)
        return Batch(inputs, targets, epoch=epoch, song=None, fresh=index == 0)
