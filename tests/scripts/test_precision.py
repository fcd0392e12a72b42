"""``--precision int8`` on the command line."""

import numpy as np
import pytest
import soundfile
from scripting import tree


def played(script, precision, out):
    flags = ("--precision", precision) if precision else ()
    ended = script(
        "generate", "--run", "a", "--out", out, "--seconds", 0.3, "--rng", 3, "--threads", 1, *flags
    )
    assert (ended.code, ended.err) == (0, "")
    return soundfile.read(out)[0]


def test_integers_play_almost_the_same_sound(script, run_a):
    """From the same seed and the same draws: at first hardly told apart, then another."""
    floats, default, integers, again = (
        played(script, precision, f"{name}.wav")
        for name, precision in (
            *(("floats", "float32"), ("default", None)),
            *(("integers", "int8"), ("again", "int8")),
        )
    )
    np.testing.assert_array_equal(default, floats)
    np.testing.assert_array_equal(again, integers)
    assert len(integers) == len(floats) == round(0.3 * 22_050)
    assert not np.array_equal(integers, floats)
    first = slice(0, 50)
    assert np.abs(integers - floats)[first].max() < 0.05 * np.abs(floats)[first].max()


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--precision int8 --engine torch", "ParameterError: --precision int8 plays samples with"),
        ("--precision int4", "ParameterError: invalid choice 'int4'"),
    ],
)
def test_a_precision_that_cannot_be(flags, error, script, run_a):
    before = tree(run_a)
    script("generate", "--run", "a", *flags.split()).must_be(error)
    assert tree(run_a) == before
