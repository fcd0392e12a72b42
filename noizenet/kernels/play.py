"""The whole sampler as one compiled loop: network, head, draw, and back into the network.

Letters: R sequences side by side (they share the reading of the weights), n steps, H hidden
units, K distributions of a mixture. Numbers are scalars (samples) or codes; random numbers come
from outside, so every engine draws the same. The plain twin of this loop is
:func:`noizenet.learner.generate.play_plainly`.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from noizenet.kernels import cells
from noizenet.kernels.panels import Panels, aligned_zeros, multiply, pack, padded
from noizenet.kernels.prediction import predict
from noizenet.kernels.recurrent import CELLS, Sizes, _augmented

VALUE, MIXTURE, CODES = 0, 1, 2
GATE_MARGIN = 64  # vectors are written whole, beyond the last gate
BLOCK_STEPS = 4096  # steps between two looks at whether to stop


class Layer(NamedTuple):
    """One recurrent layer, packed for playing."""

    recurrent: Panels  # [h, x] -> gates
    fourth: Panels  # x -> the GRU's k
    drive: np.ndarray  # biases
    h: np.ndarray  # (R, state_step): h, then the input x
    c: np.ndarray


class Sampler(NamedTuple):
    """Everything but the states that a step needs."""

    cell: int
    n_gates: int
    n_hidden: int
    n_inputs: int  # of the first layer
    state_step: int
    head: Panels
    head_bias: np.ndarray
    head_step: int
    head_kind: int
    n_outputs: int
    scale: float  # of a value head's logistic
    log_floor: float  # of a mixture's scales
    prediction: np.ndarray  # (P,) oldest sample's coefficient first
    unit: float  # residual scale of the linear prediction
    lowest: float  # bounds of what is played
    highest: float
    embedding: np.ndarray  # (codes, D), or (0, 0)


def pack_layer(cell: str, w_ih, w_hh, b_ih, b_hh, rows: int, state_step: int) -> Layer:
    """Pack torch's parameters of a layer, with room for the state of ``rows`` sequences."""
    kind = CELLS[cell]
    n_hidden, n_inputs = w_hh.shape[1], w_ih.shape[1]
    weights = _augmented(kind, Sizes(rows, 1, n_inputs, n_hidden), w_ih, w_hh, b_ih, b_hh)
    reached = kind.n_recurrent * n_hidden
    drive = aligned_zeros(len(weights), np.float32)
    drive[: len(weights)] = weights[:, -1]
    return Layer(
        recurrent=pack(weights[:reached, :-1].T, 1, rows),
        fourth=pack(weights[reached:, n_hidden:-1].T, 1, rows),
        drive=drive,
        h=aligned_zeros(rows * state_step, np.float32),
        c=aligned_zeros(rows * state_step, np.float32),
    )


def pack_head(weight, bias, rows: int) -> tuple[Panels, np.ndarray]:
    """Pack a linear layer (outputs, H), and its bias with room for whole vectors."""
    start = np.zeros(padded(len(bias), np.float32), np.float32)
    start[: len(bias)] = bias
    return pack(np.ascontiguousarray(weight.T), 1, rows), start


def state_step(n_hidden: int, n_inputs: int) -> int:
    """Room for the h and the input of one sequence in any layer."""
    return padded(n_hidden + max(n_inputs, n_hidden), np.float32)


@njit
def _softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@njit
def _choose(outputs, at, n, temperature, uniform):
    """Index drawn from softmax(outputs / temperature), or the largest at temperature 0."""
    best = 0
    for k in range(1, n):
        if outputs[at + k] > outputs[at + best]:
            best = k
    if temperature == 0:
        return best
    top = outputs[at + best]
    total = 0.0
    for k in range(n):
        total += math.exp((outputs[at + k] - top) / temperature)
    wanted = uniform * total
    reached = 0.0
    for k in range(n - 1):
        reached += math.exp((outputs[at + k] - top) / temperature)
        if wanted <= reached:
            return k
    return n - 1


@njit
def _draw(sampler, outputs, at, uniforms, temperature):
    """A number on the head's axis, or a code."""
    if sampler.head_kind == CODES:
        return float(_choose(outputs, at, sampler.n_outputs, temperature, uniforms[0]))
    if sampler.head_kind == VALUE:
        number = float(outputs[at])
        if temperature > 0:
            quantile = math.log(uniforms[0]) - math.log1p(-uniforms[0])
            number += temperature * sampler.scale * quantile
        return number
    n = sampler.n_outputs // 3
    chosen = _choose(outputs, at, n, temperature, uniforms[0])
    number = float(outputs[at + n + chosen])
    if temperature > 0:
        raw = outputs[at + 2 * n + chosen]
        scale = math.exp(sampler.log_floor + _softplus(raw - sampler.log_floor))
        quantile = math.log(uniforms[1]) - math.log1p(-uniforms[1])
        number += temperature * scale * quantile
    return number


