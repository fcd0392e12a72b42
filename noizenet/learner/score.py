"""Bits per sample of the 8-bit mu-law code: one yardstick for every head and representation.

The library's level makes the codes: ``(samples - dc) · gain``, so two runs on the same songs are
scored on the same codes. Each is told from what came before it alone.

- Samples: the head's probability of the interval that the code stands for.
- Codes: the head's probability of the code.
- Frames: a frame brings ``hop`` new samples, and the head's mean and variance for its bins map
  linearly to a mean and a variance for each of them. The window hides a sample near the frame's
  edge, so this observation is combined with the library's own level as a prior (two Gaussians
  multiplied), and the code's interval is measured under the result. Each block is told from
  frames that ended before it.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from noizenet.learner.batches import shifted
from noizenet.learner.codecs import Codec, FrameCodec, WaveCodec
from noizenet.learner.guide import Guide
from noizenet.learner.model import Axis, Model
from noizenet.units import mu_law_edges, mu_law_encode

READ_STEPS = 1 << 15
LEAST_LOG_MASS = -40 * math.log(2)  # a code is never charged more than 40 bits


class Score(NamedTuple):
    """How well a sound is told."""

    bits_per_sample: float
    loss: float  # mean of what training makes small, on the head's own axis


def bits_per_sample(
    model: Model, codec: Codec, samples: np.ndarray, guide: Guide | None = None
) -> float:
    """Mean bits per sample that the model needs for a sound it reads as it goes."""
    return score(model, codec, samples, guide).bits_per_sample


@torch.no_grad()
def score(model: Model, codec: Codec, samples: np.ndarray, guide: Guide | None = None) -> Score:
    """Bits per sample and loss of a sound that the model reads as it goes.

    ``guide`` is what it follows: for the bits to be those of a prediction, that of a listener.
    """
    model.eval()
    device = model.residual_scale.device
    numbers = codec.encode(samples)
    inputs, targets = (torch.from_numpy(n).to(device) for n in shifted(numbers, codec.start()))
    state = model.initial_state(1)
    nats, loss, step = 0.0, 0.0, 0
    for read, wanted in zip(inputs.split(READ_STEPS), targets.split(READ_STEPS), strict=True):
        stop = step + len(read)
        followed = None if guide is None else guide.part(step, stop)
        parameters, axis, state = model(read[None], state, guide=followed)
        part_loss = model.loss(parameters, axis, wanted[None]).double().sum().item()
        loss += part_loss
        if isinstance(codec, WaveCodec):
            nats += _wave_nats(model, codec, parameters, axis, samples[step:stop])
        elif isinstance(codec, FrameCodec):
            nats += _frame_nats(model, codec, parameters, samples, step)
        else:
            nats += part_loss
        step = stop
    return Score(nats / math.log(2) / len(samples), loss / step)


def _wave_nats(
    model: Model, codec: WaveCodec, parameters: Tensor, axis: Axis | None, samples: np.ndarray
) -> float:
    bounds = codec.code_interval(samples)
    lower, upper = (model.residual(torch.from_numpy(b).to(parameters)[None], axis) for b in bounds)
    mass = model.head.log_mass(parameters, lower, upper).clamp(min=LEAST_LOG_MASS)
    return -mass.double().sum().item()


def _frame_nats(
    model: Model, codec: FrameCodec, parameters: Tensor, samples: np.ndarray, first: int
) -> float:
    """Nats of the newest blocks of frames ``first``, ``first + 1``, …"""
    hop = codec.hop_samples
    matrix, window = codec.transform.synthesis_matrix(), codec.transform.window
    # the power of a frame is that of its bins (Parseval), whatever their correlations
    prior = ((codec.scale**2 + codec.mean**2) @ matrix**2).sum() / (window**2).sum()
    matrix, window = matrix[:, -hop:], window[-hop:]  # bins -> newest windowed samples
    moments = model.head.mean_and_variance(parameters)
    mean, variance = (moment[0].double().cpu().numpy() for moment in moments)
    seen_mean = (mean * codec.scale + codec.mean) @ matrix
    seen_variance = (variance * codec.scale**2) @ matrix**2
    precision = window**2 / seen_variance + 1 / prior
    mean = torch.from_numpy(window * seen_mean / seen_variance / precision)
    deviation = torch.from_numpy(precision**-0.5)

    known = codec.level.apply(samples[first * hop : (first + len(mean)) * hop])
    codes = mu_law_encode(known).astype(np.int64)
    edges = torch.from_numpy(mu_law_edges())
    mean, deviation = mean.view(-1)[: len(codes)], deviation.view(-1)[: len(codes)]
    lower = (edges[codes] - mean) / deviation
    upper = (edges[codes + 1] - mean) / deviation
    return -normal_log_mass(lower, upper).clamp(min=LEAST_LOG_MASS).sum().item()


def normal_log_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """Log probability of [lower, upper] under the standard normal, stable in both tails."""
    flip = lower > 0  # by symmetry, work in the left tail
    lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    top = torch.special.log_ndtr(upper)
    gap = torch.special.log_ndtr(lower) - top
    return top + torch.log(-torch.expm1(gap.clamp(max=-1e-15)))
