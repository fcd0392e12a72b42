"""A run from its songs to its sound: resumed, repeated, and what it says of itself."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from noizenet.audio import playing
from noizenet.audio.config import AudioConfig, DataConfig, PlayConfig, SoundConfig
from noizenet.audio.train import command, duration, learning, megabytes, train
from noizenet.config import FitConfig, MachineConfig, ModelConfig, read_json
from noizenet.errors import ParameterError
from noizenet.runs import Run, load_checkpoint
from noizenet.units import SAMPLE_RATE_HZ

TINY = AudioConfig(
    data=DataConfig(songs=2, duration_s=0.4),
    sound=SoundConfig(predictor=8),
    model=ModelConfig(hidden=4, dropout=0.2),
    fit=FitConfig(epochs=2, anneal=False),
    play=PlayConfig(seed_seconds=0.1, generate_seconds=0.2),
    machine=MachineConfig(threads=1),
)
WINDOWS = replace(TINY, fit=FitConfig(epochs=2, anneal=False, training="windows", batch=1))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(playing, "_show", lambda *a: None)  # it takes seconds
    return tmp_path


def last(name):
    return load_checkpoint(Path("runs", name, "checkpoints", "last.safetensors"))


def sound(name):
    [path] = Path("runs", name, "audio").iterdir()
    return path.read_bytes()


def assert_same_network(first, second):
    one, other = last(first)[0], last(second)[0]
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


# --- resumed and repeated ------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, WINDOWS], ids=["one-shot", "windows"])
def test_two_epochs_resumed_for_four_equal_four(config, capsys):
    longer = replace(config, fit=replace(config.fit, epochs=4))
    train(longer, "straight", resume=False)
    train(config, "halves", resume=False)
    began = len(Run.open("halves", AudioConfig).metrics())
    train(longer, "halves", resume=True)
    assert_same_network("halves", "straight")
    assert sound("halves") == sound("straight")
    # the books go on, too
    halves, straight = (Run.open(name, AudioConfig).metrics() for name in ("halves", "straight"))
    steps = [line["step"] for line in halves if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))
    assert [line["loss"] for line in halves if "loss" in line] == [
        line["loss"] for line in straight if "loss" in line
    ]
    assert len(halves) > began
    assert f"goes on    after {len(steps) // 2} steps" in capsys.readouterr().out
    # and config.json repeats the whole, with how it came about beside it
    assert read_json(AudioConfig, Path("runs/halves/config.json")) == longer
    [resumed] = json.loads(Path("runs/halves/run.json").read_text())["resumed"]
    assert resumed["after_step"] == len(steps) // 2


def test_a_finished_run_says_so_and_plays(capsys):
    train(TINY, "a", resume=False)
    before, played = last("a")[0], sound("a")
    Path("runs/a/audio/perlin-t1-rng0.wav").unlink()
    capsys.readouterr()
    train(TINY, "a", resume=True)
    said = capsys.readouterr().out
    assert "nothing is left to train; raise --epochs or --budget-minutes for more" in said
    assert "expected" not in said
    assert sound("a") == played
    for name, tensor in last("a")[0].items():
        assert torch.equal(tensor, before[name])


def test_a_resumed_run_may_play_and_run_otherwise():
    train(TINY, "a", resume=False)
    other = replace(
        TINY,
        play=replace(TINY.play, seed="random", temperature=0.5),
        machine=MachineConfig(threads=1, engine="torch"),
    )
    train(other, "a", resume=True)
    assert Path("runs/a/audio/random-t0.5-rng0.wav").exists()


def test_a_config_repeats_its_run():
    train(TINY, "a", resume=False)
    train(read_json(AudioConfig, Path("runs/a/config.json")), "b", resume=False)
    assert_same_network("a", "b")
    assert sound("a") == sound("b")


def test_another_number_is_another_run():
    train(TINY, "a", resume=False)
    train(replace(TINY, play=replace(TINY.play, rng=1)), "b", resume=False)
    weights = [last(name)[0]["model.head.linear.weight"] for name in "ab"]
    assert not torch.equal(*weights)


def test_songs_and_seed_are_found_from_other_folders(here, monkeypatch):
    tone = np.sin(np.arange(9000) / 9) + 0.1 * np.random.default_rng(0).standard_normal(9000)
    soundfile.write("song.wav", 0.3 * tone, SAMPLE_RATE_HZ)
    config = replace(TINY, data=DataConfig("song.wav"), play=replace(TINY.play, seed="song.wav"))
    train(config, "a", resume=False)
    saved = read_json(AudioConfig, Path("runs/a/config.json"))
    assert saved.data.data == saved.play.seed == str(here / "song.wav")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    train(saved, "b", resume=False)


def test_a_seed_shorter_than_a_frame_is_refused_before_training(here, monkeypatch):
    config = replace(
        TINY,
        sound=SoundConfig(model="frames", representation="fft"),
        play=replace(TINY.play, seed="seed.wav"),
    )
    soundfile.write("seed.wav", np.array([0.1, -0.1, 0.1]), SAMPLE_RATE_HZ)
    monkeypatch.setattr("noizenet.learner.codecs.FrameCodec.prime", lambda self, samples: [])
    with pytest.raises(ParameterError, match=r"--seed seed\.wav: its 0\.000136 s are shorter than"):
        train(config, "a", resume=False)
    assert not Path("runs").exists()


# --- what it says of itself ----------------------------------------------------------------------


def test_it_says_what_it_will_do_and_what_came_of_it(capsys):
    train(TINY, "a", resume=False)
    out, err = capsys.readouterr()
    assert err == ""
    assert [line[:11].strip() for line in out.splitlines() if not line.startswith(" ")] == [
        *("songs", "unseen", "kernels", "network", "training", "expected", "then"),
        *("learned", "played", "sound", "verdict"),
        *("listen", "look", "play more"),
    ]
    # only the path of this environment, which is the user's, may make a line longer
    lines = out.replace(str(Path(sys.executable).parent), ".venv/bin").splitlines()
    assert max(map(len, lines)) <= 80
    assert "training   one-shot, adam: 17,640 samples an epoch, about " in out
    # a pipe gets a line for each tenth of the way, never a bar
    shares = [line.split(" %")[0].strip() for line in out.splitlines() if " %  epoch" in line]
    assert shares == ["25", "50", "75", "100"]
    assert "\r" not in out
    assert Path("runs/a/log.txt").read_text() == out


def test_a_step_that_does_not_fit_the_budget_is_announced(capsys, monkeypatch):
    monkeypatch.setattr("noizenet.audio.train.seconds_per_step", lambda *a: 0.02)
    train(replace(TINY, fit=FitConfig(budget_minutes=0.001)), "a", resume=False)
    said = capsys.readouterr().out
    assert "note       one step takes about 2 min 56 s, longer than --budget-minutes allows" in said
    assert "expected   2 min 56 s, and" in said


def test_training_and_validation_are_measured_alike():
    train(replace(TINY, model=ModelConfig(hidden=4)), "a", resume=False)
    metrics = Run.open("a", AudioConfig).metrics()
    trained = [line["loss"] for line in metrics if "loss" in line]
    valid = [line["valid_loss"] for line in metrics if "valid_loss" in line]
    bits = [line["valid_bits_per_sample"] for line in metrics if "valid_bits_per_sample" in line]
    assert len(trained) == 4
    assert len(valid) == len(bits) >= 1
    assert all(map(math.isfinite, trained + valid + bits))
    assert Path("runs/a/pictures/loss.png").stat().st_size > 1000


def test_the_curve_of_a_run():
    nan = math.nan
    metrics = [
        *({"step": step, "loss": loss} for step, loss in ((1, 4.0), (2, 2.0), (3, 9.0))),
        {"step": 3, "valid_loss": 5.0},
        # stopped and resumed after step 2: what was taken again counts
        *({"step": step, "loss": loss} for step, loss in ((3, 1.0), (4, 3.0), (5, 7.0))),
        {"step": 4, "valid_loss": 2.5},
        {"step": 4, "valid_bits_per_sample": 6.0, "best": True},
    ]
    steps, trained, valid = learning(metrics, steps_per_epoch=2)
    assert steps == [1, 1.5, 2]
    np.testing.assert_array_equal(trained, [3, nan, 2])
    np.testing.assert_array_equal(valid, [nan, 5, 2.5])
    # the only epoch counts though it was stopped
    assert learning(metrics[:1], steps_per_epoch=2) == (
        [0.5],
        [4.0],
        pytest.approx([nan], nan_ok=1),
    )
    assert learning([], steps_per_epoch=2) == ([], [], [])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.00123, "1.2 ms"),
        (0.5, "0.5 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (95, "1 min 35 s"),
        (3599.7, "1.0 h"),
        (5400, "1.5 h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_memory_in_words():
    assert [megabytes(n) for n in (10, 3.6e8, 9.99e8, 2.34e9)] == [
        *("1 MB", "360 MB", "999 MB", "2.3 GB")
    ]


def test_commands_are_named_so_that_the_shell_finds_them(tmp_path, monkeypatch):
    here = tmp_path / ".venv" / "bin"
    here.mkdir(parents=True)
    (here / "tensorboard").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(here / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("tensorboard") == ".venv/bin/tensorboard"
    monkeypatch.setenv("PATH", str(here))
    assert command("tensorboard") == "tensorboard"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("tensorboard") == str(here / "tensorboard")
