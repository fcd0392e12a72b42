"""Play from a run, write the sound, judge it and draw it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from noizenet import views
from noizenet.audio.config import AudioConfig, GenerateCommand, PlayConfig
from noizenet.audio.judge import Judge, Verdict, rank
from noizenet.audio.session import Session, read_library, restored_session
from noizenet.errors import ParameterError, TrainingError
from noizenet.learner.generate import play
from noizenet.runs import Run
from noizenet.sound.seeds import make_seed
from noizenet.sound.song import Song, write_song
from noizenet.units import SAMPLE_RATE_HZ, seconds_to_samples


@dataclass(frozen=True)
class Played:
    """One candidate."""

    samples: np.ndarray
    path: Path
    rng: int
    verdict: Verdict


def play_sounds(session: Session, config: PlayConfig, seed: Song) -> list[np.ndarray]:
    """What the model plays on from a seed, ``count`` times; shorter where its state broke down.

    Raises
    ------
    TrainingError
        When nothing could be played at all.
    """
    codec = session.codec
    n_samples = seconds_to_samples(config.generate_seconds)
    n_steps = codec.n_steps(n_samples)
    numbers = codec.prime(seed.samples)
    if len(numbers) == 0:
        raise ParameterError(
            f"--seed-seconds {config.seed_seconds:g} is shorter than one frame of "
            f"{codec.hop_samples} samples"
        )
    rngs = range(config.rng, config.rng + config.count)
    played = play(session.model, numbers, n_steps, config.temperature, rngs)
    if min(len(steps) for steps in played) < codec.n_steps(1):
        raise TrainingError("the network's state is not finite; it cannot play. Train it again")
    return [codec.decode(steps)[:n_samples] for steps in played]


def generate(command: GenerateCommand) -> None:
    """Play more sound from a run: what ``scripts/generate.py`` does."""
    run = Run.open(command.run, AudioConfig)
    config = replace(run.config, machine=command.machine)
    session, _, facts = restored_session(run, config, read_library(config), command.checkpoint)
    try:
        step = facts["progress"]["step"]
        play_and_judge(run, session, command.play, step, command.out)
    finally:
        run.close()


def play_and_judge(
    run: Run,
    session: Session,
    config: PlayConfig,
    step: int,
    out: Path | None = None,
) -> Played:
    """Play ``count`` candidates, keep them all, and return the best.

    Candidate i draws from rng + i. Each is written, judged, drawn and put into TensorBoard.
    """
    songs = [song.samples for song in session.library.train]
    rms = float(np.sqrt(np.mean(np.concatenate(songs).astype(np.float64) ** 2)))
    judge = Judge(songs, [song.name for song in session.library.train])
    seed = make_seed(
        config.seed,
        seconds_to_samples(config.seed_seconds),
        config.rng,
        rms,
        session.library.unseen,
        config.perlin_hz,
        config.perlin_octaves,
    )
    began_s = time.monotonic()
    sounds = play_sounds(session, config, seed)
    took_s = time.monotonic() - began_s
    run.say(f"played     {len(sounds)} × {config.generate_seconds:g} s in {took_s:.1f} s")
    played = []
    for rng, samples in enumerate(sounds, config.rng):
        path = _sound_path(out or run.folder / "audio", config, rng)
        gain_db = write_song(path, samples)
        seconds = len(samples) / SAMPLE_RATE_HZ
        run.say(f"sound      {path}")
        if seconds < config.generate_seconds - 0.1:
            run.say(f"           the state became non-finite after {seconds:.2f} s; ended there")
        if gain_db < 0:
            run.say(f"           turned down by {-gain_db:.1f} dB to keep its peak in range")
        verdict = judge.judge(samples, rng)
        for line in verdict.lines():
            run.say(f"           {line}")
        played.append(Played(samples, path, rng, verdict))
    order = rank([candidate.verdict for candidate in played])
    if len(played) > 1:
        run.say("ranked     " + ", ".join(played[i].path.name for i in order))
    best = played[order[0]]
    _show(run, session, seed, best, step)
    return best


def _sound_path(out: Path, config: PlayConfig, rng: int) -> Path:
    """Where a candidate goes: in the folder ``out``, or at the file that ``out`` names."""
    if not out.suffix:
        seed = Path(config.seed).stem
        return out / f"{seed}-t{config.temperature:g}-rng{rng}.wav"
    return out if config.count == 1 else out.with_name(f"{out.stem}-rng{rng}{out.suffix}")


def _show(run: Run, session: Session, seed: Song, best: Played, step: int) -> None:
    """Pictures and sounds of a training song, the seed and the output."""
    sounds = {
        "song": session.library.train[0].samples,
        "seed": seed.samples,
        "output": best.samples,
    }
    for name, samples in sounds.items():
        run.add_sound(name, samples, SAMPLE_RATE_HZ, step)
        for view, figure in views.every_view(samples, name).items():
            _keep(run, f"{name}/{view}", figure, step)
    _keep(run, "overview", views.overview(sounds), step)
    for name, value in best.verdict.scalars().items():
        run.writer.add_scalar(f"judge/{name}", value, step)


def _keep(run: Run, name: str, figure, step: int) -> None:
    run.add_picture(name, views.figure_to_array(figure), step)
    views.figure_to_png(figure, run.folder / "pictures" / f"{name.replace('/', '-')}.png")
