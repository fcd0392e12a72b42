import math

import numpy as np
import pytest
import scipy.stats
import torch

from noizenet.learner import score
from noizenet.learner.batches import shifted
from noizenet.learner.codecs import fit_codec
from noizenet.learner.score import bits_per_sample
from noizenet.units import mu_law_decode, mu_law_edges, mu_law_encode

FRAME_SAMPLES = 16
HOP = FRAME_SAMPLES // 2
KINDS = {
    "mixture": ("waveform", "mixture", "zscore"),
    "predicted mixture": ("waveform", "mixture", "zscore"),
    "mixture of clipped": ("waveform", "mixture", "clip"),
    "mixture of logarithms": ("waveform", "mixture", "log"),
    "mse": ("waveform", "mse", "minmax"),
    "codes": ("waveform", "mulaw", "zscore"),
    "frames": ("fft", "mixture", "zscore"),
    "frames mse": ("fft", "mse", "zscore"),
}


@pytest.fixture
def make_pair(make_model, songs):
    """A codec fitted on the songs and a float32 model of its numbers."""

    def make(kind, **settings):
        representation, loss, scaling = KINDS[kind]
        codec = fit_codec(songs, representation, loss, scaling, FRAME_SAMPLES)
        if kind.startswith("predicted"):
            settings["prediction"] = (0.4, -0.2)
        model = make_model(
            dtype=torch.float32,
            loss=loss,
            n_features=codec.n_features,
            n_codes=codec.n_codes,
            **settings,
        )
        return model, codec

    return make


def code_probabilities(level, mean, deviation, samples):
    """Of each sample's mu-law code under a normal distribution, by scipy."""
    codes = mu_law_encode(level.apply(samples)).astype(int)
    edges = mu_law_edges()
    normal = scipy.stats.norm(mean, deviation)
    return normal.cdf(edges[codes + 1]) - normal.cdf(edges[codes])


# --- every kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_all_codes_of_a_sample_have_probability_one(kind, make_pair):
    model, codec = make_pair(kind)
    every = codec.level.undo(mu_law_decode(np.arange(256)))
    total = sum(2 ** -bits_per_sample(model, codec, every[k : k + 1]) for k in range(256))
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_all_codes_of_a_second_sample_have_probability_one(kind, make_pair):
    model, codec = make_pair(kind)
    every = codec.level.undo(mu_law_decode(np.arange(256)))
    first = every[77:78]
    known = bits_per_sample(model, codec, first)
    both = [2 * bits_per_sample(model, codec, np.append(first, every[k])) for k in range(256)]
    assert sum(2 ** (known - bits) for bits in both) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_sound_is_scored_in_parts_without_forgetting(kind, make_pair, songs, monkeypatch):
    model, codec = make_pair(kind)
    whole = bits_per_sample(model, codec, songs[2])
    monkeypatch.setattr(score, "READ_STEPS", 11)
    assert bits_per_sample(model, codec, songs[2]) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_model_needs_about_eight_bits(kind, make_pair, songs):
    model, codec = make_pair(kind)
    model.residual_scale.fill_(1.0)
    with torch.no_grad():
        model.head.linear.weight.mul_(0.01)
    assert 7 < bits_per_sample(model, codec, songs[1]) < 10


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_not_for_examinations(kind, make_pair, songs):
    model, codec = make_pair(kind, dropout=0.9)
    plain, _ = make_pair(kind)
    model.train()
    assert bits_per_sample(model, codec, songs[2]) == bits_per_sample(plain, codec, songs[2])


# --- samples and codes ---------------------------------------------------------------------------


def test_bits_of_codes_are_the_loss_in_bits(make_pair, songs):
    model, codec = make_pair("codes")
    numbers = codec.encode(songs[2])
    inputs, targets = (torch.from_numpy(part)[None] for part in shifted(numbers, codec.start()))
    parameters, _, _ = model(inputs, model.initial_state(1))
    nats = torch.nn.functional.cross_entropy(parameters[0], targets[0]).item()
    assert bits_per_sample(model, codec, songs[2]) == pytest.approx(nats / math.log(2), rel=1e-5)


