"""The compiled sampler equals the plain one, and itself in any company and in any parts."""

from itertools import pairwise, product

import numpy as np
import pytest
from networks import CELLS, ENDLESS, GUIDED, HEADS, make_start, uniforms_for

from noizenet.kernels import reference
from noizenet.kernels.guide import Guide
from noizenet.kernels.prediction import predict_blocks

# Largest difference to the plain loop, in float64, after 60 steps of a network that forgets.
TOLERANCE = 2e-5
PARTS = ("prediction", "unit", "scale", "conditions")
FAR = 1e6  # farther than anything gets: a limit that must not show


def assert_equals_plain(start, temperature=0.9, n_steps=60):
    uniforms = uniforms_for(len(start.outputs), n_steps)
    played = start.player().play(uniforms, temperature)
    plain = reference.play(*start, uniforms, temperature)
    np.testing.assert_allclose(played, plain, rtol=0, atol=TOLERANCE)


# --- the plain twin ------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_equals_plain(head, cell, temperature):
    assert_equals_plain(make_start(head, cell, rows=2), temperature)


@pytest.mark.parametrize("hidden", [1, 5, 8, 16, 27, 50, 64, 128])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", ["guided mixture", "codes"])
def test_every_size_equals_plain(hidden, cell, head):
    assert_equals_plain(make_start(head, cell, hidden))


@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", ["guided mixture", "codes"])
def test_every_depth_equals_plain(layers, cell, head):
    assert_equals_plain(make_start(head, cell, 13, layers))


@pytest.mark.parametrize("hop", [1, 2, 7, 59, 60, 61, ENDLESS])
@pytest.mark.parametrize("guide_rows", [1, 3])
@pytest.mark.parametrize("n_blocks", [1, 4])
@pytest.mark.parametrize("head", GUIDED)
def test_every_guide_equals_plain(hop, guide_rows, n_blocks, head):
    start = make_start(head, rows=3, guide_rows=guide_rows, hop=hop, n_blocks=n_blocks)
    assert_equals_plain(start)


@pytest.mark.parametrize("head", HEADS)
def test_bounds_equal_plain(head):
    assert_equals_plain(make_start(head, hidden=9, lowest=-0.4, highest=0.3), 1.0)


