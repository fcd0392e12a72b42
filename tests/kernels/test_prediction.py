"""Linear prediction against scipy, and each prediction from its own past alone."""

import numpy as np
import pytest
import scipy.signal

from noizenet.kernels.prediction import predict_each

ORDERS = (1, 2, 7, 8, 9, 31, 32, 33, 40, 1024)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-13}  # of sums whose terms are of order 1 in total


def make(order, n_steps, rows=1, dtype=np.float64):
    """Coefficients, the oldest sample's first, whose sizes sum to 1; and what was heard."""
    draw = np.random.default_rng(order)
    coefficients = draw.standard_normal(order)
    coefficients /= np.abs(coefficients).sum()
    heard = draw.uniform(-1, 1, (rows, order + n_steps))
    return coefficients.astype(dtype), heard.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ORDERS)
def test_is_an_fir_filter(order, dtype):
    coefficients, heard = make(order, 50, 3, dtype)
    predicted = predict_each(coefficients, heard)
    assert predicted.shape == (3, 51)
    assert predicted.dtype == dtype
    newest_first = coefficients[::-1].astype(np.float64)
    expected = scipy.signal.lfilter(newest_first, [1.0], heard.astype(np.float64))
    np.testing.assert_allclose(predicted, expected[:, order - 1 :], rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ORDERS)
def test_depends_on_its_own_past_alone_to_the_bit(order, dtype):
    coefficients, heard = make(order, 40, 2, dtype)
    predicted = predict_each(coefficients, heard)
    for t in (0, 1, 7, 40):
        alone = predict_each(coefficients, heard[:, t : t + order].copy())
        np.testing.assert_array_equal(alone[:, 0], predicted[:, t])
    changed = heard.copy()
    changed[:, order + 20] = np.nan  # heard by the predictions from column 21 on
    after = predict_each(coefficients, changed)
    np.testing.assert_array_equal(after[:, :21], predicted[:, :21])
    assert np.isnan(after[:, 21 : 21 + order]).all()
    np.testing.assert_array_equal(after[:, 21 + order :], predicted[:, 21 + order :])


def test_arrays_need_not_be_contiguous():
    coefficients, heard = make(9, 30, 2)
    expected = predict_each(coefficients, heard)
    np.testing.assert_array_equal(
        predict_each(coefficients[::-1].copy()[::-1], np.asfortranarray(heard)), expected
    )


def test_without_anything_new_there_is_one_prediction():
    coefficients, heard = make(5, 0)
    assert predict_each(coefficients, heard).shape == (1, 1)
    np.testing.assert_allclose(
        predict_each(coefficients, heard)[0, 0], heard[0] @ coefficients, rtol=0, atol=1e-15
    )
