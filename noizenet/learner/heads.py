"""Heads: what "next" is, its loss, its probability and how it is drawn.

Shapes: B batch, T time, D numbers in one step (1 for samples), K distributions in a mixture.
A head's ``parameters`` come from its linear layer, ``(B, T, n_outputs)``. Real-valued heads work
on whatever axis the model gives them; ``log_mass`` is the probability of an interval of it, so
the bits of a mu-law code can be told for every head.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

# The narrowest logistic, as a share of the unit of the head's axis. It keeps the density of digital
# silence finite and the gradient of a perfectly predicted sample bounded.
SCALE_FLOOR = 1e-3
MBE_SQUARE_WEIGHT = 1.0
# For a logistic distribution E|x| = 2 ln 2 · scale.
ABSOLUTE_TO_SCALE = 1 / (2 * math.log(2))


def logistic_log_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """Log probability of [lower, upper] under the standard logistic, stable in both tails.

    s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), with s the logistic function; the bounds may be
    infinite.
    """
    width = (upper - lower).clamp(min=1e-12)
    # log(1 - exp(-w)): the two forms are accurate on either side of ln 2 (Mächler 2012)
    narrow = torch.log(-torch.expm1(-width.clamp(max=math.log(2))))
    wide = torch.log1p(-torch.exp(-width.clamp(min=math.log(2))))
    log_gap = torch.where(width < math.log(2), narrow, wide)
    return functional.logsigmoid(upper) + functional.logsigmoid(-lower) + log_gap


def logistic_quantile(uniforms: Tensor) -> Tensor:
    """The standard logistic's inverse distribution function; uniforms in (0, 1)."""
    return torch.log(uniforms) - torch.log1p(-uniforms)


class Head(nn.Module):
    """A linear layer and the meaning of its outputs."""

    n_uniforms = 1  # random numbers needed to draw one number

    def __init__(self, hidden: int, n_outputs: int):
        super().__init__()
        self.linear = nn.Linear(hidden, n_outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden)


