#!/usr/bin/env python
"""Write the golden files beside this script: what every head, codec and cell gave when made.

    python tests/golden/make_golden.py

Run it only when a change of these values is meant, and say why in the commit. Everything goes in
by formula, so that the values depend on no generator of random numbers.
"""

from pathlib import Path

import numpy as np
import torch

from noizenet.learner.codecs import fit_codec
from noizenet.learner.heads import make_head
from noizenet.learner.model import Model

FOLDER = Path(__file__).parent
HEADS = ("mixture", "mse", "mae", "mbe", "codes")
CODECS = {
    "zscore": ("waveform", "mixture", "zscore"),
    "minmax": ("waveform", "mixture", "minmax"),
    "log": ("waveform", "mixture", "log"),
    "clip": ("waveform", "mixture", "clip"),
    "codes": ("waveform", "mulaw", "zscore"),
    "frames": ("fft", "mixture", "zscore"),
}
CELLS = ("lstm", "gru", "rnn")


def wave(*shape: int, scale: float = 1.0, pace: float = 1.7) -> torch.Tensor:
    """Numbers in [-scale, scale] without a pattern to speak of, float64."""
    index = torch.arange(int(np.prod(shape)), dtype=torch.float64) + 1
    return (scale * torch.sin(pace * index * index.sqrt())).view(shape)


def head_values(name: str) -> dict[str, np.ndarray]:
    """Losses, masses, moments and draws of a head over two numbers a step (or 16 codes)."""
    n_codes = 16 if name == "codes" else None
    head = make_head(name, 4, 2, n_codes, 3).double()
    parameters = wave(2, 5, head.linear.out_features, scale=2.5)
    uniforms = (wave(2, 5, 2, head.n_uniforms, pace=0.9) + 1) / 2
    uniforms = uniforms.clamp(1e-4, 1 - 1e-4)
    found = {
        "cold": head.sample(parameters, uniforms, 0.0),
        "warm": head.sample(parameters, uniforms, 1.0),
        "cool": head.sample(parameters, uniforms, 0.6),
    }
    if n_codes is not None:
        found["loss"] = head.loss(parameters, (wave(2, 5).abs() * n_codes).long())
    else:
        targets = wave(2, 5, 2, scale=4.0, pace=0.6)
        if name != "mixture":
            head.observe((parameters - targets).abs().mean((0, 1)), 0.5)
            found["scale"] = head.scale
        found["loss"] = head.loss(parameters, targets)
        found["log_mass"] = head.log_mass(parameters, targets, targets + 0.1)
        found["mean"], found["variance"] = head.mean_and_variance(parameters)
    return {key: value.detach().numpy() for key, value in found.items()}


def codec_values(name: str) -> dict[str, np.ndarray]:
    """What was fitted, a sound as numbers, and the sound that these give."""
    songs = [
        (wave(n, scale=scale) ** 3 + 0.02).numpy().astype(np.float32)
        for n, scale in ((90, 0.8), (50, 0.4))
    ]
    codec = fit_codec(songs, *CODECS[name], frame_samples=16)
    sound = wave(40, scale=0.9, pace=0.3).numpy().astype(np.float32)
    numbers = codec.encode(sound)
    found = {"numbers": numbers, "decoded": codec.decode(numbers), "start": codec.start()}
    found["primed"] = codec.prime(sound[:21])
    return found | {f"fitted_{key}": value for key, value in codec.arrays().items()}


def cell_values(name: str, engine: str = "torch") -> dict[str, np.ndarray]:
    """Outputs, state and gradients of two layers on a linear prediction."""
    model = Model(
        cell=name,
        hidden=3,
        layers=2,
        dropout=0.0,
        loss="mixture",
        n_mixtures=2,
        n_features=1,
        n_codes=None,
        predictor_order=2,
    ).double()
    model.engine = engine
    model.stand_on(np.array([1.2, -0.7]), 0.25)
    with torch.no_grad():
        for index, weight in enumerate(model.parameters()):
            weight.copy_(wave(*weight.shape, scale=0.7, pace=1.1 + 0.1 * index))
    numbers = wave(2, 9, 1, pace=0.4)
    parameters, axis, state = model(numbers, model.initial_state(2))
    loss = model.loss(parameters, axis, wave(2, 9, 1, pace=0.5))
    loss.mean().backward()
    gradients = {f"gradient_{key}": weight.grad for key, weight in model.named_parameters()}
    found = {"outputs": parameters, "base": axis.base}
    found |= {"past": state.past, "state": state.recurrent}
    found = found | {"loss": loss} | gradients
    return {key: value.detach().numpy() for key, value in found.items()}


def every_value() -> dict[str, dict[str, np.ndarray]]:
    """All that is kept: file name -> name -> array."""
    return {
        **{f"head-{name}": head_values(name) for name in HEADS},
        **{f"codec-{name}": codec_values(name) for name in CODECS},
        **{f"cell-{name}": cell_values(name) for name in CELLS},
    }


def main(folder: Path = FOLDER) -> None:
    for name, arrays in every_value().items():
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        print(folder / f"{name}.npz")


if __name__ == "__main__":
    main()