@njit
def _bounded(number, sampler):
    """Within the bounds; NaN stays NaN."""
    if number < sampler.lowest:
        return sampler.lowest
    return sampler.highest if number > sampler.highest else number


@njit(cache=True, nogil=True)
def play_block(
    sampler, layers, outputs, base, heard, running, alive, uniforms, temperature, played
):
    """Play ``n`` steps of R sequences.

    ``outputs`` (R, head_step) are the head's about the next number and ``base`` (R,) its linear
    prediction; ``heard`` (R, P + n) begins with the past; ``played`` (R, n) receives the numbers.
    These and the layers' states are carried to the next block. ``alive[r]`` counts the numbers of
    a sequence up to the first that is not finite, which clears ``running[r]``.
    """
    rows, n = played.shape
    n_hidden, step_room = sampler.n_hidden, sampler.state_step
    n_past = len(sampler.prediction)
    gate_room = sampler.n_gates * n_hidden + GATE_MARGIN
    gates = np.zeros(rows * gate_room, np.float32)
    for t in range(n):
        for r in range(rows):
            number = _draw(sampler, outputs, r * sampler.head_step, uniforms[r, t], temperature)
            first = layers[0].h
            at = r * step_room + n_hidden
            if sampler.head_kind == CODES:
                played[r, t] = number
                for i in range(sampler.n_inputs):
                    first[at + i] = sampler.embedding[int(number), i]
            elif n_past == 0:
                sample = _bounded(number, sampler)
                played[r, t] = sample
                first[at] = sample
            else:
                sample = np.float32(_bounded(base[r] + sampler.unit * number, sampler))
                played[r, t] = sample
                heard[r, n_past + t] = sample
                error = (sample - base[r]) / sampler.unit
                base[r] = predict(sampler.prediction, heard[r, t + 1 : t + 1 + n_past])
                first[at] = sample
                first[at + 1] = base[r]
                first[at + 2] = error
            running[r] = running[r] and math.isfinite(played[r, t])
            alive[r] += running[r]
        for depth in range(len(layers)):
            layer = layers[depth]
            multiply(
                layer.recurrent, rows, layer.h, 0, step_room, 0,
                layer.drive, 0, 0, gates, 0, gate_room, t % 2 == 1,
            )  # fmt: skip
            if sampler.cell == cells.GRU:
                multiply(
                    layer.fourth, rows, layer.h, n_hidden, step_room, 0,
                    layer.drive, 3 * n_hidden, 0, gates, 3 * n_hidden, gate_room, False,
                )  # fmt: skip
            for r in range(rows):
                cells.advance(
                    sampler.cell, gates, r * gate_room, layer.h, layer.c, r * step_room, n_hidden
                )
            if depth + 1 < len(layers):
                above = layers[depth + 1].h
                for r in range(rows):
                    for j in range(n_hidden):
                        above[r * step_room + n_hidden + j] = layer.h[r * step_room + j]
        multiply(
            sampler.head, rows, layers[len(layers) - 1].h, 0, step_room, 0,
            sampler.head_bias, 0, 0, outputs, 0, sampler.head_step, False,
        )  # fmt: skip


class Player:
    """Sequences in the midst of playing.

    Parameters
    ----------
    sampler, layers : the packed network
    outputs : (R, n_outputs) what the head says of the first number to play
    base : (R,) its linear prediction
    past : (R, P) the latest samples, newest last
    states : for each layer its h and c, (R, H) each; c is None but for an LSTM
    """

    def __init__(self, sampler: Sampler, layers, outputs, base, past, states):
        self.sampler = sampler
        self.layers = tuple(layers)
        self.rows = len(outputs)
        self._outputs = aligned_zeros(self.rows * sampler.head_step, np.float32)
        room = self._outputs[: self.rows * sampler.head_step].reshape(self.rows, -1)
        room[:, : sampler.n_outputs] = outputs
        self._base = np.array(base, np.float32)
        self._past = np.array(past, np.float32)
        self._running = np.ones(self.rows, np.int64)
        self.n_finite = np.zeros(self.rows, np.int64)
        for layer, (h, c) in zip(self.layers, states, strict=True):
            for part, state in ((layer.h, h), (layer.c, c)):
                if state is not None:
                    view = part[: self.rows * sampler.state_step].reshape(self.rows, -1)
                    view[:, : sampler.n_hidden] = state

    def play(self, uniforms: np.ndarray, temperature: float) -> np.ndarray:
        """Play on for as many steps as there are ``uniforms`` (R, n, 2); (R, n) float32."""
        n_steps = uniforms.shape[1]
        played = np.empty((self.rows, n_steps), np.float32)
        n_past = self._past.shape[1]
        heard = np.concatenate((self._past, np.zeros_like(played)), 1)
        play_block(
            self.sampler, self.layers, self._outputs, self._base, heard, self._running,
            self.n_finite, uniforms, float(temperature), played,
        )  # fmt: skip
        self._past = heard[:, heard.shape[1] - n_past :]
        return played
