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
from noizenet.kernels.play import Player
from noizenet.kernels.prediction import predict_each

FOLDER = Path(__file__).parent / "kernels"
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
HEADS = {"value": (draws.VALUE, 1), "mixture": (draws.MIXTURE, 9), "codes": (draws.CODES, 21)}
HIDDEN, ROWS, STEPS = 7, 2, 40


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
    for name, (kind, n_outputs) in HEADS.items():
        codes = kind == draws.CODES
        n_inputs, n_past = (4, 0) if codes else (3, 9)
        network = Network(
            cell=cell,
            layers=[layer(cell, n, 1.1 + n, np.float32) for n in (n_inputs, HIDDEN)],
            head_kind=kind,
            head_weight=wave(n_outputs, HIDDEN, pace=0.7, dtype=np.float32),
            head_bias=wave(n_outputs, scale=0.5, pace=0.8, dtype=np.float32),
            scale=0.1,
            scale_floor=1e-3,
            embedding=wave(n_outputs, n_inputs, pace=0.9, dtype=np.float32) if codes else None,
            prediction=wave(n_past, scale=0.2, pace=1.9, dtype=np.float32),
            unit=0.25,
            lowest=-1.5,
            highest=1.5,
        )
        n_states = 2 if cell == "lstm" else 1
        player = Player(
            network,
            wave(ROWS, n_outputs, pace=0.3, dtype=np.float32),
            wave(ROWS, pace=0.2),
            wave(ROWS, n_past, pace=2.3),
            wave(2, n_states, ROWS, HIDDEN, pace=0.6),
        )
        uniforms = (wave(ROWS, STEPS, 2, pace=1.3, scale=0.999, dtype=np.float32) + 1) / 2
        found[name] = player.play(uniforms, 0.8)
        found[f"{name}_cold"] = player.play(uniforms, 0.0)
    return found


def prediction_values() -> dict[str, np.ndarray]:
    """Linear prediction of an order that fills no whole vectors."""
    return {"predicted": predict_each(wave(37, scale=0.1), wave(2, 37 + 50, pace=0.5))}


def every_value() -> dict[str, dict[str, np.ndarray]]:
    """All that is kept: file name -> name -> array."""
    return {
        **{f"recurrent-{cell}": recurrent_values(cell) for cell in GATES},
        **{f"play-{cell}": play_values(cell) for cell in GATES},
        "prediction": prediction_values(),
    }


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(exist_ok=True)
    for name, arrays in every_value().items():
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        print(folder / f"{name}.npz")


if __name__ == "__main__":
    main()
