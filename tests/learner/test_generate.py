import math

import numpy as np
import pytest
import torch

from noizenet.learner import generate
from noizenet.learner.generate import play, uniform_draws

PREDICTION = (1.2, -0.7, 0.1)
MODELS = {
    "mixture": {"layers": 2},
    "predicted mixture": {"prediction": PREDICTION},
    "value": {"loss": "mse", "cell": "gru"},
    "predicted value": {"loss": "mae", "prediction": PREDICTION, "cell": "rnn"},
    "codes": {"loss": "mulaw", "n_codes": 256},
    "frames": {"n_features": 6},
}
SAMPLED = [kind for kind in MODELS if kind != "frames"]  # these the compiled loop plays as well


def seed_for(model, n_steps=40, rng=0):
    generator = np.random.default_rng(rng)
    if model.n_codes is not None:
        return generator.integers(model.n_codes, size=n_steps)
    shape = (n_steps, model.n_features)
    return generator.standard_normal(shape).astype(np.float32)


@pytest.fixture(params=["torch", "numba"])
def make_player(request, make_model):
    """Models as they are when they play: float32, on either engine."""

    def make(kind, **settings):
        settings = {**MODELS[kind], "engine": request.param, **settings}
        return make_model(dtype=torch.float32, **settings)

    return make


# --- draws ---------------------------------------------------------------------------------------


def test_draws_are_fixed_by_their_number_and_never_reach_the_ends():
    draws = uniform_draws(3, 50_000, (1, 2))
    assert draws.shape == (50_000, 1, 2)
    assert draws.dtype == np.float32
    assert draws.min() > 0
    assert draws.max() < 1
    np.testing.assert_array_equal(uniform_draws(3, 50_000, (1, 2)), draws)
    assert not np.array_equal(uniform_draws(4, 50_000, (1, 2)), draws)
    # a shorter sound is the beginning of a longer one
    np.testing.assert_array_equal(uniform_draws(3, 100, (1, 2)), draws[:100])
    assert np.corrcoef(draws[:, 0].T)[0, 1] == pytest.approx(0, abs=0.02)


