"""An audio run in hand: songs, codec and model, built anew or from a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noizenet.audio.config import AudioConfig, PlayConfig
from noizenet.audio.duet import CONDUCTOR, Conductor, measure_reach, whole_blocks
from noizenet.errors import ParameterError, RunError
from noizenet.learner.codecs import Codec, WaveCodec, fit_codec, restore_codec
from noizenet.learner.generate import play, require_precision
from noizenet.learner.guide import N_CONDITIONS
from noizenet.learner.machine import choose_device, choose_engine, require_memory
from noizenet.learner.model import Model, fit_linear_prediction
from noizenet.learner.patches import PATCH_SAMPLES
from noizenet.learner.score import Score, score
from noizenet.runs import Run, load_checkpoint
from noizenet.sound.library import DEMO, Library, load_library
from noizenet.sound.seeds import SEED_KINDS

CODEC = "codec."  # prefix of the codec's arrays in a checkpoint
SHORTEST_SONG = 8 * PATCH_SAMPLES  # of a duet: a text of a few words
# The conductor is as wild as it is asked to be, the player a third of it: what is below 1 makes a
# residual smaller than the spectrum says, and the sound quieter and duller.
PLAYER_SHARE = 0.3


def player_temperature(temperature: float) -> float:
    """How wildly samples are drawn when spectra are drawn with a temperature."""
    return 1 + PLAYER_SHARE * (temperature - 1)


@dataclass
class Session:
    """All that training and playing work with."""

    config: AudioConfig
    library: Library
    codec: Codec
    model: Model  # of a duet, the player
    conductor: Conductor | None = None

    def examine(self) -> Score:
        """How well the unseen songs are told."""
        songs = [song.samples for song in self.library.unseen]
        scores = [self.score(song) for song in songs]
        return Score(*np.average(scores, axis=0, weights=[len(song) for song in songs]).tolist())

    def score(self, samples: np.ndarray) -> Score:
        """How well a sound is told, each sample from those before it."""
        guide = None
        if self.conductor is not None:
            guide = self.conductor.guiding.listening(self.codec.encode(samples)[:, 0])
            guide = guide.to(self.model.residual_scale.device)
        return score(self.model, self.codec, samples, guide)

    def play(
        self,
        seed: np.ndarray,
        n_steps: int,
        config: PlayConfig,
        rngs: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """Play on from a seed of the codec's numbers, as many candidates as ``config`` asks for."""
        rngs = range(config.rng, config.rng + config.count) if rngs is None else rngs
        if self.conductor is None:
            return play(
                self.model, seed, n_steps, config.temperature, rngs, precision=config.precision
            )
        numbers = whole_blocks(seed[::-1, 0])[::-1]  # the oldest are left out
        guide = self.conductor.write(numbers, n_steps, config.temperature, rngs)
        # a number more: the guide reaches to the first sample that is played
        heard = self.conductor.guiding.listening(np.append(numbers, np.float32(0)))
        return play(
            self.model,
            np.concatenate((self.codec.start(), numbers[:, None])),
            n_steps,
            player_temperature(config.temperature),
            rngs,
            precision=config.precision,
            heard_guide=heard,
            guide=guide,
        )

    def codec_tensors(self) -> dict[str, Tensor]:
        """The codecs for a checkpoint."""
        arrays = self.codec.arrays()
        if self.conductor is not None:
            arrays |= self.conductor.arrays()
        return {CODEC + name: torch.from_numpy(np.asarray(a)) for name, a in arrays.items()}


def read_library(config: AudioConfig) -> Library:
    """The songs that a config names."""
    sound = config.sound
    least = {"duet": SHORTEST_SONG, "frames": sound.frame_samples, "stack": 2}
    return load_library(
        config.data.data,
        config.data.songs,
        config.data.duration_s,
        config.data.valid_fraction,
        min_samples=least[sound.model],
    )


