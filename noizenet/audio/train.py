"""Train on songs, then play: what ``scripts/train.py`` does."""

import contextlib
import math
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from noizenet import views
from noizenet.audio.config import AudioConfig
from noizenet.audio.duet import player_lessons
from noizenet.audio.excerpts import Excerpts
from noizenet.audio.playing import Stage, keep_picture, play_and_judge
from noizenet.audio.session import (
    Session,
    new_session,
    read_library,
    restored_session,
    with_absolute_paths,
)
from noizenet.config import differences, from_dict, to_dict
from noizenet.errors import ParameterError
from noizenet.learner.batches import WINDOW_BATCH, WINDOW_SAMPLES, OneShot, Windows
from noizenet.learner.fit import HEARD_PART, Part, Stop, Trainer
from noizenet.learner.machine import chunk_steps, history_bytes_per_step, seconds_per_step
from noizenet.runs import Run, load_checkpoint
from noizenet.sound.library import Library
from noizenet.sound.spectra import HOP_SAMPLES
from noizenet.units import samples_to_seconds

# What a resumed run may change: how long it goes on, where it runs, and what it plays.
MAY_CHANGE = (
    {"epochs", "budget_minutes"}
    | set(to_dict(AudioConfig().play)) - {"rng"}  # it orders the songs, too
    | set(to_dict(AudioConfig().machine))
)


def train(config: AudioConfig, name: str | None, resume: bool) -> None:
    """Train (or go on training) a run, then play from it and judge what it played.

    Raises
    ------
    NoizeNetError
        For anything the user can mend; a new run's folder is only made once its songs and its
        seed were read.
    """
    stop = Stop()
    run, trainer, session, stage = (_go_on if resume else _begin)(config, name, stop)
    try:
        with stopping_on_interrupt(stop, run), run.progress_bar(trainer.share_done()):
            trainer.run()
        results = _learned(run, trainer)
        best = play_and_judge(run, session, stage, trainer.progress.step, run.folder / "audio")
        settings = {k: v for part in to_dict(run.config).values() for k, v in part.items()}
        run.add_hparams(settings, results | best.verdict.scalars())
    finally:
        run.close()
    run.say(f"listen     {best.path}")
    run.say(f"look       {command('tensorboard')} --logdir {run.folder.parent}")
    script = f"scripts/generate.py --run {run.folder.name} --seed random"
    run.say(f"play more  {command('python')} {script}")


Begun = tuple[Run, Trainer, Session, Stage]


def _begin(config: AudioConfig, name: str | None, stop: Stop) -> Begun:
    """A new run. Whatever goes wrong until there is something to go on from leaves no trace."""
    library = read_library(config)
    stage = Stage.prepare(config.play, library)
    session = new_session(config, library)
    stage.prime(session.codec)
    batches, notes = _batches(session)
    name = time.strftime("audio-%Y%m%d-%H%M%S") if name is None else name
    run = Run.create(name, with_absolute_paths(config))
    try:
        trainer = _trainer(session, run, batches, stop)
        step_s = _announce(run, session, trainer, [*library.notes, *notes])
        trainer.hear = Excerpts(run, session, stage, step_s)
        run.add_config()
        run.save(trainer.tensors(), asdict(trainer.progress), best=False)
    except BaseException:
        run.discard()
        raise
    return run, trainer, session, stage


def _go_on(config: AudioConfig, name: str | None, stop: Stop) -> Begun:
    """A run that was stopped, from its last checkpoint."""
    run = _reopened(name, config)
    library = read_library(config)
    stage = Stage.prepare(config.play, library)
    session, tensors, facts = restored_session(run, config, library)
    stage.prime(session.codec)
    batches, notes = _batches(session)
    run.go_on(with_absolute_paths(config), facts["progress"]["step"])
    trainer = _trainer(session, run, batches, stop)
    trainer.restore(tensors, facts["progress"])
    step_s = _announce(run, session, trainer, [*library.notes, *notes])
    trainer.hear = excerpts = Excerpts(run, session, stage, step_s)
    excerpts.go_on_after(trainer.progress.elapsed_s)
    run.add_config()
    return run, trainer, session, stage


def _reopened(name: str | None, asked: AudioConfig) -> Run:
    """The run to go on with; ``asked`` was made from its config and the flags given now."""
    if name is None:
        raise ParameterError("--resume needs --run NAME, the run to go on with")
    run = Run.open(name, AudioConfig)
    path = run.checkpoint("last")
    trained = from_dict(AudioConfig, load_checkpoint(path)[1]["config"], str(path))
    for field, old, new in differences(trained, with_absolute_paths(asked)):
        if field not in MAY_CHANGE:
            raise ParameterError(
                f"{_as_flag(field, new)} contradicts run {name}, which was trained with "
                f"{_as_flag(field, old)}; leave it out, or start a new --run"
            )
    return run


