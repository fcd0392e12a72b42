"""Play from a run, write the sound, judge it and draw it."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from noizenet import views
from noizenet.audio.config import AudioConfig, GenerateCommand, PlayConfig
from noizenet.audio.judge import Judge, Verdict, rank
from noizenet.audio.session import Session, read_library, restored_session
from noizenet.errors import ParameterError, RunError, TrainingError
from noizenet.learner.codecs import Codec
from noizenet.runs import Run
from noizenet.sound.library import Library
from noizenet.sound.seeds import make_seed
from noizenet.sound.song import WRITABLE, Song, write_song
from noizenet.units import SAMPLE_RATE_HZ, seconds_to_samples

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Played:
    """One candidate."""

    samples: np.ndarray
    path: Path
    rng: int
    verdict: Verdict


@dataclass(frozen=True)
class Stage:
    """What playing needs besides the network: made before training, so that what is wrong with
    it is said before."""

    config: PlayConfig
    seed: Song
    judge: Judge
    n_samples: int

    @classmethod
    def prepare(cls, config: PlayConfig, library: Library) -> "Stage":
        """Read or make the seed, and measure the songs that sounds are judged against."""
        n_samples = seconds_to_samples(config.generate_seconds)
        if n_samples < 1:
            raise ParameterError(
                f"--generate-seconds {config.generate_seconds:g} is less than a sample"
            )
        songs = [song.samples for song in library.train]
        seed = make_seed(
            config.seed,
            seconds_to_samples(config.seed_seconds),
            config.rng,
            float(np.sqrt(np.mean(np.concatenate(songs).astype(np.float64) ** 2))),
            library.unseen,
            config.perlin_hz,
            config.perlin_octaves,
        )
        return cls(config, seed, Judge(songs, [song.name for song in library.train]), n_samples)

    def prime(self, codec: Codec) -> np.ndarray:
        """The seed as the network reads it."""
        numbers = codec.prime(self.seed.samples)
        if len(numbers) == 0:
            raise ParameterError(
                f"--seed {self.config.seed}: its {self.seed.duration_s:.3g} s are shorter than a "
                f"frame of {codec.n_features} samples; take a longer --seed-seconds or file"
            )
        return numbers


def play_sounds(session: Session, stage: Stage) -> list[np.ndarray]:
    """What the model plays on from a seed, ``count`` times; shorter where its state broke down.

    Raises
    ------
    TrainingError
        When nothing could be played at all.
    """
    codec, config = session.codec, stage.config
    played = session.play(stage.prime(codec), codec.n_steps(stage.n_samples), config)
    if min(len(steps) for steps in played) < codec.n_steps(1):
        raise TrainingError("the network's state is not finite; it cannot play. Train it again")
    return [codec.decode(steps)[: stage.n_samples] for steps in played]


def generate(command: GenerateCommand) -> None:
    """Play more sound from a run: what ``scripts/generate.py`` does."""
    run = Run.open(command.run, AudioConfig)
    out = _checked_out(command.out) if command.out else run.folder / "audio"
    config = replace(run.config, machine=command.machine, play=command.play)
    library = read_library(config)
    session, _, facts = restored_session(run, config, library, command.checkpoint)
    try:
        stage = Stage.prepare(command.play, library)
        play_and_judge(run, session, stage, facts["progress"]["step"], out)
    finally:
        run.close()


def play_and_judge(
    run: Run,
    session: Session,
    stage: Stage,
    step: int,
    out: Path,
) -> Played:
    """Play ``count`` candidates, keep them all, and return the best.

    Candidate i draws from rng + i. All are written and judged; the best is drawn and put into
    TensorBoard.
    """
    config = stage.config
    began_s = time.monotonic()
    sounds = play_sounds(session, stage)
    took_s = time.monotonic() - began_s
    run.say(f"played     {len(sounds)} × {config.generate_seconds:g} s in {took_s:.1f} s")
    played = []
    for rng, samples in enumerate(sounds, config.rng):
        path = _sound_path(out, config, rng)
        gain_db = write_song(path, samples)
        seconds = len(samples) / SAMPLE_RATE_HZ
        run.say(f"sound      {path}")
        if seconds < config.generate_seconds - 0.1:
            run.say(f"           the state became non-finite after {seconds:.2f} s; ended there")
        if gain_db < 0:
            run.say(f"           turned down by {-gain_db:.1f} dB to keep its peak in range")
        verdict = stage.judge.judge(samples, rng)
        headline, *details = verdict.lines()
        run.say(f"verdict    {headline}")
        for line in details:
            run.say(f"  {line}")
        played.append(Played(samples, path, rng, verdict))
    order = rank([candidate.verdict for candidate in played])
    if len(played) > 1:
        run.say("ranked     " + ", ".join(played[i].path.name for i in order))
    best = played[order[0]]
    _show(run, session, stage.seed, best, step)
    return best


def _checked_out(out: Path) -> Path:
    """``--out``, which must be a folder (or become one) or name a file that can be written."""
    if out.is_dir() or not out.suffix:
        folder = out
    elif out.suffix.lower() in WRITABLE:
        folder = out.parent
    else:
        raise ParameterError(
            f"--out {out}: a sound's name must end in {', '.join(WRITABLE)}; make the folder "
            "first if it is one"
        )
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise RunError(f"--out {out}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK):
        raise RunError(f"--out {out}: {there} may not be written (permission denied)")
    return out


def _sound_path(out: Path, config: PlayConfig, rng: int) -> Path:
    """Where a candidate goes: in the folder ``out``, or at the file that ``out`` names."""
    if out.is_dir() or not out.suffix:
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
            keep_picture(run, f"{name}/{view}", figure, step)
    keep_picture(run, "overview", views.overview(sounds), step)
    for name, value in best.verdict.scalars().items():
        run.add_scalar(f"judge/{name}", value, step)


def keep_picture(run: Run, name: str, figure: "Figure", step: int) -> None:
    """Put a figure into the run's folder, and what is drawn there into TensorBoard."""
    path = run.folder / "pictures" / f"{name.replace('/', '-')}.png"
    views.figure_to_png(figure, path)
    with Image.open(path) as picture:  # drawing is slow; reading it back is not
        run.add_picture(name, np.asarray(picture.convert("RGB")), step)