@pytest.mark.parametrize("scaling", ["zscore", "minmax", "clip"])
def test_bits_of_a_known_distribution(scaling, make_model, songs):
    """A value head that always says the same: the codes' probabilities under one logistic."""
    codec = fit_codec(songs, "waveform", "mse", scaling, FRAME_SAMPLES)
    model = make_model(dtype=torch.float32, loss="mse")
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.fill_(0.2)
    model.head.scale.fill_(0.7)
    samples = 2 * songs[1]  # louder than the library: some beyond what clip keeps
    codes = mu_law_encode(codec.level.apply(samples)).astype(int)
    edges = (mu_law_edges() - codec.offset) / codec.scale
    masses = np.diff(scipy.stats.logistic.cdf(edges, 0.2, 0.7))
    expected = -np.log2(masses[codes]).mean()
    assert bits_per_sample(model, codec, samples) == pytest.approx(expected, rel=1e-4)


def test_the_scaling_does_not_change_what_is_scored(make_model, songs):
    """The same distribution of amplitudes on two axes needs the same bits."""
    samples = 2 * songs[1]
    found = []
    for scaling in ("zscore", "minmax", "clip"):
        codec = fit_codec(songs, "waveform", "mse", scaling, FRAME_SAMPLES)
        model = make_model(dtype=torch.float32, loss="mse")
        with torch.no_grad():
            model.head.linear.weight.zero_()
            model.head.linear.bias.fill_((0.1 - codec.offset) / codec.scale)
        model.head.scale.fill_(0.3 / codec.scale)
        found.append(bits_per_sample(model, codec, samples))
    np.testing.assert_allclose(found, found[0], rtol=1e-4)


def test_a_prediction_that_is_right_needs_few_bits(make_model, songs):
    tone = (0.5 * np.sin(2 * np.pi * np.arange(2000) / 40)).astype(np.float32)
    codec = fit_codec([tone], "waveform", "mse", "zscore", FRAME_SAMPLES)
    found = {}
    for name, prediction in {
        "right": (2 * math.cos(2 * math.pi / 40), -1.0),
        "repeated": (1.0, 0.0),
        "none": (0.0, 0.0),
    }.items():
        model = make_model(dtype=torch.float32, loss="mse", prediction=prediction)
        model.stand_on(np.array(prediction), 1.0)
        with torch.no_grad():
            model.head.linear.weight.zero_()
            model.head.linear.bias.zero_()
        model.head.scale.fill_({"right": 1e-3, "repeated": 0.1, "none": 0.5}[name])
        found[name] = bits_per_sample(model, codec, tone)
    assert found["right"] < 1
    assert found["right"] + 2 < found["repeated"] < found["none"] - 1


def test_no_code_costs_more_than_forty_bits(make_pair, songs):
    model, codec = make_pair("mse")
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.fill_(1e5)
    model.head.scale.fill_(1e-3)
    assert bits_per_sample(model, codec, songs[2]) == pytest.approx(40, rel=1e-6)


# --- frames --------------------------------------------------------------------------------------


def block_nats(model, codec, samples, monkeypatch):
    """Nats of each sample, in order, as the score adds them up."""
    found = []
    real = score.normal_log_mass

    def recorded(lower, upper):
        mass = real(lower, upper)
        found.append(-mass.numpy())
        return mass

    monkeypatch.setattr(score, "normal_log_mass", recorded)
    bits_per_sample(model, codec, samples)
    monkeypatch.setattr(score, "normal_log_mass", real)
    return np.concatenate(found)


def test_a_block_of_frames_is_told_from_earlier_samples_alone(make_pair, songs, monkeypatch):
    model, codec = make_pair("frames")
    samples = songs[2][: 20 * HOP + 3]
    before = block_nats(model, codec, samples, monkeypatch)
    assert before.shape == samples.shape
    assert np.isfinite(before).all()
    for block in (0, 1, 7, 20):
        changed = samples.copy()
        changed[block * HOP :] += 0.05 * np.sin(np.arange(len(samples) - block * HOP) + 1)
        after = block_nats(model, codec, changed, monkeypatch)
        np.testing.assert_array_equal(after[: block * HOP], before[: block * HOP])
        # within the block, each sample is told apart from the others, but from none of them
        one = samples.copy()
        one[block * HOP + 1] += 0.05
        apart = block_nats(model, codec, one, monkeypatch)[block * HOP : (block + 1) * HOP]
        same = np.arange(len(apart)) != 1
        np.testing.assert_array_equal(apart[same], before[block * HOP : (block + 1) * HOP][same])
        assert apart[1] != before[block * HOP + 1]


