#!/usr/bin/env python
"""Write the golden files of the kernels into ``kernels/``: what each gave when they were made.

    python tests/golden/make_kernels.py

Run it only when a change of these values is meant, and say why in the commit. Everything goes in
by formula, so that the values depend on no generator of random numbers.
"""

from pathlib import Path

import numpy as np

from noizenet.kernels import draws, recurrent
from noizenet.kernels.assembly import Layer, Network
from noizenet.kernels.guide import Guide
from noizenet.kernels.levinson import levinson
from noizenet.kernels.play import Player
from noizenet.kernels.prediction import predict_blocks

FOLDER = Path(__file__).parent / "kernels"
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
HEADS = {"value": (draws.VALUE, 1), "mixture": (draws.MIXTURE, 9), "codes": (draws.CODES, 21)}
HIDDEN, ROWS, STEPS = 7, 2, 40
N_PAST, N_CONDITIONS, N_BLOCKS, HOP = 9, 4, 5, 9
ENDLESS = 1 << 62


def wave(*shape: int, scale: float = 1.0, pace: float = 1.7, dtype=np.float64) -> np.ndarray:
    """Numbers in [-scale, scale] without a pattern to speak of."""
    index = np.arange(int(np.prod(shape)), dtype=np.float64) + 1
    return (scale * np.sin(pace * index * np.sqrt(index))).reshape(shape).astype(dtype)


def layer(cell: str, n_inputs: int, pace: float, dtype) -> Layer:
    """Torch's parameters of a layer."""
    n = GATES[cell] * HIDDEN
    shapes = ((n, n_inputs), (n, HIDDEN), (n,), (n,))
    return Layer(
        *(wave(*s, scale=0.4, pace=pace + 0.1 * i, dtype=dtype) for i, s in enumerate(shapes))
    )


def recurrent_values(cell: str) -> dict[str, np.ndarray]:
    """States and gradients of whole sequences, float64."""
    x, dh = wave(ROWS, STEPS, 3, pace=0.4), wave(ROWS, STEPS, HIDDEN, pace=0.5)
    state = wave(ROWS, HIDDEN, pace=0.6)
    c = state[::-1].copy() if cell == "lstm" else None
    known = (cell, x, *layer(cell, 3, 1.1, np.float64), state, c)
    states = recurrent.forward(*known)
    gradients = recurrent.backward(*known, *states, dh, state, c)
    names = ("h", "c", "dx", "dw_ih", "dw_hh", "db_ih", "db_hh", "dh0", "dc0")
    found = dict(zip(names, (*states, *gradients), strict=True))
    return {name: value for name, value in found.items() if value is not None}


def play_values(cell: str) -> dict[str, np.ndarray]:
    """What two layers play with each head, two sequences side by side; float32."""
    found = {}
    for name, (kind, _) in HEADS.items():
        codes = kind == draws.CODES
        n_inputs, n_past = (4, 0) if codes else (3, N_PAST)
        fixed = Guide(
            wave(n_past, scale=0.2, pace=1.9).reshape(1, 1, n_past),
            np.full((1, 1), 0.25),
            np.ones((1, 1)),
            np.zeros((1, 1, 0)),
            ENDLESS,
        )
        found |= played_by(cell, name, n_inputs, fixed)
    for name in ("value", "mixture"):
        prediction = wave(ROWS, N_BLOCKS, N_PAST, scale=0.2, pace=1.9)
        unit = 0.25 + wave(ROWS, N_BLOCKS, scale=0.1, pace=2.1)
        scale = 0.7 + wave(ROWS, N_BLOCKS, scale=0.5, pace=2.2)
        conditions = wave(ROWS, N_BLOCKS, N_CONDITIONS, pace=2.4)
        guide = Guide(prediction, unit, scale, conditions, HOP)
        limits = {"reach": 1.5, "feature_limit": 1.2, "error_limit": 1.1}
        guided = played_by(cell, name, 3 + N_CONDITIONS, guide, **limits)
        found |= {f"guided_{key}": value for key, value in guided.items()}
    return found


def played_by(
    cell: str, name: str, n_inputs: int, guide: Guide, **limits: float
) -> dict[str, np.ndarray]:
    """What two layers play that follow a guide."""
    kind, n_outputs = HEADS[name]
    codes = kind == draws.CODES
    network = Network(
        cell=cell,
        layers=[layer(cell, n, 1.1 + n, np.float32) for n in (n_inputs, HIDDEN)],
        head_kind=kind,
        head_weight=wave(n_outputs, HIDDEN, pace=0.7, dtype=np.float32),
        head_bias=wave(n_outputs, scale=0.5, pace=0.8, dtype=np.float32),
        scale=0.1,
        scale_floor=1e-3,
        embedding=wave(n_outputs, n_inputs, pace=0.9, dtype=np.float32) if codes else None,
        lowest=-1.5,
        highest=1.5,
        **limits,
    )
    n_states = 2 if cell == "lstm" else 1
    player = Player(
        network,
        guide,
        wave(ROWS, n_outputs, pace=0.3, dtype=np.float32),
        wave(ROWS, pace=0.2),
        wave(ROWS, guide.prediction.shape[-1], pace=2.3),
        wave(2, n_states, ROWS, HIDDEN, pace=0.6),
    )
    uniforms = (wave(ROWS, STEPS, 2, pace=1.3, scale=0.999, dtype=np.float32) + 1) / 2
    return {name: player.play(uniforms, 0.8), f"{name}_cold": player.play(uniforms, 0.0)}


def prediction_values() -> dict[str, np.ndarray]:
    """Linear prediction of an order that fills no whole vectors."""
    coefficients, heard = wave(1, 1, 37, scale=0.1), wave(2, 37 + 50, pace=0.5)
    blocks = wave(2, 4, 37, scale=0.1, pace=0.6)
    return {
        "predicted": predict_blocks(coefficients, heard, ENDLESS),
        "by_blocks": predict_blocks(blocks, heard, 13),
    }


def levinson_values() -> dict[str, np.ndarray]:
    """Predictions from the autocorrelations of two tones each."""
    lags = np.arange(41)
    tones = np.cos(np.outer(1 + wave(10), lags)).reshape(5, 2, 41).sum(1)
    coefficients, error = levinson(tones * 0.999**lags)
    return {"coefficients": coefficients, "error": error}


def every_value() -> dict[str, dict[str, np.ndarray]]:
    """All that is kept: file name -> name -> array."""
    return {
        **{f"recurrent-{cell}": recurrent_values(cell) for cell in GATES},
        **{f"play-{cell}": play_values(cell) for cell in GATES},
        "prediction": prediction_values(),
        "levinson": levinson_values(),
    }


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(exist_ok=True)
    for name, arrays in every_value().items():
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        print(folder / f"{name}.npz")


if __name__ == "__main__":
    main()