# --- playing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_playing_is_reading_drawing_and_reading_that(kind, temperature, make_player):
    """Against the whole loop written by hand, step by step from silence."""
    model = make_player(kind)
    seed, n_steps = seed_for(model), 60
    played = play(model, seed, n_steps, temperature, [5])[0]

    model.engine = "torch"
    uniforms = torch.from_numpy(
        uniform_draws(5, n_steps, (model.n_features, model.head.n_uniforms))
    )
    state, expected = model.initial_state(1), []
    with torch.no_grad():
        for number in torch.from_numpy(seed):
            parameters, axis, state = model(number[None, None], state)
        for step in range(n_steps):
            number = model.sample(parameters, axis, uniforms[step][None, None], temperature)
            expected.append(number[0, 0].numpy())
            parameters, axis, state = model(number, state)
    assert played.dtype == seed.dtype
    assert played.shape == (n_steps, *seed.shape[1:])
    np.testing.assert_allclose(played, np.array(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_the_same_number_plays_the_same(kind, make_player):
    model = make_player(kind)
    seed = seed_for(model)
    first, again, other = (play(model, seed, 50, 1.0, [rng])[0] for rng in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # whichever others are played with it
    several = play(model, seed, 50, 1.0, [9, 5, 6, 2, 5, 1, 0, 8])
    assert len(several) == 8
    np.testing.assert_allclose(several[1], first, rtol=0, atol=1e-5)
    np.testing.assert_allclose(several[2], other, rtol=0, atol=1e-5)
    np.testing.assert_allclose(several[4], first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_without_temperature_no_draw_matters(kind, make_player):
    model = make_player(kind)
    seed = seed_for(model)
    first, other = play(model, seed, 50, 0.0, [0, 1])
    np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("kind", MODELS)
def test_the_whole_seed_is_heard(kind, make_player):
    """Even its first number still sounds in what is played."""
    model = make_player(kind)
    seed = seed_for(model, n_steps=12)
    changed = seed.copy()
    changed[0] = changed[0] + 3 if model.n_codes is None else (changed[0] + 100) % 256
    n_steps = 12
    before, after = (play(model, s, n_steps, 0.0, [0])[0] for s in (seed, changed))
    if model.n_codes is None:
        assert np.abs(after - before).max() > 1e-6
    else:  # the likeliest code may stay; what is thought of it does not
        first, second = (
            generate.listen(model, torch.from_numpy(s)[None])[0] for s in (seed, changed)
        )
        assert (first - second).abs().max() > 1e-6


@pytest.mark.parametrize("kind", ["predicted mixture", "codes"])
def test_a_long_seed_is_read_in_parts_without_forgetting(kind, make_player, monkeypatch):
    model = make_player(kind)
    seed = seed_for(model, n_steps=100)
    whole = play(model, seed, 20, 0.0, [0])[0]
    monkeypatch.setattr(generate, "READ_STEPS", 7)
    np.testing.assert_allclose(play(model, seed, 20, 0.0, [0])[0], whole, rtol=0, atol=1e-5)


def test_dropout_does_not_play(make_player):
    with_dropout, without = make_player("mixture", dropout=0.9), make_player("mixture")
    with_dropout.train()
    seed = seed_for(without)
    np.testing.assert_array_equal(
        play(with_dropout, seed, 30, 1.0, [0])[0], play(without, seed, 30, 1.0, [0])[0]
    )


@pytest.mark.parametrize("kind", MODELS)
def test_a_seed_of_one_step_and_a_sound_of_none(kind, make_player):
    model = make_player(kind)
    seed = seed_for(model, n_steps=1)
    assert len(play(model, seed, 3, 1.0, [0])[0]) == 3
    nothing = play(model, seed, 0, 1.0, [0])[0]
    assert nothing.shape == (0, *seed.shape[1:])
    assert nothing.dtype == seed.dtype


# --- trouble -------------------------------------------------------------------------------------


def test_a_runaway_ends_where_it_is_no_longer_a_number(make_player):
    """Each sample is 1e6 times the one before: after six more, float32 ends."""
    model = make_player("predicted value")
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.zero_()
    model.stand_on(np.array([1e6, 0, 0]), 1.0)
    played = play(model, np.ones((3, 1), np.float32), 50, 0.0, [0])[0]
    assert len(played) == 6
    np.testing.assert_allclose(played[:, 0], 10.0 ** np.arange(6, 42, 6), rtol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_network_of_nan_plays_nothing(kind, temperature, make_player):
    """Codes too, which are numbers whatever they were drawn from."""
    model = make_player(kind)
    with torch.no_grad():
        model.recurrent.layers[0].weight_hh_l0[0, 0] = math.nan
    played = play(model, seed_for(model), 20, temperature, [0])[0]
    assert len(played) == 0


@pytest.mark.parametrize("kind", ["mixture", "predicted mixture", "predicted value"])
def test_nothing_is_played_beyond_the_bounds(kind, make_player):
    model = make_player(kind)
    seed = seed_for(model)
    free = play(model, seed, 200, 1.0, [0])[0]
    model.stay_within(-0.5, 0.25)
    bound = play(model, seed, 200, 1.0, [0])[0]
    assert free.min() < -0.5
    assert free.max() > 0.25
    assert (bound.min(), bound.max()) == (-0.5, 0.25)
    # what is heard next is what was played: from the first bound sample on, it goes another way
    first = np.flatnonzero(bound != free)[0]
    np.testing.assert_array_equal(bound[first], free[first].clip(-0.5, 0.25))


def test_sounds_end_each_on_its_own(make_player):
    """One number's draw is followed by overflow; the others play to the end."""
    model = make_player("predicted value")
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.zero_()
    model.head.scale.fill_(1.0)
    model.stand_on(np.array([1e6, 0, 0]), 3.4e-28)
    # 1e6 each step from a draw of about 3.4e-28: 11 steps to overflow for large draws, else 12
    lengths = [len(s) for s in play(model, np.zeros((3, 1), np.float32), 50, 1.0, list(range(12)))]
    alone = [len(play(model, np.zeros((3, 1), np.float32), 50, 1.0, [rng])[0]) for rng in range(12)]
    assert lengths == alone
    assert len(set(lengths)) > 1


def test_someone_may_watch_and_stop(make_player):
    model = make_player("mixture")
    seen = []

    def watch(done):
        seen.append(done)
        if len(seen) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        play(model, seed_for(model), 20_000, 1.0, [0], watch)
    assert len(seen) == 2
    assert 0 <= seen[0] < seen[1] < 20_000
