"""Which numbers each training step reads: whole songs one after the other, or windows.

Both are a function of the step's number alone, so a stopped run goes on exactly where it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from noizenet.errors import ParameterError
from noizenet.learner.guide import Guide, joined, side_by_side

WINDOW_SAMPLES = 10_000  # the reference's "1 s or less"
WINDOW_BATCH = 16


@dataclass(frozen=True)
class Batch:
    """One training step: (B, T, …) in, what should have come next, and where it begins."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor | None  # (B, T) of each number's loss, summing to 1; None: all the same
    epoch: int
    song: int | None  # which song, when the step is one song
    fresh: bool  # begins from silence rather than from the carried state
    guide: Guide | None = None


def shifted(numbers: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets): each number is told from those before it, the first from silence."""
    return np.concatenate((start, numbers[:-1])), numbers


class OneShot:
    """A step is a whole song, or several side by side; nothing is cut.

    Songs of one step that differ in length are padded at the end; the padding weighs nothing and
    each song weighs the same. ``guides`` has what the network follows in each song.
    """

    def __init__(
        self,
        songs: Sequence[np.ndarray],
        start: np.ndarray,
        rng: int,
        order: str,
        epochs: int | None,
        songs_per_step: int = 1,
        device: torch.device | str = "cpu",
        guides: Sequence[Guide] | None = None,
    ):
        self._guides = None if guides is None else [guide.to(device) for guide in guides]
        self._pairs = [
            tuple(torch.from_numpy(part).to(device) for part in shifted(song, start))
            for song in songs
        ]
        self._rng = rng
        self._epochs_per_song = epochs if order == "block" else None
        self.batch = min(songs_per_step, len(songs))
        self.steps_per_epoch = -(-len(songs) // self.batch)
        self.numbers_per_epoch = sum(len(song) for song in songs)
        self.longest_steps = max(len(song) for song in songs)

    def __getitem__(self, step: int) -> Batch:
        n_songs = len(self._pairs)
        if self._epochs_per_song is not None:
            song, epoch = divmod(step, self._epochs_per_song)
            return self._batch([song], epoch)
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self._rng, epoch)).permutation(n_songs)
        return self._batch(order[place * self.batch : (place + 1) * self.batch].tolist(), epoch)

    def _batch(self, songs: list[int], epoch: int) -> Batch:
        inputs, targets = zip(*(self._pairs[song] for song in songs), strict=True)
        lengths = [len(song) for song in targets]
        weights = None
        if min(lengths) < max(lengths):
            each = [torch.full((n,), 1 / (n * len(songs))) for n in lengths]
            weights = pad_sequence(each, batch_first=True).to(targets[0].device)
        return Batch(
            pad_sequence(inputs, batch_first=True),
            pad_sequence(targets, batch_first=True),
            weights,
            epoch=epoch,
            song=songs[0] if len(songs) == 1 else None,
            fresh=True,
            guide=side_by_side([self._guides[song] for song in songs]) if self._guides else None,
        )


class Windows:
    """Truncated training: the songs in a row are cut into B streams, read window by window.

    The state is carried along a stream, its gradient is not: what lies further back than a
    window cannot be learned. With ``guides``, one for each song, windows and songs are made of
    whole blocks.
    """

    def __init__(
        self,
        songs: Sequence[np.ndarray],
        start: np.ndarray,
        window_steps: int,
        batch: int,
        device: torch.device | str = "cpu",
        guides: Sequence[Guide] | None = None,
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
        self._guide = None
        if guides is not None:
            guide = joined(guides).part(0, kept).to(device)
            streams = (part[0].view(batch, -1, *part.shape[2:]) for part in guide[:4])
            self._guide = Guide(*streams, guide.hop)
        self._window_steps = window_steps
        self.steps_per_epoch = n_windows
        self.numbers_per_epoch = kept
        self.longest_steps = window_steps
        self.batch = batch

    def __getitem__(self, step: int) -> Batch:
        epoch, index = divmod(step, self.steps_per_epoch)
        part = slice(index * self._window_steps, (index + 1) * self._window_steps)
        inputs, targets = (stream[:, part] for stream in self._streams)
        guide = None if self._guide is None else self._guide.part(part.start, part.stop)
        return Batch(inputs, targets, None, epoch, song=None, fresh=index == 0, guide=guide)
