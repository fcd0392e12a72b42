"""Ctrl-C, at any time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripting import LAST, ONE_THREAD, SCRIPTS, TINY, tree

from noizenet.audio import playing, train
from noizenet.runs import Run, load_checkpoint


def interrupt_at(monkeypatch, owner, name, when=lambda *a: True):
    """Ctrl-C, as often as ``owner.name`` is called and ``when`` agrees."""
    real = getattr(owner, name)

    def call(*arguments, **keywords):
        if when(*arguments):
            os.kill(os.getpid(), signal.SIGINT)
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, call)


def third(run, report):
    return report.step == 3


def test_ctrl_c_saves_and_still_plays(script, here, monkeypatch):
    interrupt_at(monkeypatch, Run, "step", third)
    ended = script("train", *TINY, "--epochs", "1000", "--run", "a")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    assert "stopping   saves and plays what it has learned; Ctrl-C again quits\n" in ended.out
    assert "learned    3 steps in " in ended.out
    assert (here / "runs/a/audio/perlin-t1-rng0.wav").exists()
    assert load_checkpoint(here / LAST)[1]["progress"]["step"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_quits_and_the_run_can_go_on(script, here, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, Run, "step", third)
        interrupt_at(patch, train, "play_and_judge")
        ended = script("train", *TINY, "--epochs", "1000", "--run", "a")
    assert (ended.code, ended.err) == (130, "stopped\n")
    assert not list((here / "runs/a").rglob("*.wav"))
    assert load_checkpoint(here / LAST)[1]["progress"]["step"] == 3
    ended = script("train", "--run", "a", "--resume", "--epochs", "3")
    assert ended.code == 0, ended.err
    assert "goes on    after 3 steps\n" in ended.out
    assert "learned    6 steps in " in ended.out


def test_ctrl_c_twice_within_the_first_step(script, here, monkeypatch):
    interrupt_at(monkeypatch, Run, "step")
    interrupt_at(monkeypatch, Run, "save", lambda *a, **k: a[2]["step"])
    ended = script("train", *TINY, "--run", "a")
    assert (ended.code, ended.err) == (130, "stopped\n")
    assert load_checkpoint(here / LAST)[1]["progress"]["step"] == 0
    assert script("train", "--run", "a", "--resume").code == 130  # stopped again, after one step


@pytest.mark.parametrize("where", ["read_library", "new_session", "seconds_per_step"])
def test_ctrl_c_before_training_leaves_nothing(where, script, here, monkeypatch):
    interrupt_at(monkeypatch, train, where)
    ended = script("train", *TINY, "--run", "a")
    assert (ended.code, ended.err) == (130, "stopped\n")
    assert [name for name in tree(here) if name != "runs"] == []


def test_ctrl_c_while_it_is_judged(script, run_a, monkeypatch):
    interrupt_at(monkeypatch, playing.Judge, "judge")
    ended = script("generate", "--run", "a", "--out", "takes")
    assert (ended.code, ended.err) == (130, "stopped\n")
    assert tree(Path("takes")) == ["perlin-t1-rng0.wav"]


@pytest.mark.slow
def test_ctrl_c_from_outside(here):
    command = [sys.executable, "-u", SCRIPTS / "train.py", *TINY, "--epochs", "1000000"]
    command += ["--seconds", "900", "--run", "a"]
    process = subprocess.Popen(
        command,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics, log = here / "runs/a/metrics.jsonl", here / "runs/a/log.txt"
    for ready in (
        lambda: metrics.exists() and "loss" in metrics.read_text(),
        lambda: "\nlearned " in log.read_text(),
    ):
        until_s = time.monotonic() + 60
        while not ready() and process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "stopped\n"), out
    assert load_checkpoint(here / LAST)[1]["progress"]["step"] >= 1
