"""What is heard while a network learns: at fixed times, once each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from noizenet.audio import excerpts, playing
from noizenet.audio.config import (
    AudioConfig,
    ConductorConfig,
    DataConfig,
    PlayConfig,
    SoundConfig,
)
from noizenet.audio.excerpts import Excerpts
from noizenet.audio.playing import Stage
from noizenet.audio.session import new_session, read_library
from noizenet.audio.train import train
from noizenet.config import FitConfig, MachineConfig, ModelConfig
from noizenet.runs import load_checkpoint
from noizenet.units import SAMPLE_RATE_HZ

SHARED = {
    "data": DataConfig(songs=1, duration_s=0.5),
    "model": ModelConfig(hidden=4),
    "play": PlayConfig(seed_seconds=0.1, generate_seconds=0.1, count=2),
    "machine": MachineConfig(threads=1),
}
STACK = AudioConfig(sound=SoundConfig(predictor=8), fit=FitConfig(epochs=2, anneal=False), **SHARED)
DUET = AudioConfig(
    sound=SoundConfig(model="duet"),
    conductor=ConductorConfig(codes=4, conductor_hidden=4, conductor_steps=2),
    fit=FitConfig(epochs=1, anneal=False, training="windows", window_samples=512),
    **SHARED,
)
FRAMES = AudioConfig(
    sound=SoundConfig(model="frames", representation="fft"), fit=FitConfig(epochs=1), **SHARED
)
CONFIGS = {"stack": STACK, "duet": DUET, "frames": FRAMES}


class Listener:
    """What of a run an excerpt needs."""

    def __init__(self, folder):
        self.folder = folder
        self.sounds = []

    def add_sound(self, name, samples, sample_rate_hz, step):
        assert sample_rate_hz == SAMPLE_RATE_HZ
        self.sounds.append((name, len(samples), step))

    def written(self):
        return sorted(path.name for path in (self.folder / "audio").glob("*"))


@pytest.fixture
def make_excerpts(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpts, "EXCERPT_S", 0.6)

    def make(kind="stack", step_s=1e-6):
        config = CONFIGS[kind]
        library = read_library(config)
        run = Listener(tmp_path)
        session = new_session(config, library)
        return Excerpts(run, session, Stage.prepare(config.play, library), step_s), run

    return make


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_at_each_time(kind, make_excerpts):
    hear, run = make_excerpts(kind)
    for step, elapsed_s in enumerate((0, 29.9, 30.1, 45, 59, 60, 61, 119, 130, 500, 600, 970)):
        hear(elapsed_s, step)
    # of times that a long step went past, the latest
    names = [f"learning-{at_s}s.wav" for at_s in (30, 60, 120, 480, 960)]
    assert run.written() == sorted(names)
    hop = 512 if kind == "frames" else 1
    n_samples = -(-round(0.6 * SAMPLE_RATE_HZ) // hop) * hop
    assert run.sounds == [("learning", n_samples, step) for step in (2, 5, 8, 9, 11)]
    for name in names:
        assert soundfile.info(run.folder / "audio" / name).frames == n_samples


def test_after_a_resume_nothing_is_played_again(make_excerpts):
    hear, run = make_excerpts()
    hear.go_on_after(70.0)
    for elapsed_s in (70.1, 119.0, 121.0):
        hear(elapsed_s, 5)
    assert run.written() == ["learning-120s.wav"]


def test_a_network_that_is_slow_is_heard_for_less_or_not_at_all(make_excerpts):
    slow_s = excerpts.PATIENCE_S / (0.55 * SAMPLE_RATE_HZ)  # as long for 0.55 s of sound
    hear, run = make_excerpts(step_s=slow_s)
    hear(31.0, 1)
    assert run.sounds == [("learning", round(0.55 * SAMPLE_RATE_HZ), 1)]
    hear, run = make_excerpts(step_s=2 * slow_s)
    hear(31.0, 1)
    assert run.sounds == []


def test_hearing_changes_nothing_of_what_is_learned(tmp_path, monkeypatch):
    """Nor of what is played in the end; and in a run it is there to be heard."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(playing, "_show", lambda *a: None)
    config = replace(DUET, play=replace(DUET.play, count=1))
    train(config, "silent", resume=False)
    monkeypatch.setattr(excerpts, "EXCERPT_S", 0.6)
    monkeypatch.setattr(excerpts, "FIRST_S", 1e-9)
    train(config, "heard", resume=False)
    silent, heard = (Path("runs", name, "audio") for name in ("silent", "heard"))
    assert [path.name for path in silent.iterdir()] == ["perlin-t1-rng0.wav"]
    assert (heard / "perlin-t1-rng0.wav").read_bytes() == (
        silent / "perlin-t1-rng0.wav"
    ).read_bytes()
    learning = list(heard.glob("learning-*s.wav"))
    assert learning
    assert np.abs(soundfile.read(learning[0])[0]).max() > 0
    [path] = Path("runs/heard/tensorboard").iterdir()
    events = EventAccumulator(str(path), size_guidance={"audio": 0})
    events.Reload()
    assert len(events.Audio("learning")) == len(learning)
    # the conductor's two steps come before there is anything to hear
    assert all(event.step > 2 for event in events.Audio("learning"))


def test_a_resumed_run_knows_how_long_it_was_heard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(playing, "_show", lambda *a: None)
    train(STACK, "a", resume=False)
    progress = load_checkpoint(Path("runs/a/checkpoints/last.safetensors"))[1]["progress"]
    heard_s = []
    monkeypatch.setattr(Excerpts, "go_on_after", lambda self, elapsed_s: heard_s.append(elapsed_s))
    train(replace(STACK, fit=replace(STACK.fit, epochs=3)), "a", resume=True)
    assert heard_s == [progress["elapsed_s"]]
