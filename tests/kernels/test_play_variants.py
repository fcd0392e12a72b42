"""Teams and 8-bit weights play what one worker with float32 weights plays."""

from itertools import pairwise

import numpy as np
import pytest
from networks import CELLS, GUIDED, HEADS, make_start, uniforms_for

from noizenet.kernels.play import Ensemble
from noizenet.kernels.team import Team

TOLERANCE = 2e-5  # of other orders of the sums, after 60 steps
HEADS_HERE = (*GUIDED, "predicted mixture", "codes")


@pytest.mark.parametrize("n_workers", [1, 2, 3])
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", HEADS_HERE)
def test_a_team_plays_what_one_plays(head, cell, precision, n_workers):
    start, uniforms = make_start(head, cell, 27, 2, rows=2), uniforms_for(2, 40)
    one = start.player(precision).play(uniforms, 0.9)
    ensemble = Ensemble(Team(n_workers), *start, precision)
    edges = [0, 5, 22, 40]
    parts = [ensemble.play(uniforms[:, a:b], 0.9) for a, b in pairwise(edges)]
    np.testing.assert_allclose(np.concatenate(parts, 1), one, rtol=0, atol=TOLERANCE)
    assert ensemble.n_finite.tolist() == [40, 40]


@pytest.mark.parametrize("guide_rows", [1, 4])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", HEADS_HERE)
def test_narrow_weights_same_bits_in_any_company(head, cell, guide_rows):
    start = make_start(head, cell, 19, 2, rows=4, guide_rows=guide_rows)
    uniforms = uniforms_for(4, 50)
    together = start.player("int8").play(uniforms, 0.9)
    for row in range(4):
        alone = start.of([row]).player("int8").play(uniforms[row : row + 1], 0.9)
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", GUIDED)
def test_inputs_and_conditions_keep_their_weights(head, cell):
    """Without recurrent weights there is nothing to round."""
    start, uniforms = make_start(head, cell), uniforms_for(1, 60)
    layer = start.network.layers[0]
    layers = [layer._replace(w_hh=np.zeros_like(layer.w_hh))]
    start = start._replace(network=start.network._replace(layers=layers))
    np.testing.assert_allclose(
        start.player("int8").play(uniforms, 0.9), start.player().play(uniforms, 0.9),
        rtol=0, atol=TOLERANCE,
    )  # fmt: skip


@pytest.mark.parametrize("head", sorted(HEADS))
def test_narrow_weights_are_close(head):
    """One step's outputs differ by the rounding of weights; the first draw is the same."""
    start, uniforms = make_start(head, hidden=50), uniforms_for(1, 2)
    narrow, wide = (start.player(p).play(uniforms, 0.0)[0] for p in ("int8", "float32"))
    assert narrow[0] == wide[0]
    np.testing.assert_allclose(narrow[1], wide[1], rtol=0, atol=0.02)
