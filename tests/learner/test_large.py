"""Networks too large for one core: played by a team, and with 8-bit weights."""

import copy

import numpy as np
import pytest
import torch

from noizenet.errors import ParameterError
from noizenet.kernels import threads
from noizenet.kernels.narrow import quantise
from noizenet.learner import generate
from noizenet.learner.codecs import fit_codec
from noizenet.learner.generate import play
from noizenet.learner.score import bits_per_sample

PREDICTION = (1.2, -0.7, 0.1)
MODELS = {
    "mixture": {"layers": 2, "hidden": 21},
    "predicted mixture": {"prediction": PREDICTION, "hidden": 64, "layers": 3},
    "value": {"loss": "mse", "cell": "gru", "layers": 2, "hidden": 13},
    "predicted value": {"loss": "mae", "prediction": PREDICTION, "cell": "rnn"},
    "codes": {"loss": "mulaw", "n_codes": 256, "cell": "gru"},
}


@pytest.fixture(params=MODELS)
def model(request, make_model):
    return make_model(dtype=torch.float32, engine="numba", **MODELS[request.param])


@pytest.fixture
def with_threads(monkeypatch):
    """Play on so many threads, each with its share of the units if ``team``."""
    before = torch.get_num_threads()

    def use(n_threads, team=True):
        torch.set_num_threads(n_threads)
        monkeypatch.setattr(threads, "WORKER_BYTES", 1 if team else 1 << 60)

    yield use
    torch.set_num_threads(before)


def seed_for(model):
    generator = np.random.default_rng(0)
    if model.n_codes is not None:
        return generator.integers(model.n_codes, size=40)
    return generator.standard_normal((40, model.n_features)).astype(np.float32)


def as_integers_say(model):
    """The model with the weights that its 8-bit integers stand for."""
    model = copy.deepcopy(model)
    n_hidden = model.recurrent.hidden
    for depth, layer in enumerate(model.recurrent.layers):
        hidden, inputs = layer.weight_hh_l0, layer.weight_ih_l0
        gru = model.recurrent.cell == "gru"
        # the GRU's third gate takes its state and its inputs apart
        together = slice(0, 2 * n_hidden) if gru else slice(None)
        parts = [(together, [hidden] if depth == 0 else [hidden, inputs])]
        if gru:
            third = slice(2 * n_hidden, None)
            parts += [(third, [hidden]), (third, [inputs] if depth else [])]
        for rows, weights in parts:
            if not weights:
                continue
            integers, scales = quantise(torch.cat([w[rows] for w in weights], 1).T.detach().numpy())
            rounded = torch.from_numpy((integers * scales).T)
            with torch.no_grad():
                for weight, new in zip(
                    weights, rounded.split([w.shape[1] for w in weights], 1), strict=True
                ):
                    weight[rows] = new
    return model


# --- teams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("n_workers", [2, 3])
def test_a_team_plays_what_one_plays(model, precision, n_workers, with_threads):
    seed = seed_for(model)
    with_threads(1)
    alone = play(model, seed, 101, 1.0, [3, 4, 5], precision=precision)
    with_threads(n_workers)
    shared = play(model, seed, 101, 1.0, [3, 4, 5], precision=precision)
    # a state that is rounded the other way differs by 1/32767
    tolerance = {"float32": 2e-5, "int8": 1e-4}[precision]
    np.testing.assert_allclose(shared, alone, rtol=0, atol=tolerance)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_sound_is_the_same_whatever_is_played_beside_it(model, precision, with_threads):
    with_threads(2)
    rngs = [9, 5, 6, 2, 5, 1, 0, 8]
    several = play(model, seed_for(model), 50, 1.0, rngs, precision=precision)
    for rng, sound in zip(rngs, several, strict=True):
        one = play(model, seed_for(model), 50, 1.0, [rng], precision=precision)[0]
        np.testing.assert_array_equal(sound, one)


def test_blocks_leave_no_trace(model, with_threads, monkeypatch):
    with_threads(2)
    whole = play(model, seed_for(model), 130, 1.0, [1])[0]
    monkeypatch.setattr("noizenet.kernels.play.LONGEST_BLOCK", 7)
    monkeypatch.setattr("noizenet.kernels.play.SHORTEST_BLOCK", 7)
    np.testing.assert_array_equal(play(model, seed_for(model), 130, 1.0, [1])[0], whole)


def test_a_team_can_be_stopped(model, with_threads):
    with_threads(2)

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(model, seed_for(model), 20_000, 1.0, [0], stop)


# --- precision -----------------------------------------------------------------------------------


def test_integers_play_what_they_stand_for(model, with_threads):
    """Only the rounding of the states, to 15 bits, is left."""
    with_threads(1, team=False)
    heard = generate.listen(model, torch.from_numpy(seed_for(model))[None])
    draws = generate.uniform_draws(2, 60, (1, model.head.n_uniforms))[None]

    def play_on(model, precision):
        return generate.play_compiled(model, heard, draws, 0.5, lambda done: None, precision)[0]

    expected, got = play_on(as_integers_say(model), "float32"), play_on(model, "int8")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)
    if model.n_codes is None:
        assert not np.array_equal(got, play_on(model, "float32"))


def test_integers_cost_less_than_a_hundredth_of_a_bit(make_model):
    songs = [np.sin(np.arange(6000) / 9 + np.sin(np.arange(6000) / 700)).astype(np.float32) / 3]
    codec = fit_codec(songs, "waveform", "mixture", "zscore", 1024)
    model = make_model(
        dtype=torch.float32, engine="numba", hidden=96, layers=2, prediction=(1.9, -0.95, 0.0)
    )
    model.stand_on(np.array([1.9, -0.95, 0.0]), 0.02)
    exact = bits_per_sample(model, codec, songs[0])
    rounded = bits_per_sample(as_integers_say(model), codec, songs[0])
    assert rounded != exact
    assert abs(rounded - exact) < 0.01


def test_integers_need_the_compiled_loop(make_model):
    for settings in ({"engine": "torch"}, {"engine": "numba", "n_features": 6}):
        model = make_model(dtype=torch.float32, **settings)
        with pytest.raises(
            ParameterError, match="--precision int8 plays samples with the numba engine"
        ):
            play(model, seed_for(model), 5, 1.0, [0], precision="int8")
