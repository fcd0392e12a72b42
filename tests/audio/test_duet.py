"""A conductor and a player: learned, saved, resumed and played together."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from noizenet.audio import playing
from noizenet.audio.config import (
    AudioConfig,
    ConductorConfig,
    DataConfig,
    GenerateCommand,
    PlayConfig,
    SoundConfig,
)
from noizenet.audio.playing import generate
from noizenet.audio.session import read_library, restored_session
from noizenet.audio.train import train
from noizenet.config import FitConfig, MachineConfig, ModelConfig, read_json
from noizenet.errors import ParameterError, RunError
from noizenet.learner.score import Score
from noizenet.runs import Run, load_checkpoint
from noizenet.sound.spectra import HOP_SAMPLES
from noizenet.units import SAMPLE_RATE_HZ

SINGLE = MachineConfig(threads=1)
PLAY = PlayConfig(seed_seconds=0.1, generate_seconds=0.2)
TINY = AudioConfig(
    data=DataConfig(songs=3, duration_s=0.5),
    sound=SoundConfig(model="duet"),
    model=ModelConfig(hidden=4, dropout=0.2),
    conductor=ConductorConfig(codes=8, conductor_hidden=8, conductor_steps=3),
    fit=FitConfig(epochs=1, anneal=False, training="windows", window_samples=2048),
    play=PLAY,
    machine=SINGLE,
)
N_CONDUCTOR, N_PLAYER = 3, 2  # steps of an epoch: three songs twice, in 16 windows at once


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the run ``a``, what was said, and its seeds' common parent."""
    folder = tmp_path_factory.mktemp("duet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(playing, "_show", lambda *a: None)
        train(TINY, "a", resume=False)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(playing, "_show", lambda *a: None)
    return tmp_path


@pytest.fixture
def run_a(trained, here):
    shutil.copytree(trained / "runs", here / "runs")
    return here / "runs" / "a"


@pytest.fixture
def session(run_a):
    run = Run.open("a", AudioConfig)
    return restored_session(run, run.config, read_library(run.config))[0]


def tensors(name):
    return load_checkpoint(Path("runs", name, "checkpoints", "last.safetensors"))[0]


def sound(name):
    [path] = Path("runs", name, "audio").iterdir()
    return path.read_bytes()


def play(out, machine=SINGLE, checkpoint="last", **settings):
    command = GenerateCommand("a", Path(out), checkpoint, replace(PLAY, **settings), machine)
    generate(command)
    return None if Path(out).is_dir() else soundfile.read(out)[0]


def write_tone(name, n_samples=9000):
    samples = 0.3 * np.cos(np.arange(n_samples) / 9)
    soundfile.write(name, samples, SAMPLE_RATE_HZ)


def assert_same_run(first, second):
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
    assert sound(first) == sound(second)


# --- a run ---------------------------------------------------------------------------------------


def test_it_says_who_plays_and_who_conducts(run_a):
    lines = (run_a / "log.txt").read_text().splitlines()
    assert [line[:11].strip() for line in lines if not line.startswith(" ")] == [
        *("songs", "unseen", "note", "kernels", "network", "training", "expected", "then"),
        *("learned", "played", "sound", "verdict"),
        *("listen", "look", "play more"),
    ]
    said = "\n".join(lines)
    assert (
        "network    conductor lstm 8, a vocabulary of 8 spectra\n           player lstm 4 × 1"
        in said
    )
    assert "over a linear prediction of 320, mixture" in said
    assert f"learned    {N_CONDUCTOR + N_PLAYER} steps in" in said
    shares = [line.split(" %")[1].split(",")[0].strip() for line in lines if " %  " in line]
    assert shares == ["conductor"] * 3 + ["epoch 1"] * 2


def test_its_books_tell_the_two_apart(run_a):
    metrics = Run.open("a", AudioConfig).metrics()
    steps = [(line["part"], line["step"]) for line in metrics if "loss" in line]
    assert steps == [("conductor", n) for n in (1, 2, 3)] + [("model", n) for n in (4, 5)]
    assert {line["step"] for line in metrics if "valid_bits_per_sample" in line} == {5}


def test_a_checkpoint_holds_both_networks_and_the_vocabulary(run_a):
    found = tensors("a")
    assert {"model.reach", "model.head.linear.weight"} <= found.keys()
    assert {"conductor.embedding.weight", "conductor.head.linear.weight"} <= found.keys()
    assert "model.prediction" not in found  # that is the guide's
    assert {"codec.patch_centres", "codec.patch_lags", "codec.guide_mean"} <= found.keys()
    assert found["codec.patch_lags"].shape == (8, 4, 321)
    assert 0 < found["model.reach"] < 100


@pytest.mark.parametrize("missing", ["conductor.embedding.weight", "codec.patch_centres"])
def test_a_checkpoint_that_lacks_a_part_is_refused(missing, run_a, monkeypatch):
    found, facts = load_checkpoint(run_a / "checkpoints" / "last.safetensors")
    del found[missing]
    monkeypatch.setattr("noizenet.audio.session.load_checkpoint", lambda path: (found, facts))
    with pytest.raises(
        RunError, match=r"last.safetensors: does not fit runs/a/config.json \("
    ) as e:
        play("x.wav")
    assert "\n" not in str(e.value)


# --- resumed and repeated ------------------------------------------------------------------------


def test_an_epoch_resumed_for_two_equals_two(run_a):
    longer = replace(TINY, fit=replace(TINY.fit, epochs=2))
    train(longer, "straight", resume=False)
    train(longer, "a", resume=True)
    assert_same_run("a", "straight")


@pytest.mark.parametrize("stopped_at", [2, 4])
def test_a_run_goes_on_wherever_it_was_stopped(stopped_at, run_a, monkeypatch):
    """While the conductor learned, or the player."""
    real = Run.step

    def step(run, report):
        if report.step == stopped_at:
            os.kill(os.getpid(), signal.SIGINT)
        return real(run, report)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", step)
        train(TINY, "halves", resume=False)
    [stopped] = [line["step"] for line in Run.open("halves", AudioConfig).metrics()][-1:]
    assert stopped == stopped_at
    train(TINY, "halves", resume=True)
    assert_same_run("halves", "a")


def test_a_config_repeats_its_run(run_a):
    train(read_json(AudioConfig, run_a / "config.json"), "b", resume=False)
    assert_same_run("a", "b")


def test_a_finished_run_says_so(run_a, capsys):
    train(TINY, "a", resume=True)
    assert "nothing is left to train; raise --epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conductor": replace(TINY.conductor, codes=9)}, "--codes 9 contradicts run a, which was"),
        (
            {"conductor": replace(TINY.conductor, conductor_steps=4)},
            "--conductor-steps 4 contradicts run a, which was trained with --conductor-steps 3",
        ),
        (
            {"sound": SoundConfig(), "conductor": ConductorConfig()},
            "--model stack contradicts run a, which was trained with --model duet",
        ),
    ],
)
def test_what_a_resumed_run_may_not_change(change, message, run_a):
    with pytest.raises(ParameterError) as caught:
        train(replace(TINY, **change), "a", resume=True)
    assert str(caught.value).startswith(message)


