"""Linear prediction against scipy and the plain twin, and each from its own past alone."""

import numpy as np
import pytest
import scipy.signal

from noizenet.kernels import reference
from noizenet.kernels.prediction import predict_blocks

ORDERS = (1, 2, 3, 7, 8, 9, 15, 16, 31, 32, 33, 40, 320, 1024)
DTYPES = (np.float32, np.float64)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}  # of sums whose terms are of order 1 in total
ENDLESS = 1 << 62


def make(order, n_steps, rows=1, dtype=np.float64, n_blocks=1, given=1):
    """Coefficients, the oldest sample's first, whose sizes sum to 1; and what was heard."""
    draw = np.random.default_rng(order)
    coefficients = draw.standard_normal((given, n_blocks, order))
    coefficients /= np.abs(coefficients).sum(-1, keepdims=True)
    heard = draw.uniform(-1, 1, (rows, order + n_steps))
    return coefficients.astype(dtype), heard.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_one_endless_block_is_an_fir_filter(order, dtype):
    coefficients, heard = make(order, 50, 3, dtype)
    predicted = predict_blocks(coefficients, heard, ENDLESS)
    assert predicted.shape == (3, 50)
    assert predicted.dtype == dtype
    newest_first = coefficients[0, 0, ::-1].astype(np.float64)
    expected = scipy.signal.lfilter(newest_first, [1.0], heard.astype(np.float64))
    np.testing.assert_allclose(predicted, expected[:, order:], rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [1, 3])
@pytest.mark.parametrize(("hop", "first"), [(1, 0), (1, 2), (7, 0), (7, 6), (16, 20), (300, 5)])
@pytest.mark.parametrize("order", [1, 9, 33])
def test_every_sample_has_its_block(order, hop, first, given, dtype):
    coefficients, heard = make(order, 61, 3, dtype, n_blocks=5, given=given)
    predicted = predict_blocks(coefficients, heard, hop, first)
    plain = reference.predict_blocks(coefficients, heard.astype(np.float64), hop, first)
    np.testing.assert_allclose(predicted, plain, rtol=0, atol=TOLERANCE[dtype])
    for t in (0, 1, 30, 60):  # by the block's own coefficients alone, to the bit
        block = min((first + t) // hop, 4)
        one = predict_blocks(coefficients[:, [block]], heard[:, t : t + order + 1], ENDLESS)
        np.testing.assert_array_equal(one[:, 0], predicted[:, t])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_depends_on_its_own_past_alone_to_the_bit(order, dtype):
    coefficients, heard = make(order, 40, 2, dtype, n_blocks=4)
    predicted = predict_blocks(coefficients, heard, 11)
    for t in (0, 1, 7, 39):
        alone = predict_blocks(coefficients, heard[:, t : t + order + 1].copy(), 11, t)
        np.testing.assert_array_equal(alone[:, 0], predicted[:, t])
    changed = heard.copy()
    changed[:, order + 20] = np.nan  # the sample that the prediction of column 20 begins with
    after = predict_blocks(coefficients, changed, 11)
    np.testing.assert_array_equal(after[:, :20], predicted[:, :20])
    assert np.isnan(after[:, 20 : 20 + order]).all()
    np.testing.assert_array_equal(after[:, 20 + order :], predicted[:, 20 + order :])


def test_chunks_equal_the_whole_to_the_bit():
    coefficients, heard = make(37, 100, 2, np.float32, n_blocks=9, given=2)
    whole = predict_blocks(coefficients, heard, 12)
    parts = [
        predict_blocks(coefficients, heard[:, a : b + 37], 12, a)
        for a, b in ((0, 1), (1, 24), (24, 59), (59, 100))
    ]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


def test_arrays_need_not_be_contiguous():
    coefficients, heard = make(9, 30, 2, n_blocks=3)
    expected = predict_blocks(coefficients, heard, 10)
    backwards = coefficients[..., ::-1].copy()[..., ::-1]
    expanded = np.broadcast_to(coefficients, (2, 3, 9))
    for given in (backwards, expanded):
        np.testing.assert_array_equal(predict_blocks(given, np.asfortranarray(heard), 10), expected)


def test_nothing_to_predict_or_to_predict_from():
    coefficients, heard = make(5, 0, 2)
    assert predict_blocks(coefficients, heard, 4).shape == (2, 0)
    nothing = predict_blocks(np.zeros((1, 2, 0)), np.ones((2, 7)), 4)
    np.testing.assert_array_equal(nothing, np.zeros((2, 7)))


@pytest.mark.parametrize(
    ("shape", "rows", "hop", "first"),
    [((2, 1, 5), 3, 4, 0), ((1, 0, 5), 3, 4, 0), ((1, 1, 9), 3, 4, 0), ((1, 1, 5), 3, 0, 0),
     ((1, 1, 5), 3, 4, -1)],
)  # fmt: skip
def test_what_does_not_fit_is_refused(shape, rows, hop, first):
    with pytest.raises(ValueError, match="do not fit"):
        predict_blocks(np.zeros(shape), np.zeros((rows, 8)), hop, first)


def test_dtypes_must_agree():
    with pytest.raises(ValueError, match="must be float64"):
        predict_blocks(np.zeros((1, 1, 5), np.float32), np.zeros((1, 8)), 4)
