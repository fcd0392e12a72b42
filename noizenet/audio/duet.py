"""The conductor: the network that draws what the player is to play.

The music is a text of spectra (:mod:`noizenet.learner.patches`), 21 codes a second. The conductor
learns what follows what; playing, it reads the seed's codes and writes on. The player follows the
spectra of what it wrote, sample by sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noizenet.audio.config import AudioConfig
from noizenet.learner.batches import OneShot
from noizenet.learner.fit import Part
from noizenet.learner.generate import play
from noizenet.learner.guide import Guide, SpectralGuide, side_by_side
from noizenet.learner.machine import chunk_steps
from noizenet.learner.model import Model
from noizenet.learner.patches import PATCH_SAMPLES, PatchCodec
from noizenet.sound.spectra import HOP_SAMPLES
from noizenet.units import SAMPLE_RATE_HZ

CONDUCTOR = "conductor"  # its name in a checkpoint
# A song is learned in pieces of 24 s at most: what begins from nothing, or from a seed that is no
# music, then begins anywhere in it. In one piece it began with the introduction every time.
LONGEST_TEXT = 512  # codes
PIECES_PER_STEP = 4
TIME_SHARE = 0.3  # of the training time, at most
# A conductor that is surer than this of the next code of its songs writes them down from memory:
# stretches of over a second. Here the longest are as long as those that unseen music shares with
# its beginning, half a second (runs/LOG.md 10).
ENOUGH_NATS = 0.6
REACH_SHARE = 0.999  # of the songs' residuals are within the player's reach
REACH_S = 60  # seconds of songs that tell


@dataclass
class Conductor:
    """What it writes with, and what it means."""

    model: Model
    codec: PatchCodec
    guiding: SpectralGuide

    @classmethod
    def begin(cls, config: AudioConfig, songs: Sequence[np.ndarray]) -> "Conductor":
        """Learn the vocabulary of scaled songs, and begin with random weights."""
        guiding = SpectralGuide.fit(songs)
        codec = PatchCodec.fit(songs, config.conductor.codes, config.play.rng)
        conductor = cls(_model(config, codec.n_codes), codec, guiding)
        embedding = torch.from_numpy(codec.embedding())
        with torch.no_grad():
            conductor.model.embedding.weight.zero_()
            conductor.model.embedding.weight[:, : embedding.shape[1]] = embedding
        return conductor

    @classmethod
    def restore(
        cls, config: AudioConfig, arrays: dict[str, np.ndarray], weights: dict[str, Tensor]
    ) -> "Conductor":
        """As it was saved."""
        codec = PatchCodec.restore(arrays)
        model = _model(config, codec.n_codes)
        model.load_state_dict(weights)
        return cls(model, codec, SpectralGuide.restore(arrays))

    def arrays(self) -> dict[str, np.ndarray]:
        """All but the weights, for the checkpoint."""
        return self.codec.arrays() | self.guiding.arrays()

    def lessons(self, config: AudioConfig, songs: Sequence[np.ndarray]) -> Part:
        """What it is trained on."""
        # one after the other, and from the beginning again: after the silence that a song ends
        # with comes music, or silence would be the end of what is written, too
        text = np.concatenate([self.codec.encode(numbers) for numbers in songs])
        text = np.concatenate((text, text[: LONGEST_TEXT // 4]))
        pieces = np.array_split(text, -(-len(text) // LONGEST_TEXT))
        device = self.model.residual_scale.device
        start, rng = self.codec.start(), config.play.rng
        batches = OneShot(pieces, start, rng, "rotate", None, PIECES_PER_STEP, device)
        return Part(
            CONDUCTOR,
            self.model,
            batches,
            lr=config.conductor.conductor_lr,
            kept_steps=chunk_steps(
                self.model, config.machine, batches.longest_steps, batches.batch
            ),
            n_steps=config.conductor.conductor_steps,
            time_share=TIME_SHARE,
            enough=ENOUGH_NATS,
        )

    def write(
        self, seed: np.ndarray, n_samples: int, temperature: float, rngs: Sequence[int]
    ) -> Guide:
        """Read a seed (scaled samples) and write on, once for each of ``rngs``."""
        # whole patches up to its end, but for the last, which would sound like a fade into silence
        codes = self.codec.encode(seed[len(seed) % PATCH_SAMPLES :])
        heard = np.concatenate((self.codec.start(), codes[: max(1, len(codes) - 1)]))
        n_codes = max(1, -(-n_samples // PATCH_SAMPLES))
        texts = play(self.model, heard, n_codes, temperature, rngs)
        return side_by_side([self.codec.decode(text, self.guiding) for text in texts])


def whole_blocks(numbers: np.ndarray) -> np.ndarray:
    """Without what does not fill a block at the end."""
    return numbers[: len(numbers) // HOP_SAMPLES * HOP_SAMPLES]


def player_lessons(
    guiding: SpectralGuide, songs: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[Guide]]:
    """Each song, (n, 1) scaled samples, twice: as it is listened to, and as it is to be played."""
    songs = [whole_blocks(numbers[:, 0]) for numbers in songs]
    guides = [guiding.listening(numbers) for numbers in songs]
    guides += [guiding.playing(numbers) for numbers in songs]
    return [numbers[:, None] for numbers in songs + songs], guides


def measure_reach(player: Model, guiding: SpectralGuide, songs: Sequence[np.ndarray]) -> None:
    """Let the player draw no residual that is larger than those of the songs."""
    residuals, left = [], REACH_S * SAMPLE_RATE_HZ
    device = player.reach.device
    for numbers in songs:
        part = whole_blocks(numbers[:left])
        if not len(part):
            break
        left -= len(part)
        read = torch.from_numpy(np.concatenate(([0], part[:-1])).astype(np.float32)).to(device)
        state, guide = player.initial_state(1), guiding.playing(part).to(device)
        _, axis, _, _ = player.read(read[None, :, None], state, guide)
        wanted = torch.from_numpy(part).to(device)[None, :, None]
        residuals.append(player.residual(wanted, axis).abs().flatten().cpu().numpy())
    player.reach.fill_(float(np.quantile(np.concatenate(residuals), REACH_SHARE)))


def _model(config: AudioConfig, n_codes: int) -> Model:
    return Model(
        cell="lstm",
        hidden=config.conductor.conductor_hidden,
        layers=1,
        dropout=config.conductor.conductor_dropout,
        loss="mulaw",
        n_mixtures=1,
        n_features=1,
        n_codes=n_codes,
        predictor_order=0,
    )
