"""What a run plays: the same from the same number, in any format, and shown in TensorBoard."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from noizenet.audio import playing
from noizenet.audio.config import (
    AudioConfig,
    DataConfig,
    GenerateCommand,
    PlayConfig,
    SoundConfig,
)
from noizenet.audio.judge import Verdict
from noizenet.audio.playing import generate
from noizenet.audio.train import train
from noizenet.config import FitConfig, MachineConfig, ModelConfig
from noizenet.errors import ParameterError, RunError
from noizenet.units import SAMPLE_RATE_HZ

ROOT = Path(__file__).parents[2]
SINGLE = MachineConfig(threads=1)
PLAY = PlayConfig(seed_seconds=0.1, generate_seconds=0.2)
TINY = AudioConfig(
    data=DataConfig(songs=2, duration_s=0.4),
    sound=SoundConfig(predictor=8),
    model=ModelConfig(hidden=4),
    fit=FitConfig(epochs=3),
    play=PLAY,
    machine=SINGLE,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run ``a``, drawn and all."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(TINY, "a", resume=False)
    return folder


@pytest.fixture
def run_a(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(playing, "_show", lambda *a: None)
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path / "runs" / "a"


def play(out, machine=SINGLE, **settings):
    generate(GenerateCommand("a", Path(out), play=replace(PLAY, **settings), machine=machine))


# --- again, and otherwise ------------------------------------------------------------------------


def test_generate_repeats_what_training_played(run_a):
    play("again.wav")
    assert Path("again.wav").read_bytes() == (run_a / "audio/perlin-t1-rng0.wav").read_bytes()


def test_another_number_and_another_seed_play_otherwise(run_a):
    for name, settings in (("a", {}), ("b", {"rng": 1}), ("c", {"seed": "random"})):
        play(f"{name}.wav", **settings)
    assert len({Path(f"{name}.wav").read_bytes() for name in "abc"}) == 3


def test_without_chance_the_engines_play_the_same(run_a):
    for engine in ("numba", "torch"):
        machine = MachineConfig(threads=1, engine=engine)
        play(f"{engine}.wav", machine, temperature=0.0, generate_seconds=0.1)
    sounds = [soundfile.read(f"{engine}.wav")[0] for engine in ("numba", "torch")]
    np.testing.assert_allclose(*sounds, atol=2 / 32768)
    assert np.abs(sounds[0]).max() > 1e-4


def test_by_chance_the_engines_play_the_same(run_a):
    for engine in ("numba", "torch"):
        play(f"{engine}.wav", MachineConfig(threads=1, engine=engine), generate_seconds=0.02)
    sounds = [soundfile.read(f"{engine}.wav")[0] for engine in ("numba", "torch")]
    np.testing.assert_allclose(*sounds, atol=1e-3)
    assert np.abs(sounds[0]).max() > 0.01


@pytest.mark.slow
def test_another_process_plays_the_same(run_a):
    subprocess.run(
        [sys.executable, ROOT / "scripts/generate.py", "--run", "a", "--out", "other.wav"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert Path("other.wav").read_bytes() == (run_a / "audio/perlin-t1-rng0.wav").read_bytes()


def test_all_candidates_are_kept_and_ranked(run_a, capsys):
    play("takes", count=4, rng=7, generate_seconds=1.2)
    names = [f"perlin-t1-rng{rng}.wav" for rng in (7, 8, 9, 10)]
    assert sorted(path.name for path in Path("takes").iterdir()) == sorted(names)
    said = capsys.readouterr().out
    [ranked] = [line for line in said.splitlines() if line.startswith("ranked")]
    assert sorted(ranked.removeprefix("ranked     ").split(", ")) == sorted(names)
    assert said.count("\nverdict    ") == 4
    # a candidate is what its number plays alone
    play("alone.wav", rng=9, generate_seconds=1.2)
    alone = soundfile.read("alone.wav")[0]
    seed_of_7 = soundfile.read("takes/perlin-t1-rng9.wav")[0]
    assert len(alone) == len(seed_of_7) == round(1.2 * SAMPLE_RATE_HZ)


def test_how_long_it_plays(run_a):
    for seconds in (1 / SAMPLE_RATE_HZ, 0.1, 0.5):
        play("x.wav", generate_seconds=seconds)
        assert soundfile.info("x.wav").frames == round(seconds * SAMPLE_RATE_HZ)


# --- where to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [("x.wav", "WAV"), ("x.FLAC", "FLAC"), ("x.ogg", "OGG"), ("x.mp3", "MP3")]
)
def test_formats_by_the_ending(name, kind, run_a):
    play(name)
    assert soundfile.info(name).format == kind
    assert soundfile.info(name).samplerate == SAMPLE_RATE_HZ


def test_files_and_folders(run_a):
    Path("takes.v2").mkdir()
    play("takes.v2")  # a folder, though it has an ending
    play("new/folder")
    play("other/y.flac", count=2)
    assert [path.name for path in Path("takes.v2").iterdir()] == ["perlin-t1-rng0.wav"]
    assert [path.name for path in Path("new/folder").iterdir()] == ["perlin-t1-rng0.wav"]
    assert sorted(path.name for path in Path("other").iterdir()) == ["y-rng0.flac", "y-rng1.flac"]


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ("x.txt", ParameterError, "--out x.txt: a sound's name must end in .wav, .flac, .ogg, .m"),
        ("file", RunError, "--out file: file is a file, not a folder"),
        ("file/x.wav", RunError, "--out file/x.wav: file is a file, not a folder"),
    ],
)
def test_places_that_cannot_be_are_told_before_anything_is_read(
    out, error, message, run_a, monkeypatch
):
    Path("file").write_text("in the way")
    monkeypatch.setattr(playing, "read_library", lambda config: pytest.fail("was read"))
    with pytest.raises(error) as caught:
        play(out)
    assert str(caught.value).startswith(message)


# --- what is shown -------------------------------------------------------------------------------

VIEWS = ("waveform", "envelope", "spectrogram", "log-spectrogram", "spectrum")
SOUNDS = ("song", "seed", "output")
PICTURES = {f"{sound}/{view}" for sound in SOUNDS for view in VIEWS} | {"overview", "loss"}


@pytest.fixture(scope="module")
def events(trained):
    [path] = (trained / "runs/a/tensorboard").iterdir()
    found = EventAccumulator(str(path), size_guidance={"images": 0, "audio": 0})
    found.Reload()
    return found


def test_curves_in_tensorboard(events):
    scalars = set(events.Tags()["scalars"])
    every_step = {
        *("train/loss", "train/gradient_norm", "train/learning_rate"),
        "train/samples_per_second",
    }
    assert every_step | {"valid/loss", "valid/bits_per_sample"} <= scalars
    for name in every_step:
        assert [event.step for event in events.Scalars(name)] == [1, 2, 3, 4, 5, 6]
    assert events.Scalars("valid/bits_per_sample")[-1].step == 6
    assert events.Scalars("valid/loss")[-1].step == 6
    judged = {field.name for field in fields(Verdict) if field.type is float}
    assert {"judge/alive", "judge/level_db", "judge/frechet_ratio"} <= scalars
    assert judged - {"movement_1s", "movement_4s"} <= {
        name.removeprefix("judge/") for name in scalars
    }


def test_pictures_in_tensorboard_and_in_the_folder(events, trained):
    assert set(events.Tags()["images"]) == PICTURES
    files = {path.stem: path for path in (trained / "runs/a/pictures").iterdir()}
    assert set(files) == {name.replace("/", "-") for name in PICTURES}
    for name in PICTURES:
        shown = events.Images(name)[0]
        encoded = files[name.replace("/", "-")].read_bytes()
        assert (shown.width, shown.height) == tuple(
            int.from_bytes(encoded[at : at + 4], "big") for at in (16, 20)
        )


def test_sounds_in_tensorboard(events, trained):
    assert set(events.Tags()["audio"]) == set(SOUNDS)
    played = events.Audio("output")[0]
    assert played.sample_rate == SAMPLE_RATE_HZ
    assert played.length_frames == round(0.2 * SAMPLE_RATE_HZ)


def test_settings_and_results_in_tensorboard(events, trained):
    [text] = events.Tensors("config/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    config = (trained / "runs/a/config.json").read_text()
    assert json.loads(shown) == json.loads(config)
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert plugin.plugin_name == "hparams"
    for setting in (b"hidden", b"lr", b"loss", b"seed"):
        assert setting in plugin.content
    results = {name for name in events.Tags()["scalars"] if name.startswith("result/")}
    assert {"result/steps", "result/best_valid_bits_per_sample", "result/alive"} <= results