class ValueHead(Head):
    """One value for each number, learned by squared, absolute or signed error.

    ``mse``, ``mae``: mean squared and mean absolute error.

    ``mbe``: the mean bias error mean(p - y) keeps its sign, so alone it has no minimum: predicting
    ever lower always pays. A squared error of weight w bounds it. Completing the square,
    e + w e² = w (e + 1/(2w))² - 1/(4w): the optimum is the squared error's, moved down by 1/(2w).
    That pull is what the signed error does to a network, kept finite so that it can be heard.

    A value alone has no probability. It is scored, and at temperatures above 0 played, as a
    logistic around the value whose scale is the mean absolute error seen in training.
    """

    def __init__(self, hidden: int, n_features: int, loss: str):
        super().__init__(hidden, n_features)
        self.loss_name = loss
        self.n_features = n_features
        self.register_buffer("scale", torch.ones(n_features))
        nn.init.zeros_(self.linear.bias)

    def loss(self, parameters: Tensor, targets: Tensor) -> Tensor:
        error = parameters - targets
        if self.loss_name == "mse":
            each = error.square()
        elif self.loss_name == "mae":
            each = error.abs()
        else:
            each = error + MBE_SQUARE_WEIGHT * error.square()
        return each.mean(-1)

    @torch.no_grad()
    def observe(self, mean_error: Tensor, weight: float) -> None:
        """Move the scale towards the mean absolute error (D,) just seen."""
        if torch.isfinite(mean_error).all():
            scale = (mean_error * ABSOLUTE_TO_SCALE).clamp(min=SCALE_FLOOR)
            self.scale.lerp_(scale, weight)

    def log_mass(self, parameters: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return logistic_log_mass(
            (lower - parameters) / self.scale, (upper - parameters) / self.scale
        )

    def mean_and_variance(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        variance = self.scale.square() * (math.pi**2 / 3)
        return parameters, variance.expand_as(parameters)

    def sample(self, parameters: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        if temperature == 0:
            return parameters
        return parameters + temperature * self.scale * logistic_quantile(uniforms[..., 0])


class MixtureHead(Head):
    """A mixture of K logistic distributions for each number, by maximum likelihood.

    The scale is ``SCALE_FLOOR + softplus``-shaped in log space: it can approach the floor and
    never cross it, and its gradient does not vanish on the way.
    """

    n_uniforms = 2

    def __init__(self, hidden: int, n_features: int, n_mixtures: int):
        super().__init__(hidden, n_features * n_mixtures * 3)
        self.n_features = n_features
        self.n_mixtures = n_mixtures
        # All begin around zero with widths an octave and more apart, so that the untrained head
        # is already a broad, heavy-tailed guess and no two distributions start alike.
        with torch.no_grad():
            self.linear.weight.mul_(0.1)
            bias = self.linear.bias.view(n_features, 3, n_mixtures)
            bias[:, 0] = 0.0
            # on the CPU even where only sizes are wanted (device "meta"), for which torch imports
            # a quarter of a second's worth of modules
            evenly = partial(torch.linspace, steps=n_mixtures, device="cpu")
            bias[:, 1] = evenly(-0.1, 0.1) if n_mixtures > 1 else 0.0
            bias[:, 2] = evenly(-2.0, 0.0) if n_mixtures > 1 else -1.0

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and log scales, each (…, D, K)."""
        shaped = parameters.unflatten(-1, (self.n_features, 3, self.n_mixtures))
        logits, means, raw = shaped.unbind(-2)
        floor = math.log(SCALE_FLOOR)
        return functional.log_softmax(logits, -1), means, floor + functional.softplus(raw - floor)

    def loss(self, parameters: Tensor, targets: Tensor) -> Tensor:
        log_weights, means, log_scales = self._split(parameters)
        z = (targets.unsqueeze(-1) - means) * torch.exp(-log_scales)
        # log of the logistic density: -z - log s - 2 log(1 + exp(-z)), symmetric in z
        log_density = -z.abs() - log_scales - 2 * torch.log1p(torch.exp(-z.abs()))
        return -torch.logsumexp(log_weights + log_density, -1).mean(-1)

    def log_mass(self, parameters: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        log_weights, means, log_scales = self._split(parameters)
        inverse = torch.exp(-log_scales)
        below = (lower.unsqueeze(-1) - means) * inverse
        above = (upper.unsqueeze(-1) - means) * inverse
        return torch.logsumexp(log_weights + logistic_log_mass(below, above), -1)

    def mean_and_variance(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_weights, means, log_scales = self._split(parameters)
        weights = log_weights.exp()
        mean = (weights * means).sum(-1)
        # around the mean: the difference of two squares could come out negative
        square = (means - mean.unsqueeze(-1)).square() + torch.exp(2 * log_scales) * (
            math.pi**2 / 3
        )
        return mean, (weights * square).sum(-1)

    def sample(self, parameters: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        log_weights, means, log_scales = self._split(parameters)
        if temperature == 0:
            chosen = log_weights.argmax(-1, keepdim=True)
            return means.gather(-1, chosen)[..., 0]
        weights = torch.softmax(log_weights / temperature, -1)
        chosen = choose(weights, uniforms[..., 0]).unsqueeze(-1)
        mean = means.gather(-1, chosen)[..., 0]
        scale = log_scales.gather(-1, chosen)[..., 0].exp()
        return mean + temperature * scale * logistic_quantile(uniforms[..., 1])


class CodeHead(Head):
    """One of a vocabulary of codes, by maximum likelihood (softmax)."""

    def __init__(self, hidden: int, n_codes: int):
        super().__init__(hidden, n_codes)

    def loss(self, parameters: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(
            parameters.flatten(0, 1), targets.flatten(), reduction="none"
        ).view_as(targets)

    def sample(self, parameters: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        if temperature == 0:
            return parameters.argmax(-1)
        return choose(torch.softmax(parameters / temperature, -1), uniforms[..., 0, 0])


def choose(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Index drawn by each uniform from weights that sum to 1 along the last axis."""
    above = uniforms.unsqueeze(-1) > weights.cumsum(-1)
    return above.sum(-1).clamp(max=weights.shape[-1] - 1)


def make_head(
    loss: str, hidden: int, n_features: int, n_codes: int | None, n_mixtures: int
) -> Head:
    """The head that a loss asks for."""
    if n_codes is not None:
        return CodeHead(hidden, n_codes)
    if loss == "mixture":
        return MixtureHead(hidden, n_features, n_mixtures)
    return ValueHead(hidden, n_features, loss)
