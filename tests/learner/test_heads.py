import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from scipy.stats import logistic
from torch.autograd import gradcheck

from noizenet.learner.heads import (
    ABSOLUTE_TO_SCALE,
    MBE_SQUARE_WEIGHT,
    SCALE_FLOOR,
    CodeHead,
    MixtureHead,
    ValueHead,
    choose,
    logistic_log_mass,
    make_head,
)
from noizenet.learner.score import normal_log_mass
from noizenet.units import mu_law_edges

LOG_FLOOR = math.log(SCALE_FLOOR)


def parameters_of(weights, means, scales):
    """A mixture head's parameters (1, 1, 3 K), float64, of a mixture given by its numbers."""
    raw = np.log(np.asarray(scales, float)) - LOG_FLOOR  # softplus is undone by log(e^x - 1)
    raw = raw + np.log(-np.expm1(-raw)) + LOG_FLOOR
    return torch.from_numpy(np.concatenate((np.log(weights), means, raw)))[None, None]


def mixture_cdf(weights, means, scales):
    def cdf(x):
        x = np.asarray(x, float)[..., None]
        return (np.asarray(weights) * logistic.cdf(x, means, scales)).sum(-1)

    return cdf


MIXTURE = ((0.2, 0.5, 0.3), (-1.0, 0.1, 2.0), (0.3, 0.05, 0.8))


# --- the mass of intervals -----------------------------------------------------------------------


def test_log_mass_agrees_with_scipy():
    rng = np.random.default_rng(0)
    lower = rng.uniform(-8, 8, 500)
    upper = lower + 10 ** rng.uniform(-3, 1, 500)
    expected = np.log(logistic.cdf(upper) - logistic.cdf(lower))
    found = logistic_log_mass(torch.from_numpy(lower), torch.from_numpy(upper))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("distance", [50.0, 800.0, 1e5])
def test_log_mass_in_the_tails(side, distance):
    """Where the difference of two distribution functions is 0, its logarithm still is known."""
    near, far = distance, distance + 0.5
    expected = -distance + math.log(-math.expm1(-0.5))  # e^-x (1 - e^-w), far out
    bounds = sorted((side * near, side * far))
    found = logistic_log_mass(*(torch.tensor(b, dtype=torch.float64) for b in bounds))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_log_mass_of_unbounded_intervals():
    infinite, zero, far = (torch.tensor(x) for x in (math.inf, 0.0, 30.0))
    assert logistic_log_mass(-infinite, infinite).item() == 0
    assert logistic_log_mass(-infinite, zero).item() == pytest.approx(-math.log(2), rel=1e-6)
    assert logistic_log_mass(zero, infinite).item() == pytest.approx(-math.log(2), rel=1e-6)
    assert logistic_log_mass(far, infinite).item() == pytest.approx(-30, rel=1e-6)


def test_normal_log_mass_agrees_with_scipy():
    rng = np.random.default_rng(0)
    lower = rng.uniform(-30, 30, 500)
    upper = lower + 10 ** rng.uniform(-2, 1, 500)
    left, right = np.where(lower > 0, -upper, lower), np.where(lower > 0, -lower, upper)
    log_cdf = scipy.stats.norm.logcdf
    expected = log_cdf(right) + np.log(-np.expm1(log_cdf(left) - log_cdf(right)))
    found = normal_log_mass(torch.from_numpy(lower), torch.from_numpy(upper))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    whole = normal_log_mass(*torch.tensor([[-math.inf], [math.inf]], dtype=torch.float64))
    assert whole.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mean", [-4.0, 0.0, 0.3, 1000.0])
@pytest.mark.parametrize("scale", [1e-30, SCALE_FLOOR, 0.02, 1.0, 1e3, 1e6])
def test_all_codes_together_have_probability_one(scale, mean, dtype):
    edges = torch.from_numpy(mu_law_edges()).to(dtype)[:, None, None, None]  # (257, B, T, D)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4

    value = ValueHead(1, 1, "mse").to(dtype)
    value.scale.fill_(scale)
    at = torch.full((1, 1, 1), mean, dtype=dtype)
    total = torch.logsumexp(value.log_mass(at, edges[:-1], edges[1:]).double().flatten(), 0)
    assert abs(total.item()) < tolerance

    mixture = MixtureHead(1, 1, 3).to(dtype)
    # log weights, means and raw log scales; these are of the scale, the floor, and in between
    raw = [math.log(scale), -300.0, math.log(scale) / 2]
    parameters = torch.tensor([0.0, -3.0, 2.0, mean, -mean, 0.1, *raw], dtype=dtype)[None, None]
    mass = mixture.log_mass(parameters, edges[:-1], edges[1:])
    assert torch.isfinite(mass).all()
    assert abs(torch.logsumexp(mass.double().flatten(), 0).item()) < tolerance


