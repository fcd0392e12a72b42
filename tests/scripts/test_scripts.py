"""The scripts as a newcomer types them: what is wrong ends in one line, and leaves nothing."""

import io
import json
import runpy
import sys

import numpy as np
import pytest
from scripting import SCRIPTS, TINY, tone, tree, write

# --- the flags -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--preset nope", "ParameterError: --preset nope is unknown; there are default, duet, "),
        ("--config nope.json", "ParameterError: nope.json: there is no such config file"),
        ("--cell lstn", "ParameterError: invalid choice 'lstn' for argument '--cell'"),
        ("--hiden 3", "ParameterError: Unrecognized options: --hiden"),
        ("--hidden", "ParameterError: Missing value for argument '--hidden'"),
        ("--hidden many", "ParameterError: --hidden: 'many' is not a whole number; --help"),
        ("--songs 1.5", "ParameterError: --songs: '1.5' is not a whole number; --help lists"),
        ("--duration long", "ParameterError: --duration: 'long' is not a number; --help lists"),
        ("--lr high", "ParameterError: --lr: 'high' is not a number; --help lists every flag"),
        ("--hidden 0", "ParameterError: --hidden 0 must be"),
        ("--duration -1", "ParameterError: --duration -1 must be a number of seconds above 0"),
        ("--duration nan", "ParameterError: --duration nan must be"),
        ("--epochs 0", "ParameterError: --epochs 0 must be"),
        ("--lr 1e300", "ParameterError: --lr 1e+300 must be a learning rate of at most 1e+38"),
        ("--rng 4294967296", "ParameterError: --rng 4.29497e+09 must be a whole number of at most"),
        ("--threads 99999", "ParameterError: --threads 99999 must be"),
        ("--preset classic --config x", "ParameterError: --preset and --config each say where"),
        ("--loss mulaw --representation fft", "ParameterError: --loss mulaw predicts"),
        ("--batch 3", "ParameterError: --batch 3 goes with --training windows"),
        ("--count 4 --temperature 0", "ParameterError: --count 4 goes with a --temperature"),
        ("--generate-seconds 1e9", "ParameterError: --generate-seconds 1e+09 × --count 1 must be"),
        ("--resume", "ParameterError: --resume needs --run NAME"),
        ("--resume --run none", "RunError: runs/none: there is no such run; there is none yet"),
        ("--resume --preset classic", "ParameterError: --preset and --resume each say where"),
        ("--run a/b", "ParameterError: --run 'a/b' must be a plain name, without slashes"),
        ("--run=", "ParameterError: --run '' must be a plain name"),
        ("--device cuda --engine numba", "ParameterError: --engine numba runs on the CPU"),
        ("--hidden 200000", "ParameterError: --hidden 200000 --layers 1 --mixtures 4: 160,006"),
        ("--hidden 99999999999999999999", "ParameterError: --hidden 99999999999999999999 --lay"),
        ("--training windows --batch 9", "ParameterError: --batch 9 windows of 10000 steps need"),
    ],
)
def test_flags_that_cannot_be(flags, error, script, here):
    script("train", *TINY, *flags.split()).must_be(error)
    assert tree(here) == []


def test_memory_that_is_missing_is_named_before_training(script, here):
    ended = script("train", *TINY, "--hidden", "200000")
    assert "weights need 8,320 GB of memory in training, and there are" in ended.err
    assert ended.err.endswith("lower them\n")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--seed none.wav", "ParameterError: --seed none.wav must be perlin, random, song, or"),
        ("--seed text.wav", "FormatError: text.wav: not decodable"),
        ("--seed .", "DataError: .: is a folder"),
        ("--seed silent.wav", "DataError: silent.wav: is silent"),
        ("--seed song --data tone.wav --valid-fraction 0", "DataError: --seed song: there is no"),
        ("--seed-seconds 1e-9", "ParameterError: --seed-seconds must be"),
        ("--perlin-hz 1e-9", "ParameterError: --perlin-hz 1e-09 is too low"),
        ("--generate-seconds 1e-9", "ParameterError: --generate-seconds 1e-09 is less than a sam"),
    ],
)
def test_a_seed_that_cannot_be_is_told_before_training(flags, error, script, here):
    (here / "text.wav").write_text("hello")
    write(here / "silent.wav", np.zeros(500))
    write(here / "tone.wav", tone())
    before = tree(here)
    ended = script("train", *TINY, *flags.split())
    ended.must_be(error)
    assert ended.out == ""
    assert tree(here) == before


@pytest.mark.parametrize("flags", [["--cell", "lstn"], ["--run", "naïve/×"]])
def test_a_terminal_that_knows_only_ascii(flags, here, monkeypatch):
    screens = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", screens[0])
    monkeypatch.setattr(sys, "stderr", screens[1])
    monkeypatch.setattr(sys, "argv", ["train.py", *TINY, *flags])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / "train.py"), run_name="__main__")
    out, err = (screen.buffer.getvalue() for screen in screens if not screen.flush())
    assert (end.value.code, out, err.count(b"\n")) == (2, b"", 1)
    assert err.startswith((b"ParameterError: invalid choice", b"ParameterError: --run 'na?ve/?'"))