# --- what it plays -------------------------------------------------------------------------------


def test_generate_plays_what_the_run_played(run_a):
    play("again.wav")
    assert Path("again.wav").read_bytes() == sound("a")


def test_candidates_are_what_their_numbers_play_alone(run_a):
    write_tone("own.wav")  # the same seed for all
    play("takes", count=3, rng=5, seed="own.wav")
    for rng in (5, 6, 7):
        play("alone.wav", rng=rng, seed="own.wav")
        take = Path(f"takes/own-t1-rng{rng}.wav")
        assert take.read_bytes() == Path("alone.wav").read_bytes()


def test_every_seed_and_number_plays_something_else(run_a):
    write_tone("own.wav")
    sounds = [
        play(f"{name}.wav", **settings)
        for name, settings in (
            *(("perlin", {}), ("number", {"rng": 1}), ("random", {"seed": "random"})),
            *(("song", {"seed": "song"}), ("own", {"seed": "own.wav"})),
            *(("calm", {"temperature": 0.5}), ("wild", {"temperature": 1.3})),
        )
    ]
    for index, one in enumerate(sounds):
        assert len(one) == round(0.2 * SAMPLE_RATE_HZ)
        assert np.abs(one).max() > 1e-4
        for other in sounds[:index]:
            assert np.abs(one - other).max() > 1e-3