def test_mixture_mass_agrees_with_scipy():
    edges = mu_law_edges()
    head = MixtureHead(1, 1, 3).double()
    lower, upper = (torch.from_numpy(e)[:, None, None, None] for e in (edges[:-1], edges[1:]))
    found = head.log_mass(parameters_of(*MIXTURE), lower, upper).exp().flatten()
    np.testing.assert_allclose(found, np.diff(mixture_cdf(*MIXTURE)(edges)), atol=1e-13)


# --- losses --------------------------------------------------------------------------------------


def test_mixture_loss_agrees_with_scipy():
    targets = np.concatenate((np.linspace(-5, 5, 201), [-1e3, 1e3]))
    weights, means, scales = (np.asarray(part) for part in MIXTURE)
    log_densities = np.log(weights) + logistic.logpdf(targets[:, None], means, scales)
    expected = -scipy.special.logsumexp(log_densities, axis=1)
    parameters = parameters_of(*MIXTURE).expand(1, len(targets), -1)
    found = MixtureHead(1, 1, 3).double().loss(parameters, torch.from_numpy(targets)[None, :, None])
    assert found.shape == (1, len(targets))
    np.testing.assert_allclose(found[0], expected, rtol=1e-9)


def test_mixture_loss_of_several_numbers_is_their_mean():
    torch.manual_seed(0)
    head = MixtureHead(1, 3, 4).double()
    parameters = torch.randn(2, 5, 36, dtype=torch.float64)
    targets = torch.randn(2, 5, 3, dtype=torch.float64)
    alone = MixtureHead(1, 1, 4).double()
    each = [
        alone.loss(parameters[..., 12 * d : 12 * (d + 1)], targets[..., d : d + 1])
        for d in range(3)
    ]
    torch.testing.assert_close(head.loss(parameters, targets), torch.stack(each).mean(0))


@pytest.mark.parametrize("loss", ["mse", "mae", "mbe"])
def test_value_losses(loss):
    guess = torch.tensor([[[0.5, -1.0], [2.0, 0.0]]])
    wanted = torch.tensor([[[0.0, 1.0], [2.0, -0.5]]])
    by_hand = {
        "mse": [(0.25 + 4) / 2, 0.25 / 2],
        "mae": [(0.5 + 2) / 2, 0.5 / 2],
        "mbe": [(0.5 - 2 + 0.25 + 4) / 2, (0.5 + 0.25) / 2],
    }
    found = ValueHead(1, 2, loss).loss(guess, wanted)
    torch.testing.assert_close(found, torch.tensor([by_hand[loss]]))


def test_signed_error_is_bounded_below():
    w = MBE_SQUARE_WEIGHT
    errors = torch.linspace(-1e4, 1e4, 200_001, dtype=torch.float64)[None, :, None]
    losses = ValueHead(1, 1, "mbe").loss(errors, torch.zeros_like(errors))
    assert losses.min().item() == pytest.approx(-1 / (4 * w), abs=1e-9)
    assert errors[0, losses.argmin(), 0].item() == pytest.approx(-1 / (2 * w), abs=1e-9)


def test_code_loss_agrees_with_scipy():
    rng = np.random.default_rng(0)
    logits, codes = rng.standard_normal((2, 7, 256)) * 5, rng.integers(256, size=(2, 7))
    expected = -np.take_along_axis(scipy.special.log_softmax(logits, -1), codes[..., None], -1)
    found = CodeHead(1, 256).loss(torch.from_numpy(logits), torch.from_numpy(codes))
    np.testing.assert_allclose(found, expected[..., 0], rtol=1e-12)


@pytest.mark.parametrize("loss", ["mixture", "mse", "mae", "mbe", "codes"])
def test_gradients_of_losses(loss):
    torch.manual_seed(0)
    n_codes = 11 if loss == "codes" else None
    head = make_head(loss, 1, 2, n_codes, 3).double()
    parameters = torch.randn(2, 3, head.linear.out_features, dtype=torch.float64) * 2
    targets = (
        torch.randn(2, 3, 2, dtype=torch.float64) if n_codes is None else torch.ones(2, 3).long()
    )
    assert gradcheck(lambda p: head.loss(p, targets), parameters.requires_grad_())