def new_session(config: AudioConfig, library: Library) -> Session:
    """Fit the codec and the linear prediction on the songs, and begin with random weights."""
    songs = [song.samples for song in library.train]
    codec = fit_codec(songs, *_codec_settings(config))
    _require_memory(config, codec)
    torch.manual_seed(config.play.rng)
    model = _empty_model(config, codec)
    if isinstance(codec, WaveCodec):
        model.stay_within(*codec.scaled(np.array([-1.0, 1.0])))
    session = _placed(Session(config, library, codec, model))
    if config.sound.predictor_order:
        numbers = [codec.encode(song)[:, 0] for song in songs]
        if model.guided:
            session.conductor = Conductor.begin(config, numbers)
            measure_reach(model, session.conductor.guiding, numbers)
            return _placed(session)
        model.stand_on(*fit_linear_prediction(numbers, config.sound.predictor_order))
    return session


def restored_session(
    run: Run, config: AudioConfig, library: Library, which: str = "last"
) -> tuple[Session, dict[str, Tensor], dict]:
    """The session of a checkpoint, with the checkpoint's tensors and facts."""
    path = run.checkpoint(which)
    if which == "best" and not path.exists() and run.checkpoint("last").exists():
        raise RunError(f"{path}: there is none, no song was held out; use --checkpoint last")
    tensors, facts = load_checkpoint(path)
    arrays = {n.removeprefix(CODEC): t.numpy() for n, t in tensors.items() if n.startswith(CODEC)}
    try:
        codec = restore_codec(arrays, *_codec_settings(config))
        model = _empty_model(config, codec)
        weights = {n[6:]: t for n, t in tensors.items() if n.startswith("model.")}
        model.load_state_dict(weights)
        session = Session(config, library, codec, model)
        if model.guided:
            own = CONDUCTOR + "."
            weights = {n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)}
            session.conductor = Conductor.restore(config, arrays, weights)
    except (RunError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[-1].strip()  # torch's first line names but the class
        raise RunError(f"{path}: does not fit {run.folder / 'config.json'} ({reason})") from None
    return _placed(session), tensors, facts


def _codec_settings(config: AudioConfig) -> tuple[str, str, str, int]:
    sound = config.sound
    return sound.representation, sound.loss, sound.scaling, sound.frame_samples


def _empty_model(config: AudioConfig, codec: Codec) -> Model:
    return Model(
        cell=config.model.cell,
        hidden=config.model.hidden,
        layers=config.model.layers,
        dropout=config.model.dropout,
        loss=config.sound.loss,
        n_mixtures=config.sound.mixtures,
        n_features=codec.n_features,
        n_codes=codec.n_codes,
        predictor_order=config.sound.predictor_order,
        n_conditions=N_CONDITIONS if config.sound.model == "duet" else 0,
    )


def _require_memory(config: AudioConfig, codec: Codec) -> None:
    """Refuse a network that is too large for the machine; it is only drawn up here, not made."""
    flags = f"--hidden {config.model.hidden} --layers {config.model.layers}"
    if config.sound.loss == "mixture":
        flags += f" --mixtures {config.sound.mixtures}"
    try:
        with torch.device("meta"):
            n_weights = _empty_model(config, codec).n_parameters()
    except (RuntimeError, TypeError, OverflowError):  # more than can be counted
        raise ParameterError(f"{flags} is larger than any machine; lower them") from None
    require_memory(n_weights, choose_device(config.machine), flags)


def _placed(session: Session) -> Session:
    """Put the model where the config says it runs."""
    machine = session.config.machine
    device = choose_device(machine)
    models = [session.model] + ([session.conductor.model] if session.conductor else [])
    for model in models:
        model.to(device)
        model.engine = choose_engine(machine, device)
    require_precision(session.model, session.config.play.precision)
    return session


def with_absolute_paths(config: AudioConfig) -> AudioConfig:
    """A config whose songs and seed are found from any folder."""
    data, seed = config.data.data, config.play.seed
    if data != DEMO:
        config = replace(config, data=replace(config.data, data=str(Path(data).absolute())))
    if seed not in SEED_KINDS:
        config = replace(config, play=replace(config.play, seed=str(Path(seed).absolute())))
    return config