def _as_flag(field: str, value: object) -> str:
    """How a setting is typed: ``--lr 0.03``, ``--no-anneal``."""
    flag = field.removesuffix("_s").replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"no --{flag}" if value is None else f"--{flag} {value}"


def _batches(session: Session) -> tuple[OneShot | Windows, list[str]]:
    """What each step reads, and what was done to make the songs fit."""
    config, codec = session.config, session.codec
    fit, start = config.fit, codec.start()
    device = session.model.residual_scale.device
    songs = [codec.encode(song.samples) for song in session.library.train]
    guides = None
    if fit.training == "one-shot":
        if session.conductor is not None:
            songs, guides = player_lessons(session.conductor.guiding, songs)
        order, epochs, together = fit.song_order, fit.epochs, fit.songs_per_step
        rng = config.play.rng
        return OneShot(songs, start, rng, order, epochs, together, device, guides), []

    window_steps = max(2, (fit.window_samples or WINDOW_SAMPLES) // codec.hop_samples)
    if session.conductor is not None:
        window_steps = max(1, window_steps // HOP_SAMPLES) * HOP_SAMPLES

    def seconds(steps: int) -> float:
        return samples_to_seconds(steps * codec.hop_samples)

    notes = []
    for index, numbers in enumerate(songs):
        n_missing = window_steps - len(numbers)
        if n_missing > 0:
            songs[index] = np.concatenate((numbers, np.repeat(start, n_missing, 0)))
            notes.append(
                f"{session.library.train[index].name}: {seconds(len(numbers)):.3f} s is shorter "
                f"than the window; padded with silence to {seconds(window_steps):.3f} s"
            )
    if session.conductor is not None:
        songs, guides = player_lessons(session.conductor.guiding, songs)
    n_steps = sum(len(numbers) for numbers in songs)
    batch = fit.batch or min(WINDOW_BATCH, n_steps // window_steps)
    if not fit.batch and batch < WINDOW_BATCH:
        notes.append(f"the songs fill only {batch} of {WINDOW_BATCH} windows side by side")
    windows = Windows(songs, start, window_steps, batch, device, guides)
    if n_left := n_steps - windows.numbers_per_epoch:
        notes.append(f"the last {seconds(n_left):.2f} s do not fill {batch} windows: left out")
    return windows, notes


def _parts(session: Session, batches: OneShot | Windows) -> list[Part]:
    """The networks of the run, in the order in which they learn."""
    config, model = session.config, session.model
    kept = chunk_steps(model, config.machine, batches.longest_steps, batches.batch)
    parts = [Part(HEARD_PART, model, batches, config.fit.lr, kept)]
    if session.conductor is not None:
        songs = [session.codec.encode(song.samples)[:, 0] for song in session.library.train]
        parts.insert(0, session.conductor.lessons(config, songs))
    return parts


def _trainer(session: Session, run: Run, batches: OneShot | Windows, stop: Stop) -> Trainer:
    config = session.config
    run.unit = "sample" if config.sound.representation == "waveform" else "frame"
    run.extra = session.codec_tensors()

    def validate() -> float:
        bits, loss = session.examine()
        run.add_valid_loss(trainer.progress.step, loss)
        return bits

    examined = validate if session.library.unseen else None
    # validate, called later, asks the trainer for its step
    trainer = Trainer(_parts(session, batches), config.fit, run, config.play.rng, examined, stop)
    return trainer


def _announce(run: Run, session: Session, trainer: Trainer, notes: list[str]) -> float:
    """Say what is going to happen, how long it takes and how much memory it needs.

    Returns
    -------
    Seconds for a training step of one number.
    """
    config, model, heard = session.config, session.model, trainer.parts[-1]
    batches = heard.batches
    fit, sound, sizes = config.fit, config.play, config.model
    _announce_library(run, session.library, notes)
    if model.engine == "numba":
        run.say("kernels    compiling (once; later runs load them)")
        session.play(np.repeat(session.codec.start(), 1024, 0), 1, sound, rngs=[0])
    step_s = seconds_per_step(model, batches.batch, batches.longest_steps)
    epoch_s = step_s * batches.numbers_per_epoch / batches.batch
    prediction = f" over a linear prediction of {n}" if (n := model.predictor_order) else ""
    role = ""
    if session.conductor is not None:
        role = "player "
        run.say(
            f"network    conductor lstm {config.conductor.conductor_hidden}, a vocabulary of "
            f"{session.conductor.codec.n_codes} spectra"
        )
    run.say(
        f"{'network' if not role else '':10} {role}{sizes.cell} {sizes.hidden} × {sizes.layers}"
        f"{prediction}, {config.sound.loss}"
    )
    device = model.residual_scale.device
    run.say(f"           {model.n_parameters():,} parameters, {model.engine} on {device}")
    run.say(
        f"training   {fit.training}, {fit.optimizer}: {batches.numbers_per_epoch:,} {run.unit}s "
        f"an epoch, about {duration(epoch_s)}"
    )
    memory = history_bytes_per_step(model) * batches.batch * heard.kept_steps
    share_left = 1 - trainer.share_done()
    expected_s = min(epoch_s * (fit.epochs or math.inf), fit.budget_s) * share_left
    least_s = epoch_s / batches.steps_per_epoch  # a step that was begun is ended
    if share_left and least_s > fit.budget_s:
        run.say(
            f"note       one step takes about {duration(least_s)}, longer than --budget-minutes "
            "allows; lower --hidden or --duration"
        )
    expected_s = max(expected_s, least_s)
    if trainer.progress.step:
        run.say(f"goes on    after {trainer.progress.step} steps")
    if share_left:
        run.say(f"expected   {duration(expected_s)}, and {megabytes(memory)} of memory for a pass")
    else:
        run.say("           nothing is left to train; raise --epochs or --budget-minutes for more")
    run.say(
        f"then       plays {sound.generate_seconds:g} s from seed {sound.seed}, into {run.folder}"
    )
    return step_s


def _announce_library(run: Run, library: Library, notes: list[str]) -> None:
    seconds = sum(song.duration_s for song in library.train)
    names = ", ".join(song.name for song in library.train[:6])
    more = f" and {len(library.train) - 6} more" if len(library.train) > 6 else ""
    run.say(f"songs      {len(library.train)}, {duration(seconds)} in all: {names}{more}")
    unseen = ", ".join(song.name for song in library.unseen[:6])
    run.say(f"unseen     {unseen or 'none: nothing is held out'}")
    for line in library.skipped:
        run.say(f"skipped    {line.removesuffix('; skipped')}")
    for line in notes:
        run.say(f"note       {line}")


def _learned(run: Run, trainer: Trainer) -> dict[str, float]:
    """Say what came of the training, draw its curve, and return it for the table of runs."""
    progress = trainer.progress
    run.say(f"learned    {progress.step} steps in {duration(progress.elapsed_s)}")
    results = {"steps": progress.step}
    if math.isfinite(progress.best_valid_bits):
        results["best_valid_bits_per_sample"] = progress.best_valid_bits
        run.say(f"           unseen songs: {progress.best_valid_bits:.3f} bits per sample at best")
    steps, train, valid = learning(run.metrics(), trainer.parts[-1].batches.steps_per_epoch)
    if steps:
        loss = run.config.sound.loss
        unit = f"nats per {run.unit}" if loss in ("mixture", "mulaw") else loss
        figure = views.loss_curve(steps, train, valid, loss_unit=unit)
        keep_picture(run, "loss", figure, progress.step)
    return results


def learning(
    metrics: list[dict], steps_per_epoch: int
) -> tuple[list[float], list[float], list[float]]:
    """The curve of a run: epochs, mean training loss of each, loss on what is unseen.

    An epoch's mean stands at its end, for its songs differ more than its steps. An epoch that was
    stopped counts only when it is the only one. What was not measured is NaN.
    """
    heard = [line for line in metrics if line.get("part", HEARD_PART) == HEARD_PART]
    # another part of the run may have come before
    before = min((line["step"] for line in heard if "loss" in line), default=1) - 1
    train = {line["step"] - before: line["loss"] for line in heard if "loss" in line}
    valid = {line["step"] - before: line["valid_loss"] for line in heard if "valid_loss" in line}
    epochs: dict[int, list[float]] = {}
    for step, loss in train.items():
        epochs.setdefault((step - 1) // steps_per_epoch, []).append(loss)
    whole = {epoch: losses for epoch, losses in epochs.items() if len(losses) == steps_per_epoch}
    train_at = {
        epoch + len(losses) / steps_per_epoch: sum(losses) / len(losses)
        for epoch, losses in (whole or epochs).items()
    }
    valid_at = {step / steps_per_epoch: loss for step, loss in valid.items() if step > 0}
    steps = sorted(train_at | valid_at)
    train_curve, valid_curve = (
        [curve.get(step, math.nan) for step in steps] for curve in (train_at, valid_at)
    )
    return steps, train_curve, valid_curve


def command(name: str) -> str:
    """What to type for a program of this environment: its name only where the shell finds it."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None and Path(found) == beside:
        return name
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def duration(seconds: float) -> str:
    """``95 -> '1 min 35 s'``, the way a person says it."""
    if seconds < 0.1:
        return f"{1000 * seconds:.2g} ms"
    if round(seconds) < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes / 60:.1f} h"


def megabytes(n_bytes: float) -> str:
    """``3.6e8 -> '360 MB'``."""
    if n_bytes >= 1e9:
        return f"{n_bytes / 1e9:.1f} GB"
    return f"{max(1, round(n_bytes / 1e6))} MB"


@contextlib.contextmanager
def stopping_on_interrupt(stop: Stop, run: Run):
    """Ctrl-C asks training to end; a second one quits."""

    def on_interrupt(signum, frame):
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        run.say("stopping   saves and plays what it has learned; Ctrl-C again quits")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