def test_gradients_near_the_floor_and_far_away():
    """Narrow logistics and targets well off them, where a shortcut would lose the gradient."""
    head = MixtureHead(1, 1, 2).double()
    parameters = torch.tensor([[[0.3, -0.2, 0.5, -3.0, LOG_FLOOR - 2, 0.4]]], dtype=torch.float64)
    for target in (0.5003, 40.0, -200.0):
        targets = torch.full((1, 1, 1), target, dtype=torch.float64)
        assert gradcheck(lambda p, t=targets: head.loss(p, t), parameters.requires_grad_())


@pytest.mark.parametrize("loss", ["mixture", "mse", "mae", "mbe"])
@pytest.mark.parametrize("target", [1e4, -1e4, 0.0])
@pytest.mark.parametrize("raw", [0.0, -300.0, 300.0])
def test_loss_and_gradient_stay_finite(loss, target, raw):
    head = make_head(loss, 1, 1, None, 2)
    parameters = torch.zeros(1, 1, head.linear.out_features)
    if loss == "mixture":
        parameters[..., 4:] = raw
    parameters.requires_grad_()
    value = head.loss(parameters, torch.full((1, 1, 1), target))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(parameters.grad).all()


def test_mixture_scale_never_falls_under_its_floor():
    """The density at an exact hit is 1/(4 s): its largest possible value tells the smallest s."""
    head = MixtureHead(1, 1, 1)
    hit = torch.zeros(1, 1, 1)
    for raw in (0.0, LOG_FLOOR, -20.0, -1e4, -1e30):
        density = torch.exp(-head.loss(torch.tensor([[[0.0, 0.0, raw]]]), hit)).item()
        assert density <= 1 / (4 * SCALE_FLOOR) * (1 + 1e-5)
    assert density == pytest.approx(1 / (4 * SCALE_FLOOR), rel=1e-4)  # and is reached


# --- mean, variance, scale -----------------------------------------------------------------------


def test_mixture_mean_and_variance():
    weights, means, scales = (np.asarray(part) for part in MIXTURE)
    mean = weights @ means
    variance = weights @ (means**2 + scales**2 * math.pi**2 / 3) - mean**2
    found = MixtureHead(1, 1, 3).double().mean_and_variance(parameters_of(*MIXTURE))
    assert found[0].item() == pytest.approx(mean, rel=1e-12)
    assert found[1].item() == pytest.approx(variance, rel=1e-12)


def test_variance_of_a_narrow_mixture_far_out():
    """As float32 and far from 0, where a difference of squares would be all rounding."""
    parameters = parameters_of((0.5, 0.5), (100.0, 100.0), (0.002, 0.002)).float()
    variance = MixtureHead(1, 1, 2).mean_and_variance(parameters)[1].item()
    assert variance == pytest.approx(0.002**2 * math.pi**2 / 3, rel=1e-3)


def test_value_head_learns_its_scale_from_the_error():
    rng = np.random.default_rng(0)
    draws = logistic.rvs(scale=(0.2, 3.0), size=(4, 20_000, 2), random_state=rng)
    head = ValueHead(1, 2, "mse").double()
    head.observe(torch.from_numpy(np.abs(draws).mean((0, 1))), 1.0)
    np.testing.assert_allclose(head.scale, (0.2, 3.0), rtol=0.02)
    values = torch.zeros(4, 3, 2, dtype=torch.float64)
    variance = head.mean_and_variance(values)[1]
    assert variance.shape == values.shape
    np.testing.assert_allclose(variance[0, 0], np.var(draws, (0, 1)), rtol=0.05)
    nothing = torch.zeros(2, dtype=torch.float64)
    head.observe(nothing, 0.5)  # half the way to an error of nothing, which is the floor
    np.testing.assert_allclose(head.scale, (0.1, 1.5), rtol=0.03)
    head.observe(nothing, 1.0)
    np.testing.assert_allclose(head.scale, SCALE_FLOOR)
    head.observe(nothing * math.nan, 1.0)
    np.testing.assert_allclose(head.scale, SCALE_FLOOR)


def test_absolute_error_of_a_logistic():
    error = scipy.stats.logistic.expect(abs)
    assert error * ABSOLUTE_TO_SCALE == pytest.approx(1, rel=1e-6)


# --- drawing -------------------------------------------------------------------------------------

N_DRAWS = 20_000


def drawn(head, parameters, temperature, rng=0):
    shape = (1, head.n_features if hasattr(head, "n_features") else 1, head.n_uniforms)
    uniforms = torch.from_numpy(np.random.default_rng(rng).uniform(1e-9, 1, (N_DRAWS, *shape)))
    uniforms = uniforms.to(parameters.dtype).clamp(max=1 - 2**-24)
    spread = parameters.expand(N_DRAWS, 1, -1)
    return head.sample(spread, uniforms, temperature).squeeze().numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
