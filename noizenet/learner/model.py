"""The model: numbers in, what comes next out.

Shapes: B batch, T time, D numbers in a step, F features the network reads, P past samples of the
linear prediction. Position t of the outputs speaks of the number after the one read there.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.signal
import torch
from torch import Tensor, nn
from torch.nn import functional

from noizenet.kernels.prediction import predict_blocks
from noizenet.learner.guide import ENDLESS, Guide
from noizenet.learner.heads import Head, make_head
from noizenet.learner.recurrent import Recurrent

CODE_FEATURES = 32  # size of the embedding of a code
# A little white noise in the autocorrelation (-90 dB) keeps the predictor from living on
# rounding; the bandwidth expansion pulls the poles of 1/A(z) inside the circle, so that what it
# predicts from itself dies away (time constant 1 / (1 - 0.99995) samples, 0.9 s).
WHITE_NOISE_SHARE = 1e-9
BANDWIDTH_EXPANSION = 0.99995
# In float32 a residual far below the signal is rounding; it is not blown up beyond this.
LEAST_RESIDUAL_SCALE = 1e-3
# What a network with a guide reads is in units of the guide, and no more than these of them: what
# it played itself must not show it what no song could.
FEATURE_LIMIT, ERROR_LIMIT = 4.0, 3.0
# How many times as loud as its guide it may be before it is damped: the samples of a low note
# that are looked at are at most 1.4 times as loud as the whole of it.
OVERSHOOT = 1.5
# And how many times as large a prediction may be to be followed; peaks of music are below 5.
BELIEVABLE = 6.0


class State(NamedTuple):
    """All that a model remembers between two steps."""

    past: Tensor  # (B, P) the latest samples, newest last
    base: Tensor  # (B, 1) the linear prediction of the sample to be read next
    recurrent: Tensor  # (L, S, B, H)

    def detached(self) -> "State":
        return State(*(part.detach() for part in self))


class Axis(NamedTuple):
    """The head's axis in terms of numbers: base + unit · r."""

    base: Tensor  # (B, T, 1) linear prediction of each next number
    unit: Tensor  # (B, T, 1)

    def part(self, steps: slice) -> "Axis":
        return Axis(self.base[:, steps], self.unit[:, steps])


def fit_linear_prediction(songs: Sequence[np.ndarray], order: int) -> tuple[np.ndarray, float]:
    """The best fixed linear prediction of all songs together (autocorrelation method).

    Returns
    -------
    coefficients : (order,) float64, the newest sample's first; 1/A(z) is stable
    residual_scale : float, RMS of what is left unpredicted
    """
    if order == 0:
        return np.zeros(0), 1.0
    lags = np.zeros(order + 1)
    for song in songs:
        song = np.asarray(song, np.float64)
        size = 1 << (len(song) + order).bit_length()
        spectrum = np.abs(np.fft.rfft(song, size)) ** 2
        lags += np.fft.irfft(spectrum, size)[: order + 1]
    lags[0] *= 1 + WHITE_NOISE_SHARE
    coefficients = scipy.linalg.solve_toeplitz(lags[:-1], lags[1:])
    coefficients *= BANDWIDTH_EXPANSION ** np.arange(1, order + 1)
    n_samples, squares = 0, 0.0
    for song in songs:
        predicted = scipy.signal.oaconvolve(song, np.concatenate(([0.0], coefficients)))[
            : len(song)
        ]
        squares += float(np.square(song - predicted).sum())
        n_samples += len(song)
    return coefficients, max(LEAST_RESIDUAL_SCALE, float(np.sqrt(squares / n_samples)))


