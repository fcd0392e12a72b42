"""The model: numbers in, what comes next out.

Shapes: B batch, T time, D numbers in a step, F features the network reads, P past samples of the
linear prediction. Position t of the outputs speaks of number t + 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.signal
import torch
from torch import Tensor, nn
from torch.nn import functional

from noizenet.kernels.prediction import predict_each
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


class State(NamedTuple):
    """All that a model remembers between two steps."""

    past: Tensor  # (B, P) the latest samples, newest last
    recurrent: Tensor  # (L, S, B, H)

    def detached(self) -> "State":
        return State(self.past.detach(), self.recurrent.detach())


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

    With ``predictor_order`` P > 0 the network stands on a fixed linear prediction learned from the
    songs: it reads the sample, the prediction and how wrong the last one was, and its head speaks
    of the next sample as ``prediction + residual_scale · r``. With P = 0 it reads and predicts the
    number itself, as the reference system did.
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
    ):
        super().__init__()
        self.engine = "torch"  # or "numba"; which one computes, never what
        self.n_codes = n_codes
        self.n_features = n_features
        self.register_buffer("prediction", torch.zeros(predictor_order))
        self.register_buffer("residual_scale", torch.ones(()))
        self.register_buffer("bounds", torch.tensor([-torch.inf, torch.inf]))
        if n_codes is not None:
            self.embedding = nn.Embedding(n_codes, CODE_FEATURES)
            n_inputs = CODE_FEATURES
        else:
            n_inputs = n_features + (2 if predictor_order else 0)
        self.recurrent = Recurrent(cell, n_inputs, hidden, layers, dropout)
        self.head: Head = make_head(loss, hidden, n_features, n_codes, n_mixtures)

    @property
    def predictor_order(self) -> int:
        return len(self.prediction)

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
        return State(past, self.recurrent.initial_state(batch))

    def read(self, numbers: Tensor, past: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features (B, T, F), linear prediction of each next number (B, T, 1) or None, new past."""
        if self.n_codes is not None:
            return self.embedding(numbers), None, past
        order = self.predictor_order
        if order == 0:
            return numbers, None, past
        heard = torch.cat((past, numbers[..., 0]), 1)  # (B, P + T)
        oldest_first = self.prediction.flip(0)
        if self.engine == "numba":
            predicted = torch.from_numpy(predict_each(oldest_first.numpy(), heard.numpy()))
        else:
            predicted = functional.conv1d(heard[:, None], oldest_first[None, None])[:, 0]
        # predicted (B, T + 1): of heard[P:] and of the sample after it
        error = (numbers[..., 0] - predicted[:, :-1]) / self.residual_scale
        following = predicted[:, 1:]
        features = torch.stack((numbers[..., 0], following, error), -1)
        return features, following[..., None], heard[:, -order:]

    def hear(
        self, numbers: Tensor, state: State, masks: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None, State]:
        """Read numbers (B, T, D) or codes (B, T).

        Returns
        -------
        hidden : (B, T, H), what the head reads
        base : (B, T, 1) linear prediction of each next number, or None
        state : after the last number
        """
        features, base, past = self.read(numbers, state.past)
        hidden, recurrent = self.recurrent(features, state.recurrent, self.engine, masks)
        return hidden, base, State(past, recurrent)

    def forward(
        self, numbers: Tensor, state: State, masks: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None, State]:
        """:meth:`hear`, with the head's parameters (B, T, n_outputs) in place of ``hidden``."""
        hidden, base, state = self.hear(numbers, state, masks)
        return self.head(hidden), base, state

    def residual(self, numbers: Tensor, base: Tensor | None) -> Tensor:
        """Numbers on the head's axis."""
        return numbers if base is None else (numbers - base) / self.residual_scale

    def loss(self, parameters: Tensor, base: Tensor | None, targets: Tensor) -> Tensor:
        """What training makes small, (B, T), on the head's axis."""
        return self.head.loss(parameters, self.residual(targets, base))

    def sample(
        self, parameters: Tensor, base: Tensor | None, uniforms: Tensor, temperature: float
    ) -> Tensor:
        """Draw the next numbers (B, T, D) or codes (B, T) with ``uniforms`` (B, T, D, U)."""
        drawn = self.head.sample(parameters, uniforms, temperature)
        if self.n_codes is not None:
            return drawn
        if base is not None:
            drawn = base + self.residual_scale * drawn
        return drawn.clamp(*self.bounds)

    def n_parameters(self) -> int:
        """Numbers that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
