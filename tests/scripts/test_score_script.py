"""``scripts/score.py`` as it is typed: its table, its flags, and one line for what is wrong."""

import subprocess
import sys

import pytest
from scripting import SCRIPTS, tone, tree, write


def test_a_run_and_a_file_side_by_side(script, run_a, here):
    write(here / "x.wav", tone())
    flags = ["--orders", 4, 8, "--threads", 1, "--out", "t.md"]
    before = {path: path.read_bytes() for path in run_a.rglob("*") if path.is_file()}
    ended = script("score", "a", "x.wav", *flags)
    assert (ended.code, ended.err) == (0, "")
    assert "| run a " in ended.out
    assert "| x.wav " in ended.out
    assert "LP 4 | LP 8 | model |" in ended.out
    assert (here / "t.md").read_text() == ended.out
    # scoring leaves a run as it was
    assert {path: path.read_bytes() for path in run_a.rglob("*") if path.is_file()} == before


def test_several_broken_things_have_a_line_each(script, here):
    write(here / "x.wav", tone())
    ended = script("score", "none.wav", "x.wav", "nope")
    assert ended.code == 2
    assert ended.err.splitlines() == [
        "DataError: none.wav: no such file",
        "ParameterError: nope: neither a run nor an audio file; there is none yet",
    ]
    assert "| x.wav " in ended.out


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("", "ParameterError: name a run or an audio file to score; --help lists every flag"),
        ("nope", "ParameterError: nope: neither a run nor an audio file; there is none yet"),
        ("x --orders many", "ParameterError: --orders: "),
        ("x --seconds long", "ParameterError: --seconds: 'long' is not a number; --help lists"),
        ("x --checkpoint first", "ParameterError: invalid choice 'first' for argument"),
        ("x --order 3", "ParameterError: Unrecognized options: --order"),
        ("x --duration 3", "ParameterError: --duration goes with --songs; a run keeps its own"),
        ("x --out .", "ParameterError: --out . is a folder; name a file in it"),
        ("x --songs nope", "DataError: --songs nope: no such file or folder; it takes demo, an"),
    ],
)
def test_what_is_wrong_is_one_line(flags, error, script, here):
    script("score", *flags.split()).must_be(error)
    assert tree(here) == []


def test_a_page_that_cannot_be_written(script, here):
    write(here / "x.wav", tone())
    (here / "in-the-way").write_text("")
    ended = script("score", "x.wav", "--out", "in-the-way/t.md")
    ended.must_be("RunError: in-the-way/t.md: cannot be written")


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['score.py', '--help']\n"
        "from noizenet.audio.score_command import parse_score\n"
        "try:\n    parse_score(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print({'torch', 'numpy', 'scipy', 'numba'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SCRIPTS
    )
    assert ended.stdout.endswith("set()\n")
    assert "THING..." in ended.stdout
