"""Kernels give what they gave when the golden files were made."""

import make_kernels
import numpy as np
import pytest

TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-5}


@pytest.fixture(scope="module")
def values():
    return make_kernels.every_value()


def test_every_kernel_has_its_file(values):
    assert {path.stem for path in make_kernels.FOLDER.glob("*.npz")} == set(values)


@pytest.mark.parametrize("name", sorted(path.stem for path in make_kernels.FOLDER.glob("*.npz")))
def test_as_stored(name, values):
    with np.load(make_kernels.FOLDER / f"{name}.npz", allow_pickle=False) as stored:
        assert set(stored) == set(values[name])
        for key, expected in stored.items():
            value = values[name][key]
            assert value.dtype == expected.dtype, key
            assert np.isfinite(value).all(), key
            error = TOLERANCE[value.dtype]
            np.testing.assert_allclose(value, expected, rtol=error, atol=error, err_msg=key)


def test_the_script_writes_these_files(values, tmp_path, capsys):
    make_kernels.main(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(values)
    assert capsys.readouterr().out.count("\n") == len(values)
