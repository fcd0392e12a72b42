"""Full disks, taken places, damaged runs: one line, and nothing half-written."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripting import LAST, ONE_THREAD, SCRIPTS, TINY, Ended, tree
from tensorboard.summary.writer import record_writer

from noizenet.runs import load_checkpoint

# --- the disk ------------------------------------------------------------------------------------


def test_a_file_where_the_runs_should_be(script, here):
    (here / "runs").write_text("in the way")
    script("train", *TINY, "--run", "a").must_be("RunError: runs/a: cannot be written")
    assert tree(here) == ["runs"]
    script("generate", "--run", "a").must_be("RunError: runs/a: there is no such run")


def test_a_run_that_exists_is_left_alone(script, run_a):
    before = {path: path.read_bytes() for path in run_a.rglob("*") if path.is_file()}
    script("train", *TINY, "--run", "a").must_be("RunError: runs/a: this run exists already; ")
    assert {path: path.read_bytes() for path in run_a.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("full_after", [0, 3, 30])
def test_a_disk_that_tensorboard_finds_full(full_after, script, here, monkeypatch):
    written = []

    def fill(self, data):
        written.append(data)
        if len(written) > full_after:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_writer.RecordWriter, "write", fill)
    hook = threading.excepthook
    script("train", *TINY, "--run", "a").must_be(
        "RunError: runs/a/tensorboard: cannot be written (No space left on device)"
    )
    assert threading.excepthook is hook
    if (here / "runs/a").exists():  # when its thread told before training, nothing is left
        load_checkpoint(here / LAST)


@pytest.mark.parametrize("what", ["config.json", "log.txt", "last.safetensors"])
def test_a_disk_that_is_full_before_training_leaves_no_run(what, script, here, monkeypatch):
    real_open, real_replace = open, os.replace

    def full(path, real, *arguments, **keywords):
        if Path(path).name == what:
            raise OSError(28, "No space left on device")
        return real(*arguments, **keywords)

    monkeypatch.setattr(os, "replace", lambda a, b: full(b, real_replace, a, b))
    monkeypatch.setattr("builtins.open", lambda p, *a, **k: full(str(p), real_open, p, *a, **k))
    ended = script("train", *TINY, "--run", "a")
    assert ended.err.startswith("RunError: runs/a/")
    assert f"{what}: cannot be written (No space left on device)" in ended.err
    assert ended.code == 2
    assert tree(here) == ["runs"]


@pytest.mark.slow
def test_a_sound_that_the_disk_does_not_hold(here):
    """A limit on the size of files stands for the disk; the checkpoint fits, the sound does not."""
    ended = subprocess.run(
        [sys.executable, SCRIPTS / "train.py", *TINY, "--seconds", "30", "--run", "a"],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)),
    )
    Ended(ended.returncode, ended.stdout, ended.stderr).must_be(
        "RunError: runs/a/audio/perlin-t1-rng0.wav: cannot be written ("
    )
    assert list((here / "runs/a/audio").iterdir()) == []
    assert load_checkpoint(here / LAST)[1]["progress"]["step"] == 4


# --- checkpoints and configs of a run ------------------------------------------------------------


def change(path, find, replace):
    content = path.read_bytes()
    assert find in content
    path.write_bytes(content.replace(find, replace))


BROKEN = {
    "no checkpoint": (lambda a: (a.parents[1] / LAST).unlink(), "RunError: {last}: no such check"),
    "cut short": (
        lambda a: os.truncate(a.parents[1] / LAST, 3000),
        "RunError: {last}: not a whole checkpoint",
    ),
    "another version": (
        lambda a: change(a.parents[1] / LAST, b'"version":"1"', b'"version":"7"'),
        "RunError: {last}: checkpoint of version 7, this NoizeNet reads version 1",
    ),
    "edited": (
        lambda a: change(a.parents[1] / LAST, b'hidden\\": 4', b'hidden\\": 5'),
        "RunError: {last}: its contents were changed",
    ),
    "no config": (lambda a: (a / "config.json").unlink(), "RunError: runs/a: there is no such run"),
    "config of nonsense": (
        lambda a: (a / "config.json").write_text("nonsense"),
        "ParameterError: runs/a/config.json: not a readable JSON config",
    ),
    "config with another key": (
        lambda a: change(a / "config.json", b"hidden", b"hiden"),
        "ParameterError: runs/a/config.json: model: unknown key 'hiden'",
    ),
    "songs that went away": (
        lambda a: change(a / "config.json", b'"demo"', b'"/nowhere"'),
        {
            "train": "ParameterError: --data /nowhere contradicts run a, which was trained with",
            "generate": "DataError: '/nowhere': no such file or folder",
        },
    ),
    "config of another network": (
        lambda a: change(a / "config.json", b'"hidden": 4', b'"hidden": 5'),
        {
            "train": "ParameterError: --hidden 5 contradicts run a, which was trained with --hid",
            "generate": "RunError: {last}: does not fit runs/a/config.json (size mismatch for",
        },
    ),
}


@pytest.mark.parametrize("name", ["train", "generate"])
@pytest.mark.parametrize("breakage", BROKEN)
def test_a_run_that_was_damaged(breakage, name, script, run_a):
    spoil, error = BROKEN[breakage]
    spoil(run_a)
    before = tree(run_a)
    flags = ["--resume", "--epochs", "3"] if name == "train" else []
    error = error if isinstance(error, str) else error[name]
    script(name, "--run", "a", *flags).must_be(error.format(last=LAST))
    assert tree(run_a) == before


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--lr 0.5", "--lr 0.5 contradicts run a, which was trained with --lr 0.03; leave"),
        ("--no-anneal", "--no-anneal contradicts run a, which was trained with --anneal"),
        ("--budget-minutes 0", "--budget-minutes 0 must be"),
        ("--rng 3", "--rng 3 contradicts run a, which was trained with --rng 0"),
        ("--duration 2", "--duration 2.0 contradicts run a, which was trained with --duration 0.5"),
    ],
)
def test_what_a_resumed_run_may_not_change(flags, error, script, run_a):
    ended = script("train", "--run", "a", "--resume", *flags.split())
    ended.must_be(f"ParameterError: {error}")


# --- generate ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--out x.txt", "ParameterError: --out x.txt: a sound's name must end in .wav, .flac"),
        ("--out file", "RunError: --out file: file is a file, not a folder"),
        ("--out file/x.wav", "RunError: --out file/x.wav: file is a file, not a folder"),
        ("--seconds 0", "ParameterError: --generate-seconds 0 must be"),
        ("--count 0", "ParameterError: --count 0 must be"),
        ("--temperature -1", "ParameterError: --temperature -1 must be"),
        ("--seed none.wav", "ParameterError: --seed none.wav must be"),
        ("--checkpoint worst", "ParameterError: invalid choice 'worst'"),
        ("--hidden 3", "ParameterError: Unrecognized options: --hidden"),
        ("--run none", "RunError: runs/none: there is no such run; there are a"),
        ("--run ../a", "ParameterError: --run '../a' must be a plain name"),
    ],
)
def test_generate_refuses(flags, error, script, run_a):
    Path("file").write_text("in the way")
    before = tree(Path())
    script("generate", "--run", "a", *flags.split()).must_be(error)
    assert tree(Path()) == before


def test_generate_needs_a_run(script):
    script("generate").must_be("ParameterError: --run is missing; --help lists")


def test_a_best_checkpoint_that_never_was(script, run_a):
    (run_a / "checkpoints" / "best.safetensors").unlink()
    script("generate", "--run", "a", "--checkpoint", "best").must_be(
        "RunError: runs/a/checkpoints/best.safetensors: there is none, no song was held out"
    )