def test_an_earlier_sample_does_tell(make_pair, songs, monkeypatch):
    model, codec = make_pair("frames")
    samples = songs[2][: 20 * HOP]
    before = block_nats(model, codec, samples, monkeypatch)
    changed = samples.copy()
    changed[6 * HOP : 7 * HOP] += 0.1
    after = block_nats(model, codec, changed, monkeypatch)
    assert np.abs(after - before)[7 * HOP : 8 * HOP].max() > 1e-3


def test_frames_without_knowledge_need_the_bits_of_the_level(make_pair, songs, monkeypatch):
    """With a boundless variance only the library's own level is left: one normal distribution."""
    model, codec = make_pair("frames mse")
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.zero_()
    model.head.scale.fill_(1e6)
    library = np.concatenate([codec.level.apply(song) for song in songs])
    samples = songs[1]
    # to a percent: in the frames, the silence around the songs counts
    deviation = library.std()
    expected = -np.log2(code_probabilities(codec.level, 0, deviation, samples)).mean()
    assert bits_per_sample(model, codec, samples) == pytest.approx(expected, rel=0.01)


def test_frames_with_the_truth_need_fewest_bits_at_the_right_variance(
    make_pair, songs, monkeypatch
):
    """The bits improve as the head's scale nears the error it really makes."""
    model, codec = make_pair("frames mse")
    samples = songs[1][: 60 * HOP]
    numbers = torch.from_numpy(codec.encode(samples))
    error = 0.1
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(
        scipy.stats.logistic.rvs(scale=error, size=numbers.shape, random_state=rng)
    )
    guess = (numbers + noise).float()[None]
    monkeypatch.setattr(model, "forward", lambda read, state, guide: (guess, None, state))
    bits = {}
    for scale in (0.1, 0.3, 1.0, 3.0, 10.0):
        model.head.scale.fill_(scale * error)
        bits[scale] = bits_per_sample(model, codec, samples)
    assert min(bits, key=bits.get) == 1.0
    assert bits[0.1] > bits[0.3] > bits[1.0] < bits[3.0] < bits[10.0]
    model.head.scale.fill_(1e6)
    assert bits[1.0] < bits_per_sample(model, codec, samples) - 1


def test_bits_of_frames_agree_with_two_normals_multiplied(make_pair, songs, monkeypatch):
    """Sample by sample, from the newest half of each frame, its window and the level's prior."""
    model, codec = make_pair("frames mse")
    model.head.scale.copy_(torch.linspace(0.05, 0.5, FRAME_SAMPLES))
    samples = songs[1][: 9 * HOP]
    numbers = codec.encode(samples)
    inputs, _ = shifted(numbers, codec.start())
    with torch.no_grad():
        values = (
            model(torch.from_numpy(inputs)[None], model.initial_state(1))[0][0].double().numpy()
        )
    window = np.sin(np.pi * np.arange(FRAME_SAMPLES) / FRAME_SAMPLES)[HOP:]
    units = [codec.transform.synthesis_matrix()[k, HOP:] for k in range(FRAME_SAMPLES)]
    variances = (codec.scale * model.head.scale.double().numpy()) ** 2 * math.pi**2 / 3
    seen_variance = sum(v * unit**2 for v, unit in zip(variances, units, strict=True))
    frames = np.concatenate([codec.transform.to_frames(codec.level.apply(song)) for song in songs])
    powers = [np.mean((frame @ codec.transform.synthesis_matrix()) ** 2) for frame in frames]
    prior = np.mean(powers) / 0.5  # the mean of sin²
    expected = []
    for block in range(9):
        seen = sum(
            b * unit
            for b, unit in zip(values[block] * codec.scale + codec.mean, units, strict=True)
        )
        # w x + noise = seen, x ~ N(0, prior): the posterior of x
        gain = window * prior / (window**2 * prior + seen_variance)
        mean, variance = gain * seen, prior * (1 - gain * window)
        part = samples[block * HOP : (block + 1) * HOP]
        expected.append(code_probabilities(codec.level, mean, np.sqrt(variance), part))
    found = np.exp(-block_nats(model, codec, samples, monkeypatch))
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-9)
