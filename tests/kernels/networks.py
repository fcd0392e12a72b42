"""Networks, guides and what begins a playing, by chance, for the tests of the playing loop."""

from typing import NamedTuple

import numpy as np

from noizenet.kernels import draws
from noizenet.kernels.assembly import Layer, Network
from noizenet.kernels.guide import Guide
from noizenet.kernels.play import Player

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
ENDLESS = 1 << 62
N_PAST, N_CONDITIONS = 9, 5
# name -> kind, outputs, past samples, conditions
HEADS = {
    "mixture": (draws.MIXTURE, 12, 0, 0),
    "predicted mixture": (draws.MIXTURE, 12, N_PAST, 0),
    "guided mixture": (draws.MIXTURE, 12, N_PAST, N_CONDITIONS),
    "many mixtures": (draws.MIXTURE, 51, 0, 0),
    "value": (draws.VALUE, 1, 0, 0),
    "guided value": (draws.VALUE, 1, 320, 26),
    "conditioned value": (draws.VALUE, 1, 0, N_CONDITIONS),
    "codes": (draws.CODES, 256, 0, 0),
    "few codes": (draws.CODES, 21, 0, 0),
}
CELLS = ("lstm", "gru", "rnn")
GUIDED = ("guided mixture", "guided value", "conditioned value")


class Start(NamedTuple):
    """All that a player is made of."""

    network: Network
    guide: Guide
    outputs: np.ndarray
    base: np.ndarray
    past: np.ndarray
    states: np.ndarray

    def of(self, rows) -> "Start":
        """The start of some of the sequences."""
        guide = self.guide
        if len(guide.unit) > 1:
            guide = Guide(*(part[rows] for part in guide[:4]), guide.hop)
        return Start(
            self.network, guide, self.outputs[rows], self.base[rows], self.past[rows],
            self.states[:, :, rows],
        )  # fmt: skip

    def player(self, *arguments) -> Player:
        return Player(*self, *arguments)


def guide_for(draw, rows, n_blocks, n_past, n_conditions, hop) -> Guide:
    """Predictions that decay, and levels that differ from block to block."""
    prediction = draw.standard_normal((rows, n_blocks, n_past))
    prediction *= 0.9 / np.maximum(np.abs(prediction).sum(-1, keepdims=True), 1e-9)
    return Guide(
        prediction.astype(np.float32),
        draw.uniform(0.1, 0.6, (rows, n_blocks)).astype(np.float32),
        draw.uniform(0.3, 2, (rows, n_blocks)).astype(np.float32),
        draw.uniform(-2, 2, (rows, n_blocks, n_conditions)).astype(np.float32),
        hop,
    )


def make_start(
    head="guided mixture", cell="lstm", hidden=16, layers=1, rows=1, n_blocks=6, hop=11,
    guide_rows=None, **limits,
) -> Start:  # fmt: skip
    """A network that forgets, float32, in the midst of playing."""
    kind, n_outputs, n_past, n_conditions = HEADS[head]
    draw = np.random.default_rng(3)

    def numbers(*shape, scale=1.0):
        return (scale * draw.uniform(-1, 1, shape)).astype(np.float32)

    codes = kind == draws.CODES
    n_inputs = 8 if codes else (3 if n_past else 1) + n_conditions
    n_gates, spread = GATES[cell] * hidden, 1 / np.sqrt(hidden)
    network = Network(
        cell=cell,
        layers=[
            Layer(
                numbers(n_gates, inputs, scale=0.7 * spread),
                numbers(n_gates, hidden, scale=spread),
                numbers(n_gates, scale=spread),
                numbers(n_gates, scale=spread),
            )
            for inputs in (n_inputs, *[hidden] * (layers - 1))
        ],
        head_kind=kind,
        head_weight=numbers(n_outputs, hidden, scale=spread),
        head_bias=numbers(n_outputs, scale=0.5),
        scale=0.3,
        scale_floor=1e-3,
        embedding=numbers(n_outputs, n_inputs) if codes else None,
        **{"lowest": -np.inf, "highest": np.inf} | limits,
    )
    guide_rows = rows if guide_rows is None else guide_rows
    n_states = 2 if cell == "lstm" else 1
    guide = guide_for(draw, guide_rows, n_blocks, n_past, n_conditions, hop)
    return Start(
        network, guide, numbers(rows, n_outputs), numbers(rows), numbers(rows, n_past),
        numbers(layers, n_states, rows, hidden, scale=0.5),
    )  # fmt: skip


def uniforms_for(rows, n_steps) -> np.ndarray:
    """Random numbers in (0, 1), (rows, n_steps, 2); a row's are the same in any company."""
    return np.stack(
        [
            np.random.default_rng(row).uniform(1e-6, 1 - 1e-6, (n_steps, 2)).astype(np.float32)
            for row in range(rows)
        ]
    )
