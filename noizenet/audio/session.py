"""An audio run in hand: songs, codec and model, built anew or from a checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noizenet.audio.config import AudioConfig
from noizenet.errors import ParameterError, RunError
from noizenet.learner.codecs import Codec, WaveCodec, fit_codec, restore_codec
from noizenet.learner.generate import require_precision
from noizenet.learner.machine import choose_device, choose_engine, require_memory
from noizenet.learner.model import Model, fit_linear_prediction
from noizenet.learner.score import Score, score
from noizenet.runs import Run, load_checkpoint
from noizenet.sound.library import DEMO, Library, load_library
from noizenet.sound.seeds import SEED_KINDS

CODEC = "codec."  # prefix of the codec's arrays in a checkpoint


@dataclass
class Session:
    """All that training and playing work with."""

    config: AudioConfig
    library: Library
    codec: Codec
    model: Model

    def examine(self) -> Score:
        """How well the unseen songs are told."""
        songs = [song.samples for song in self.library.unseen]
        scores = [score(self.model, self.codec, song) for song in songs]
        return Score(*np.average(scores, axis=0, weights=[len(song) for song in songs]).tolist())

    def codec_tensors(self) -> dict[str, Tensor]:
        """The codec for a checkpoint."""
        return {CODEC + name: torch.from_numpy(a) for name, a in self.codec.arrays().items()}


def read_library(config: AudioConfig) -> Library:
    """The songs that a config names."""
    sound = config.sound
    return load_library(
        config.data.data,
        config.data.songs,
        config.data.duration_s,
        config.data.valid_fraction,
        min_samples=sound.frame_samples if sound.representation == "fft" else 2,
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
    order = config.sound.predictor_order
    if order:
        numbers = [codec.encode(song)[:, 0] for song in songs]
        model.stand_on(*fit_linear_prediction(numbers, order))
    return _placed(Session(config, library, codec, model))


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
    except (RunError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()  # torch's first line names but the class
        raise RunError(f"{path}: does not fit {run.folder / 'config.json'} ({reason})") from None
    return _placed(Session(config, library, codec, model)), tensors, facts


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
    session.model.to(device)
    session.model.engine = choose_engine(machine, device)
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