class Model(nn.Module):
    """Input, recurrent stack and head.

    With ``predictor_order`` P > 0 the network stands on a linear prediction: it reads the sample,
    the prediction and how wrong the last one was, and its head speaks of the next sample as
    ``prediction + unit · r``. The prediction is fixed and learned from the songs, or, with
    ``n_conditions``, that of a guide (:mod:`noizenet.learner.guide`), whose conditions the
    network reads too. With P = 0 it reads and predicts the number itself, as the reference
    system did.
    """

    def __init__(
        self,
        *,
        cell: str,
        hidden: int,
        layers: int,
        dropout: float,
        loss: str,
        n_mixtures: int,
        n_features: int,
        n_codes: int | None,
        predictor_order: int,
        n_conditions: int = 0,
    ):
        super().__init__()
        self.engine = "torch"  # or "numba"; which one computes, never what
        self.n_codes = n_codes
        self.n_features = n_features
        self.predictor_order = predictor_order
        self.n_conditions = n_conditions
        if not self.guided:
            self.register_buffer("prediction", torch.zeros(predictor_order))
        self.register_buffer("residual_scale", torch.ones(()))
        self.register_buffer("bounds", torch.tensor([-torch.inf, torch.inf]))
        self.register_buffer("reach", torch.tensor(torch.inf))
        if n_codes is not None:
            self.embedding = nn.Embedding(n_codes, CODE_FEATURES)
            n_inputs = CODE_FEATURES
        else:
            n_inputs = n_features + (2 if predictor_order else 0) + n_conditions
        self.recurrent = Recurrent(cell, n_inputs, hidden, layers, dropout)
        self.head: Head = make_head(loss, hidden, n_features, n_codes, n_mixtures)

    @property
    def guided(self) -> bool:
        """Whether it needs a guide."""
        return self.n_conditions > 0

    def stand_on(self, coefficients: np.ndarray, residual_scale: float) -> None:
        """Take over a linear prediction from :func:`fit_linear_prediction`."""
        self.prediction.copy_(torch.from_numpy(np.asarray(coefficients)))
        self.residual_scale.fill_(residual_scale)

    def stay_within(self, lowest: float, highest: float) -> None:
        """Play no number beyond these: what no sound can be must not be heard as its past."""
        self.bounds.copy_(torch.tensor([lowest, highest]))

    def initial_state(self, batch: int) -> State:
        """Nothing heard yet."""
        past = self.residual_scale.new_zeros(batch, self.predictor_order)
        return State(past, past.new_zeros(batch, 1), self.recurrent.initial_state(batch))

    def own_guide(self) -> Guide:
        """The fixed linear prediction as a guide of one block that never ends."""
        unit = self.residual_scale.view(1, 1)
        prediction = self.prediction.flip(0)[None, None]
        return Guide(prediction, unit, torch.ones_like(unit), unit.new_zeros(1, 1, 0), ENDLESS)

    @property
    def limits(self) -> tuple[float, float]:
        """Of what it reads: of samples and predictions, and of their error, in units."""
        return (FEATURE_LIMIT, ERROR_LIMIT) if self.guided else (math.inf, math.inf)

    def read(
        self, numbers: Tensor, state: State, guide: Guide | None
    ) -> tuple[Tensor, Axis | None, Tensor, Tensor]:
        """Features (B, T, F), the head's axis or None, and the past and base of the next state."""
        if self.n_codes is not None:
            return self.embedding(numbers), None, state.past, state.base
        if self.predictor_order == 0:
            return numbers, None, state.past, state.base
        guide = self.own_guide() if guide is None else guide
        batch, n_steps = numbers.shape[:2]
        samples = numbers[..., 0]
        heard = torch.cat((state.past, samples), 1)  # (B, P + T)
        following = self._predict(guide, heard, n_steps)
        block = guide.block_of_each(n_steps)
        unit, scale, conditions = (part[:, block] for part in guide[1:4])
        error = (samples - torch.cat((state.base, following[:, :-1]), 1)) / unit
        most, most_wrong = self.limits
        features = torch.stack(
            (
                (samples / scale).clamp(-most, most),
                (following / scale).clamp(-most, most),
                error.clamp(-most_wrong, most_wrong),
            ),
            -1,
        )
        if self.guided:
            features = torch.cat((features, conditions.expand(batch, -1, -1)), -1)
        axis = Axis(following[..., None], unit.expand(batch, -1)[..., None])
        return features, axis, heard[:, -self.predictor_order :], following[:, -1:]

    def _predict(self, guide: Guide, heard: Tensor, n_steps: int) -> Tensor:
        """The linear prediction (B, T) of the number after each that is read."""
        if self.engine == "numba":
            prediction = guide.prediction.expand(len(heard), -1, -1)
            return torch.from_numpy(predict_blocks(prediction.numpy(), heard.numpy(), guide.hop))
        found = []
        for start in range(0, n_steps, min(guide.hop, n_steps)):
            stop = min(start + guide.hop, n_steps)
            oldest_first = guide.part(start, stop).prediction[:, 0]  # (B or 1, P)
            windows = heard[:, start + 1 : stop + self.predictor_order]
            rows = windows[None] if len(oldest_first) > 1 else windows[:, None]
            part = functional.conv1d(rows, oldest_first[:, None], groups=len(oldest_first))
            found.append(part[0] if len(oldest_first) > 1 else part[:, 0])
        return torch.cat(found, 1)

    def hear(
        self,
        numbers: Tensor,
        state: State,
        masks: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> tuple[Tensor, Axis | None, State]:
        """Read numbers (B, T, D) or codes (B, T).

        Returns
        -------
        hidden : (B, T, H), what the head reads
        axis : what its numbers mean, or None where they mean themselves
        state : after the last number
        """
        features, axis, past, base = self.read(numbers, state, guide)
        hidden, recurrent = self.recurrent(features, state.recurrent, self.engine, masks)
        return hidden, axis, State(past, base, recurrent)

    def forward(
        self,
        numbers: Tensor,
        state: State,
        masks: torch.Generator | None = None,
        guide: Guide | None = None,
    ) -> tuple[Tensor, Axis | None, State]:
        """:meth:`hear`, with the head's parameters (B, T, n_outputs) in place of ``hidden``."""
        hidden, axis, state = self.hear(numbers, state, masks, guide)
        return self.head(hidden), axis, state

    def residual(self, numbers: Tensor, axis: Axis | None) -> Tensor:
        """Numbers on the head's axis."""
        return numbers if axis is None else (numbers - axis.base) / axis.unit

    def loss(self, parameters: Tensor, axis: Axis | None, targets: Tensor) -> Tensor:
        """What training makes small, (B, T), on the head's axis."""
        return self.head.loss(parameters, self.residual(targets, axis))

    def sample(
        self, parameters: Tensor, axis: Axis | None, uniforms: Tensor, temperature: float
    ) -> Tensor:
        """Draw the next numbers (B, T, D) or codes (B, T) with ``uniforms`` (B, T, D, U)."""
        drawn = self.head.sample(parameters, uniforms, temperature)
        if self.n_codes is not None:
            return drawn
        if axis is not None:
            drawn = axis.base + axis.unit * drawn.clamp(-self.reach, self.reach)
        return drawn.clamp(*self.bounds)

    def n_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
