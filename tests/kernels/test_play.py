"""The compiled sampler equals the plain one, the trained network, and itself in any company."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from noizenet.kernels import play as kernel
from noizenet.kernels.prediction import predict_each
from noizenet.learner import generate
from noizenet.learner.generate import listen, play_compiled, play_plainly, uniform_draws

# Largest difference to the plain loop after 60 steps of a network that forgets (float32).
TOLERANCE = 2e-5
PREDICTION = (1.1, -0.5, 0.1, 0.05, -0.05, 0.02, 0.01, -0.03, 0.02)
HEADS = {
    "mixture": {},
    "predicted mixture": {"prediction": PREDICTION},
    "many mixtures": {"n_mixtures": 17},
    "value": {"loss": "mse"},
    "predicted value": {"loss": "mae", "prediction": PREDICTION},
    "codes": {"loss": "mulaw", "n_codes": 256},
    "few codes": {"loss": "mulaw", "n_codes": 21},
}
CELLS = ("lstm", "gru", "rnn")


@pytest.fixture
def make_network(make_model):
    def make(head="predicted mixture", **settings):
        return make_model(dtype=torch.float32, engine="numba", **HEADS[head], **settings)

    return make


def seed_for(model, n_steps=30):
    rng = np.random.default_rng(1)
    if model.n_codes is not None:
        return rng.integers(model.n_codes, size=n_steps)
    return rng.standard_normal((n_steps, 1)).astype(np.float32)


def heard_by(model):
    return listen(model, torch.from_numpy(seed_for(model))[None])


def draws_for(model, rngs, n_steps):
    return np.stack([uniform_draws(rng, n_steps, (1, model.head.n_uniforms)) for rng in rngs])


def played_by(run, model, rngs, n_steps=60, temperature=0.9):
    draws = draws_for(model, rngs, n_steps)
    return run(model, heard_by(model), draws, temperature, lambda done: None)


def assert_equals_plain(model, temperature=0.9, n_steps=60):
    compiled = played_by(play_compiled, model, [5], n_steps, temperature)[0]
    for engine in ("torch", "numba"):
        model.engine = engine
        plain = played_by(play_plainly, model, [5], n_steps, temperature)[0].reshape(-1)
        np.testing.assert_allclose(compiled, plain, rtol=0, atol=TOLERANCE)


# --- the plain twin ------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_equals_plain(head, cell, temperature, make_network):
    assert_equals_plain(make_network(head, cell=cell, hidden=16), temperature)


@pytest.mark.parametrize("hidden", [1, 5, 8, 16, 27, 50, 64, 128])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", ["predicted mixture", "codes"])
def test_every_size_equals_plain(hidden, cell, head, make_network):
    assert_equals_plain(make_network(head, cell=cell, hidden=hidden))


@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", ["predicted mixture", "codes"])
def test_every_depth_equals_plain(layers, cell, head, make_network):
    assert_equals_plain(make_network(head, cell=cell, hidden=13, layers=layers))


@pytest.mark.parametrize("head", HEADS)
def test_bounds_equal_plain(head, make_network):
    model = make_network(head, hidden=9)
    model.stay_within(-0.4, 0.3)
    assert_equals_plain(model, 1.0)


# --- the trained network -------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_played_is_what_was_trained(head, cell, make_network):
    """The sequence mode, fed with what was played, draws the same again at every step."""
    model = make_network(head, cell=cell, hidden=20, layers=2)
    seed, n_steps = seed_for(model), 300
    draws = draws_for(model, [3], n_steps)
    played = play_compiled(model, heard_by(model), draws, 0.8, lambda done: None)[0]
    heard = np.concatenate((seed, played.astype(seed.dtype).reshape(-1, *seed.shape[1:])))
    with torch.no_grad():
        numbers = torch.from_numpy(heard)[None]
        parameters, base, _ = model(numbers, model.initial_state(1))
        about = slice(len(seed) - 1, -1)
        base = None if base is None else base[:, about]
        again = model.sample(parameters[:, about], base, torch.from_numpy(draws), 0.8)
    np.testing.assert_allclose(played, again.numpy().reshape(-1), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("order", [1, 8, 33, 100])
def test_the_linear_prediction_is_that_of_training_to_the_bit(order, make_model):
    """A head that says 0 plays the prediction itself."""
    coefficients = np.random.default_rng(order).uniform(-1, 1, order)
    model = make_model(
        dtype=torch.float32, engine="numba", loss="mse",
        prediction=coefficients / np.abs(coefficients).sum(),
    )  # fmt: skip
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.zero_()
    played = played_by(play_compiled, model, [0], 50, 0.0)[0]
    past = heard_by(model)[2].past.numpy()
    heard = np.concatenate((past, played[None]), 1)
    predicted = predict_each(model.prediction.flip(0).numpy(), heard)
    np.testing.assert_array_equal(played, predicted[0, :-1])


# --- in any company, in any parts ----------------------------------------------------------------


def make_player(model, rows):
    return generate._player(model, heard_by(model), rows)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hidden", [3, 27, 50])
def test_any_company_any_parts_same_bits(head, cell, hidden, make_network):
    model = make_network(head, cell=cell, hidden=hidden, layers=2)
    n_steps = 70
    draws = draws_for(model, range(6), n_steps)[:, :, 0]
    alone = [make_player(model, 1).play(draws[r : r + 1], 0.9)[0] for r in range(6)]
    for rows in range(2, 7):
        player = make_player(model, rows)
        edges = [0, 1, 3, 40, n_steps]
        parts = [player.play(draws[:rows, a:b], 0.9) for a, b in pairwise(edges)]
        np.testing.assert_array_equal(np.concatenate(parts, 1), alone[:rows])
        assert (player.n_finite == n_steps).all()


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_many_sequences_are_dealt_to_threads_without_a_trace(n_threads, make_network, monkeypatch):
    model = make_network(hidden=50)
    alone = [played_by(play_compiled, model, [rng])[0] for rng in range(14)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    for count in (2, 7, 14):
        together = played_by(play_compiled, model, range(count))
        assert len(together) == count
        np.testing.assert_array_equal(together, alone[:count])


def test_sound_depends_on_the_block_not_at_all(make_network, monkeypatch):
    model = make_network(hidden=50)
    whole = played_by(play_compiled, model, [0, 1], 300)
    monkeypatch.setattr(kernel, "LONGEST_BLOCK", 7)
    monkeypatch.setattr(kernel, "SHORTEST_BLOCK", 7)
    np.testing.assert_array_equal(played_by(play_compiled, model, [0, 1], 300), whole)


# --- trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_sequence_stops_alone(head, cell, bad, make_network):
    """Its neighbours play on, the same to the bit: nothing of it is read by them."""
    model = make_network(head, cell=cell, hidden=11, layers=2)
    draws = draws_for(model, range(3), 50)[:, :, 0]
    whole = make_player(model, 3).play(draws, 1.0)
    player = make_player(model, 3)
    for place in player.assembly.h_of:
        place.rows(player.assembly.memory, 3)[1, :11] = bad
    played = player.play(draws, 1.0)
    np.testing.assert_array_equal(played[[0, 2]], whole[[0, 2]])
    # the first number was drawn from outputs that were still whole
    assert player.n_finite[[0, 2]].tolist() == [50, 50]
    if np.isnan(bad):
        assert player.n_finite[1] == 1


@pytest.mark.parametrize("head", HEADS)
def test_outputs_that_are_not_finite_play_nothing(head, make_network):
    model = make_network(head)
    parameters, base, state = heard_by(model)
    for bad in (np.nan, np.inf, -np.inf):
        for at in (0, parameters.shape[-1] - 1):
            spoilt = parameters.clone()
            spoilt[0, 0, at] = bad
            draws = draws_for(model, [0], 20)
            for run in (play_compiled, play_plainly):
                played = run(model, (spoilt, base, state), draws, 1.0, lambda done: None)
                assert len(played[0]) == 0


def test_nothing_beyond_the_memory_is_touched(make_network):
    """Poison around every array: it is neither heard nor written over."""
    margin = 64
    for head in HEADS:
        for cell in CELLS:
            model = make_network(head, cell=cell, hidden=6)
            draws = draws_for(model, range(2), 40)[:, :, 0]
            whole = make_player(model, 2).play(draws, 1.0)
            player = make_player(model, 2)
            assembly, kept = player.assembly, {}
            for name in ("memory", "weights"):
                array = getattr(assembly, name)
                kept[name] = np.full(array.size + 2 * margin, np.nan, np.float32)
                kept[name][margin:-margin] = array
                setattr(assembly, name, kept[name][margin:-margin])
            np.testing.assert_array_equal(player.play(draws, 1.0), whole)
            for array in kept.values():
                assert np.isnan(array[:margin]).all()
                assert np.isnan(array[-margin:]).all()


def test_an_interruption_waits_for_a_block_at_most(make_network):
    model = make_network(hidden=5)
    seen = []

    def watch(done):
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play_compiled(model, heard_by(model), draws_for(model, range(3), 50_000), 1.0, watch)
    assert len(seen) == 1
    assert seen[0] <= kernel.LONGEST_BLOCK
    small, large = make_player(make_network(hidden=5), 1), make_player(make_network(hidden=300), 6)
    assert large.block_steps < small.block_steps


def test_playing_ends_when_nobody_is_left(make_network):
    model = make_network("predicted value")
    model.stand_on(np.full(len(PREDICTION), 1e6), 1.0)
    seen = []
    draws = draws_for(model, range(2), 50_000)
    played = play_compiled(model, heard_by(model), draws, 1.0, seen.append)
    assert len(seen) == 1
    assert all(0 < len(sound) < 20 for sound in played)
    assert all(np.isfinite(sound).all() for sound in played)
