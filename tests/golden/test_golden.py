"""Heads, codecs and cells give what they gave when the golden files were made."""

import make_golden
import numpy as np
import pytest

TOLERANCE = 1e-6
STORED = sorted(path.stem for path in make_golden.FOLDER.glob("*.npz"))


def stored(name):
    with np.load(make_golden.FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def assert_as_stored(name, values):
    expected = stored(name)
    assert values.keys() == expected.keys()
    for key, value in values.items():
        assert value.dtype == expected[key].dtype, key
        np.testing.assert_allclose(
            value, expected[key], rtol=TOLERANCE, atol=TOLERANCE, err_msg=key
        )


def test_every_head_codec_and_cell_has_its_file():
    assert set(STORED) == {
        *(f"head-{name}" for name in make_golden.HEADS),
        *(f"codec-{name}" for name in make_golden.CODECS),
        *(f"cell-{name}" for name in make_golden.CELLS),
    }


@pytest.mark.parametrize("name", make_golden.HEADS)
def test_heads(name):
    assert_as_stored(f"head-{name}", make_golden.head_values(name))


@pytest.mark.parametrize("name", make_golden.CODECS)
def test_codecs(name):
    assert_as_stored(f"codec-{name}", make_golden.codec_values(name))


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("name", make_golden.CELLS)
def test_cells(name, engine):
    assert_as_stored(f"cell-{name}", make_golden.cell_values(name, engine))


def test_the_script_writes_these_files(tmp_path, capsys):
    make_golden.main(tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == STORED
    assert capsys.readouterr().out.count("\n") == len(STORED)
    with np.load(tmp_path / "head-mixture.npz") as arrays:
        assert_as_stored("head-mixture", dict(arrays))