def test_without_chance_the_conductor_writes_one_text(run_a, session):
    """What the player makes of it is never quite without chance: a number fixes it."""
    heard = session.codec.encode(session.library.unseen[0].samples)[:, 0]
    cold, warm = (session.conductor.write(heard, 20_000, t, [0, 1, 2]) for t in (0.0, 1.0))
    for row in (1, 2):
        assert torch.equal(cold.unit[row], cold.unit[0])
        assert not torch.equal(warm.unit[row], warm.unit[0])
    first, again = (play("x.wav", temperature=0.0) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_integers_play_almost_the_same(run_a):
    floats, integers, again = (
        play(f"{name}.wav", precision=precision, temperature=0.0)
        for name, precision in (("floats", "float32"), ("integers", "int8"), ("again", "int8"))
    )
    np.testing.assert_array_equal(integers, again)
    assert not np.array_equal(integers, floats)
    assert np.abs(integers - floats)[:50].max() < 0.1 * np.abs(floats)[:50].max()


def test_the_engines_play_the_same(run_a):
    sounds = [
        play(f"{engine}.wav", MachineConfig(threads=1, engine=engine), generate_seconds=0.02)
        for engine in ("numba", "torch")
    ]
    np.testing.assert_allclose(*sounds, atol=1e-3)
    assert np.abs(sounds[0]).max() > 0.01


def test_the_best_checkpoint_plays(run_a):
    assert len(play("best.wav", checkpoint="best")) == round(0.2 * SAMPLE_RATE_HZ)


@pytest.mark.parametrize("n_samples", [2, HOP_SAMPLES - 1, HOP_SAMPLES, 3 * HOP_SAMPLES + 7])
def test_a_seed_of_hardly_a_block(n_samples, run_a):
    write_tone("short.wav", n_samples)
    assert len(play("x.wav", seed="short.wav")) == round(0.2 * SAMPLE_RATE_HZ)


def test_the_end_of_the_seed_is_what_is_heard_last(session):
    """What does not fill a block is left out at the beginning, where it matters least."""
    seed = session.codec.prime(np.sin(np.arange(5 * HOP_SAMPLES + 100) / 5).astype(np.float32))
    whole, cut, other = (
        session.play(numbers, 200, PLAY)[0]
        for numbers in (seed, seed[-5 * HOP_SAMPLES :], seed[:-9])
    )
    if len(seed) % HOP_SAMPLES == 0:
        pytest.fail("nothing would be left out")
    np.testing.assert_array_equal(whole, cut)
    assert not np.array_equal(whole, other)


# --- what it is told by --------------------------------------------------------------------------


def test_a_sample_is_told_from_earlier_ones_alone(session, monkeypatch):
    """Through the network, its input and the spectra of its guide."""
    real, masses = session.model.head.log_mass, []
    monkeypatch.setattr(
        session.model.head, "log_mass", lambda *known: masses.append(real(*known)) or masses[-1]
    )

    def nats(samples):
        masses.clear()
        session.score(samples)
        return torch.cat([mass.flatten() for mass in masses]).numpy()

    samples = session.library.unseen[0].samples[:8192]
    before = nats(samples)
    assert before.shape == samples.shape
    for n in (1, 255, 256, 257, 5000, 8191):
        changed = samples.copy()
        changed[n:] = np.sin(np.arange(len(samples) - n)) / 3
        after = nats(changed)
        np.testing.assert_array_equal(after[:n], before[:n])
        assert after[n] != before[n]
        if n < 5001:  # and from all of the earlier ones: from those next to it most
            assert (after[n + 1 : n + 50] != before[n + 1 : n + 50]).any()


def test_its_bits_are_those_of_its_samples(session):
    samples = session.library.unseen[0].samples
    found = session.score(samples)
    assert isinstance(found, Score)
    assert 0 < found.bits_per_sample < 16


def test_the_conductor_writes_as_much_as_is_asked_for(session):
    for n_samples, n_patches in ((1, 1), (1024, 1), (1025, 2), (4410, 5)):
        guide = session.conductor.write(np.zeros(0, np.float32), n_samples, 1.0, [0, 1])
        assert guide.unit.shape == (2, 4 * n_patches)
        assert guide.hop == HOP_SAMPLES


# --- songs ---------------------------------------------------------------------------------------


def test_songs_shorter_than_a_window_are_padded_with_their_guides(here, capsys):
    fit = replace(TINY.fit, window_samples=12_000, batch=2)
    train(replace(TINY, fit=fit), "a", resume=False)
    said = capsys.readouterr().out
    assert said.count("is shorter than the window; padded with silence to 0.534 s") == 3
    losses = [line["loss"] for line in Run.open("a", AudioConfig).metrics() if "loss" in line]
    assert np.isfinite(losses).all()


def test_whole_songs_in_one_step(here):
    fit = FitConfig(epochs=1, songs_per_step=2)
    train(replace(TINY, fit=fit), "a", resume=False)
    steps = [line for line in Run.open("a", AudioConfig).metrics() if line.get("part") == "model"]
    assert len(steps) == 3  # three songs, twice each


def test_a_song_of_less_than_a_few_words_is_padded(here, capsys):
    write_tone("song.wav", 500)
    train(replace(TINY, data=DataConfig("song.wav", valid_fraction=0.0)), "a", resume=False)
    said = capsys.readouterr().out
    assert "note       song: 0.023 s is shorter than the window; padded with silence" in said
    assert len(soundfile.read("runs/a/audio/perlin-t1-rng0.wav")[0]) == 4410


def test_another_song_is_told_on_its_own_level(session):
    """Loud, quiet or silent, everything stays finite."""
    for gain in (0.0, 1e-4, 30.0):
        samples = gain * session.library.unseen[0].samples[:4096]
        assert np.isfinite(session.score(samples).bits_per_sample)