def test_mixture_draws_its_distribution(temperature):
    head = MixtureHead(1, 1, 3).double()
    weights, means, scales = (np.asarray(part) for part in MIXTURE)
    tempered = weights ** (1 / temperature)
    expected = mixture_cdf(tempered / tempered.sum(), means, temperature * scales)
    numbers = drawn(head, parameters_of(*MIXTURE), temperature)
    assert scipy.stats.kstest(numbers, expected).pvalue > 0.01
    # the test can tell: another temperature's distribution is not this one
    assert scipy.stats.kstest(numbers, mixture_cdf(weights, means, 1.2 * scales)).pvalue < 1e-3


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_value_draws_a_logistic_around_itself(temperature):
    head = ValueHead(1, 1, "mse").double()
    head.scale.fill_(0.3)
    numbers = drawn(head, torch.full((1, 1, 1), 0.7, dtype=torch.float64), temperature)
    expected = logistic(0.7, 0.3 * temperature)
    assert scipy.stats.kstest(numbers, expected.cdf).pvalue > 0.01
    assert scipy.stats.kstest(numbers, logistic(0.75, 0.3 * temperature).cdf).pvalue < 1e-3


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_codes_are_drawn_as_often_as_they_should_be(temperature):
    head = CodeHead(1, 8).double()
    logits = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1.5, -30.0])
    expected = N_DRAWS * scipy.special.softmax(logits / temperature)
    found = np.bincount(drawn(head, torch.from_numpy(logits)[None, None], temperature), minlength=8)
    assert found[7] == 0
    expected *= found.sum() / expected[:7].sum()
    assert scipy.stats.chisquare(found[:7], expected[:7]).pvalue > 0.01
    assert scipy.stats.chisquare(found[:7], np.full(7, N_DRAWS / 7)).pvalue < 1e-3


def test_the_first_and_the_last_of_all_draws():
    """No uniform number, however extreme, draws something infinite or out of range."""
    least = float(np.float32(2**-24))
    for uniform in (least, 1 - least):
        uniforms = torch.full((1, 1, 1, 2), uniform)
        number = MixtureHead(1, 1, 3).sample(parameters_of(*MIXTURE).float(), uniforms, 1.0)
        assert torch.isfinite(number).all()
    flat = torch.full((1, 256), 1 / 256)
    assert choose(flat, torch.tensor([least])).item() == 0
    assert choose(flat, torch.tensor([1 - least])).item() == 255
    assert choose(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([least])).item() == 1
    short = torch.tensor([[0.5, 0.4999]])  # rounding may leave a sum under 1
    assert choose(short, torch.tensor([1 - least])).item() == 1


@pytest.mark.parametrize("loss", ["mixture", "mse", "codes"])
def test_same_uniforms_same_draw_and_temperature_zero_takes_the_likeliest(loss):
    torch.manual_seed(0)
    head = make_head(loss, 1, 1, 9 if loss == "codes" else None, 3)
    parameters = torch.randn(1, 1, head.linear.out_features)
    first, again, other = (drawn(head, parameters, 1.0, rng) for rng in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    cold = drawn(head, parameters, 0.0)
    assert (cold == cold[0]).all()
    if loss == "mixture":  # the mean of the heaviest
        likeliest = parameters[0, 0, 3 + parameters[0, 0, :3].argmax()]
    else:
        likeliest = parameters.squeeze() if loss == "mse" else parameters.argmax()
    assert cold[0] == likeliest.item()


def test_several_numbers_of_a_step_are_drawn_each_from_its_own():
    head = MixtureHead(1, 2, 1).double()
    parts = [parameters_of((1.0,), (mean,), (0.01,)) for mean in (-5.0, 5.0)]
    numbers = drawn(head, torch.cat(parts, -1), 1.0)
    assert numbers.shape == (N_DRAWS, 2)
    np.testing.assert_allclose(numbers.mean(0), (-5, 5), atol=1e-3)
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 0.03


def test_the_untrained_mixture_is_broad():
    """Its first guess covers a z-scored song: about as wide as the song itself."""
    torch.manual_seed(0)
    head = MixtureHead(8, 1, 4)
    mean, variance = head.mean_and_variance(head(torch.zeros(1, 1, 8)))
    assert abs(mean.item()) < 0.1
    assert 0.3 < variance.sqrt().item() < 3