@pytest.mark.parametrize(
    "limits",
    [
        {"reach": 0.2},
        {"feature_limit": 0.1},
        {"error_limit": 0.3},
        {"overshoot": 0.1},
        {"believable": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("head", ["predicted mixture", "guided value"])
def test_limits_equal_plain(limits, head):
    start = make_start(head)
    assert_equals_plain(start._replace(network=start.network._replace(**limits)))
    uniforms = uniforms_for(1, 60)
    free = start.player().play(uniforms, 0.9)
    limited = start._replace(network=start.network._replace(**limits))
    assert not np.array_equal(limited.player().play(uniforms, 0.9), free)
    far = start._replace(network=start.network._replace(**dict.fromkeys(limits, FAR)))
    np.testing.assert_array_equal(far.player().play(uniforms, 0.9), free)


# --- the guide -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hop", [1, 13, 50, ENDLESS])
@pytest.mark.parametrize("order", [1, 8, 33, 100])
def test_the_linear_prediction_is_that_of_training_to_the_bit(order, hop):
    """A head that says 0 plays the prediction itself."""
    start = make_start("guided value", n_blocks=5, hop=hop)
    draw = np.random.default_rng(order)
    coefficients = draw.uniform(-1, 1, (1, 5, order))
    coefficients /= np.abs(coefficients).sum(-1, keepdims=True)
    guide = start.guide._replace(prediction=coefficients.astype(np.float32))
    silent = start.network._replace(
        head_weight=0 * start.network.head_weight, head_bias=0 * start.network.head_bias
    )
    past = draw.uniform(-1, 1, (1, order)).astype(np.float32)
    start = start._replace(
        network=silent, guide=guide, past=past, outputs=np.zeros((1, 1), np.float32)
    )
    played = start.player().play(uniforms_for(1, 80), 0.0)
    assert played[0, 0] == start.base[0]
    predicted = predict_blocks(guide.prediction, np.concatenate((past, played), 1), hop, first=1)
    np.testing.assert_array_equal(played[:, 1:], predicted[:, :-1])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("head", "part"),
    [
        *product(("guided mixture", "guided value"), PARTS),
        ("conditioned value", "conditions"),  # one that stands on nothing has nothing else
    ],
)
def test_a_block_is_heard_from_its_first_sample_on(head, cell, part):
    start, k, hop = make_start(head, cell, layers=2), 3, 11
    uniforms = uniforms_for(1, 60)
    before = start.player().play(uniforms, 0.9)
    changed = getattr(start.guide, part).copy()
    changed[:, k] *= 1.5
    guide = start.guide._replace(**{part: changed})
    after = start._replace(guide=guide).player().play(uniforms, 0.9)
    np.testing.assert_array_equal(after[:, : k * hop], before[:, : k * hop])
    assert after[0, k * hop] != before[0, k * hop]


def test_the_last_block_never_ends():
    start = make_start(n_blocks=2, hop=5)
    longer = Guide(
        *(np.concatenate([part, *[part[:, -1:]] * 20], 1) for part in start.guide[:4]), 5
    )
    uniforms = uniforms_for(1, 60)
    np.testing.assert_array_equal(
        start.player().play(uniforms, 0.9),
        start._replace(guide=longer).player().play(uniforms, 0.9),
    )


def test_blocks_that_are_alike_are_one():
    start = make_start(n_blocks=1, hop=ENDLESS)
    many = Guide(*(np.repeat(part, 9, 1) for part in start.guide[:4]), 7)
    uniforms = uniforms_for(1, 60)
    np.testing.assert_array_equal(
        start.player().play(uniforms, 0.9), start._replace(guide=many).player().play(uniforms, 0.9)
    )


def test_conditions_that_stay_are_a_bias():
    start = make_start("guided mixture", n_blocks=1)
    layer = start.network.layers[0]
    added = layer.w_ih[:, 3:].astype(np.float64) @ start.guide.conditions[0, 0]
    without = layer._replace(w_ih=layer.w_ih[:, :3], b_ih=(layer.b_ih + added).astype(np.float32))
    plain = start._replace(
        network=start.network._replace(layers=[without]),
        guide=start.guide._replace(conditions=np.zeros((1, 1, 0), np.float32)),
    )
    uniforms = uniforms_for(1, 60)
    np.testing.assert_allclose(
        start.player().play(uniforms, 0.9), plain.player().play(uniforms, 0.9),
        rtol=0, atol=TOLERANCE,
    )  # fmt: skip


def test_reach_bounds_what_is_added_to_the_prediction():
    start = make_start("predicted mixture", reach=0.5)
    played = start.player().play(uniforms_for(1, 200), 1.0)
    heard = np.concatenate((start.past, played), 1)
    base = predict_blocks(start.guide.prediction, heard, start.guide.hop, first=1)[:, :-1]
    block = np.minimum(np.arange(1, 200) // start.guide.hop, 5)
    added = np.abs(played[:, 1:] - base) / start.guide.unit[:, block]
    assert added.max() <= 0.5 * (1 + 1e-5)
    assert (added > 0.499).any()


def test_what_is_louder_than_its_guide_rings_down():
    """A resonance that was driven loudly, and then a block that is to be a hundredth of it."""
    start = make_start("guided mixture", hop=64, n_blocks=2, overshoot=1.5, reach=0.0)
    n_past = start.past.shape[1]
    prediction = np.zeros((1, 2, n_past), np.float32)
    prediction[..., -1], prediction[..., -2] = 1.9 * np.cos(0.6), -(0.95**2)
    past = np.cos(0.6 * np.arange(n_past))[None].astype(np.float32)
    scale = np.array([[1, 0.01]], np.float32)
    guide = start.guide._replace(prediction=prediction, scale=scale)
    damped = start._replace(past=past, guide=guide)
    free = damped._replace(network=damped.network._replace(overshoot=np.inf))
    uniforms = uniforms_for(1, 160)
    quiet, loud = (s.player().play(uniforms, 1.0)[0] for s in (damped, free))
    np.testing.assert_array_equal(quiet[:64], loud[:64])  # the first block is played as it is
    assert np.abs(quiet[120:]).max() < np.abs(loud[120:]).max()


@pytest.mark.parametrize(
    "wrong",
    [
        {"prediction": np.zeros((1, 5, 9), np.float32)},
        {"prediction": np.zeros((1, 6, 0), np.float32)},
        {"unit": np.ones((2, 6), np.float32)},
        {"scale": np.ones((1, 5), np.float32)},
        {"conditions": np.zeros((1, 6, 4), np.float32)},
        {"hop": 0},
    ],
    ids=str,
)
def test_a_guide_that_does_not_fit_is_refused(wrong):
    start = make_start()
    with pytest.raises(ValueError, match="does not fit"):
        start._replace(guide=start.guide._replace(**wrong)).player()


def test_a_guide_for_others_is_refused():
    start = make_start(rows=3, guide_rows=2)
    with pytest.raises(ValueError, match="does not fit 3 sequences"):
        start.player()
    with pytest.raises(ValueError, match="does not fit"):
        make_start("codes")._replace(guide=start.guide).player()


# --- in any company, in any parts ----------------------------------------------------------------


@pytest.mark.parametrize("guide_rows", [1, 6])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hidden", [3, 27, 50])
def test_any_company_any_parts_same_bits(head, cell, hidden, guide_rows):
    start = make_start(head, cell, hidden, 2, rows=6, guide_rows=guide_rows)
    n_steps, uniforms = 70, uniforms_for(6, 70)
    alone = [start.of([row]).player().play(uniforms[row : row + 1], 0.9)[0] for row in range(6)]
    for rows in range(2, 7):
        player = start.of(range(rows)).player()
        edges = [0, 1, 3, 10, 11, 12, 40, n_steps]  # at the beginning of a block, and not
        parts = [player.play(uniforms[:rows, a:b], 0.9) for a, b in pairwise(edges)]
        np.testing.assert_array_equal(np.concatenate(parts, 1), alone[:rows])
        assert (player.n_finite == n_steps).all()


def test_one_guide_for_all_is_as_one_for_each():
    start = make_start(rows=4, guide_rows=1)
    each = start._replace(guide=Guide(*(np.repeat(p, 4, 0) for p in start.guide[:4]), 11))
    uniforms = uniforms_for(4, 60)
    np.testing.assert_array_equal(
        start.player().play(uniforms, 0.9), each.player().play(uniforms, 0.9)
    )


# --- trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_sequence_stops_alone(head, cell, bad):
    """Its neighbours play on, the same to the bit: nothing of it is read by them."""
    start, uniforms = make_start(head, cell, 11, 2, rows=3, reach=3.0), uniforms_for(3, 50)
    whole = start.player().play(uniforms, 1.0)
    player = start.player()
    for place in player.assembly.h_of:
        place.rows(player.assembly.memory, 3)[1, :11] = bad
    played = player.play(uniforms, 1.0)
    np.testing.assert_array_equal(played[[0, 2]], whole[[0, 2]])
    # the first number was drawn from outputs that were still whole
    assert player.n_finite[[0, 2]].tolist() == [50, 50]
    if np.isnan(bad):
        assert player.n_finite[1] == 1


@pytest.mark.parametrize("part", PARTS)
def test_a_broken_guide_stops_its_own_sequence(part):
    """Whatever is clipped: not-a-number is not made a limit."""
    start = make_start(rows=3, reach=3.0, feature_limit=2.0, error_limit=2.0, lowest=-1, highest=1)
    uniforms = uniforms_for(3, 60)
    whole = start.player().play(uniforms, 1.0)
    spoilt = getattr(start.guide, part).copy()
    spoilt[1, 2] = np.nan
    player = start._replace(guide=start.guide._replace(**{part: spoilt})).player()
    played = player.play(uniforms, 1.0)
    np.testing.assert_array_equal(played[[0, 2]], whole[[0, 2]])
    assert player.n_finite.tolist() == [60, 22, 60]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_play_nothing(head, bad):
    for at in (0, -1):
        start = make_start(head)
        start.outputs[0, at] = bad
        player = start.player()
        player.play(uniforms_for(1, 20), 1.0)
        assert player.n_finite[0] == 0


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
def test_nothing_beyond_the_memory_is_touched(head, cell):
    """Poison around every array: it is neither heard nor written over."""
    margin, uniforms = 64, uniforms_for(2, 40)
    start = make_start(head, cell, hidden=6, rows=2)
    whole = start.player().play(uniforms, 1.0)
    player = start.player()
    assembly, kept = player.assembly, {}
    for name in ("memory", "weights"):
        array = getattr(assembly, name)
        kept[name] = np.full(array.size + 2 * margin, np.nan, np.float32)
        kept[name][margin:-margin] = array
        setattr(assembly, name, kept[name][margin:-margin])
    np.testing.assert_array_equal(player.play(uniforms, 1.0), whole)
    for array in kept.values():
        assert np.isnan(array[:margin]).all()
        assert np.isnan(array[-margin:]).all()


def test_nothing_to_play():
    player = make_start().player()
    assert player.play(uniforms_for(1, 0), 1.0).shape == (1, 0)


def test_a_large_network_plays_shorter_blocks():
    assert make_start(hidden=300, rows=6).player().block_steps < make_start().player().block_steps