# --- the songs -----------------------------------------------------------------------------------

WITH_NAN = np.where(np.arange(500) == 77, np.nan, tone(500))


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("none.wav", None, "DataError: 'none.wav': no such file or folder"),
        ("", None, "DataError: '': no such file or folder"),
        ("text.wav", b"I am not a sound\n", "FormatError: text.wav: not decodable"),
        ("empty.wav", b"", "FormatError: empty.wav: not decodable"),
        ("short.wav", np.zeros(0), "FormatError: short.wav: has no sound in it (zero length)"),
        ("silent.wav", np.zeros(9000), "DataError: silent.wav: is silent"),
        ("nan.wav", WITH_NAN, "FormatError: nan.wav: has samples that are NaN"),
        ("folder", None, "DataError: folder: no audio files in it"),
        ("folder/text.wav", b"no", "DataError: folder: none of 1 audio files can be read"),
    ],
)
def test_songs_that_cannot_be_read(name, content, error, script, here):
    (here / "folder").mkdir()
    if isinstance(content, bytes):
        (here / name).write_bytes(content)
    elif content is not None:
        write(here / name, content)
    before = tree(here)
    script("train", *TINY, "--data", name.partition("/")[0]).must_be(error)
    assert tree(here) == before


def test_unreadable_songs_among_others_are_listed(script, here):
    for name, frequency_hz in (("one", 440), ("two", 330), ("three", 550)):
        write(here / "songs" / f"{name}.wav", tone(9000, frequency_hz))
    (here / "songs" / "text.wav").write_text("hello")
    write(here / "songs" / "nan.wav", WITH_NAN)
    ended = script("train", *TINY, "--songs", 9, "--data", "songs", "--run", "a")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert ended.out.startswith("songs      2, 0.82 s in all: ")
    assert "skipped    songs/text.wav: not decodable (" in ended.out
    assert "skipped    songs/nan.wav: has samples that are NaN or infinite; export" in ended.out
    assert (here / "runs/a/log.txt").read_text() == ended.out
    # found from anywhere, by absolute path
    assert json.loads((here / "runs/a/config.json").read_text())["data"]["data"] == str(
        here / "songs"
    )


@pytest.mark.parametrize("representation", ["waveform", "fft"])
def test_songs_shorter_than_a_window_are_padded_and_it_is_said(representation, script, here):
    write(here / "songs" / "long.wav", tone(22_050))
    write(here / "songs" / "short.wav", tone(700, 330))
    (here / "songs" / "long.wav").rename(here / "songs" / "short.flac")
    flags = ["--data", "songs", "--valid-fraction", 0, "--representation", representation]
    if representation == "fft":
        flags += ["--predictor", 0]
    ended = script("train", *TINY, *flags, "--training", "windows", "--window-samples", 9000)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("songs      2, ")  # of one name
    assert "note       short: 0.0" in ended.out
    assert "is shorter than the window; padded with silence to" in ended.out
    assert "note       the songs fill only 2 of 16 windows side by side" in ended.out


# --- the duet ------------------------------------------------------------------------------------


def test_the_default_is_a_duet_from_songs_to_sound(script, here):
    """Trained, played from, gone on with and repeated, by the flags that a newcomer types."""
    for name, frequency_hz in (("one", 440), ("two", 330)):
        write(here / "songs" / f"{name}.wav", tone(11_025, frequency_hz))
    small = [
        *("--data", "songs", "--valid-fraction", 0, "--epochs", 1, "--hidden", 4, "--no-anneal"),
        *("--conductor-hidden", 8, "--codes", 4, "--conductor-steps", 2, "--threads", 1),
        *("--seed-seconds", 0.2, "--generate-seconds", 0.3),
    ]
    ended = script("train", *small, "--run", "a")
    assert (ended.code, ended.err) == (0, "")
    assert "network    conductor lstm 8, a vocabulary of 4 spectra\n" in ended.out
    assert "           player lstm 4 × 1 over a linear prediction of 320, mixture\n" in ended.out
    made = (here / "runs/a/audio/perlin-t1-rng0.wav").read_bytes()

    ended = script("generate", "--run", "a", "--out", "takes", "--count", 2)
    assert (ended.code, ended.err) == (0, "")
    assert tree(here / "takes") == ["perlin-t1-rng0.wav", "perlin-t1-rng1.wav"]
    assert (here / "takes/perlin-t1-rng0.wav").read_bytes() == made

    assert script("train", "--config", "runs/a/config.json", "--run", "b").code == 0
    assert (here / "runs/b/audio/perlin-t1-rng0.wav").read_bytes() == made

    script("train", "--run", "a", "--resume", "--codes", 5).must_be(
        "ParameterError: --codes 5 contradicts run a, which was trained with --codes 4; leave it"
    )
    script("train", "--run", "a", "--resume", "--training", "one-shot").must_be(
        "ParameterError: --training one-shot contradicts run a, which was trained with --training"
    )
    ended = script("train", "--run", "a", "--resume", "--epochs", 2)
    assert (ended.code, ended.err) == (0, "")
    assert "goes on    after 3 steps\n" in ended.out
    assert "learned    4 steps in " in ended.out
