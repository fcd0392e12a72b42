"""Train on songs, then play: what ``scripts/train.py`` does."""

import contextlib
import math
import signal
import time

from noizenet.audio.config import AudioConfig
from noizenet.audio.playing import play_and_judge
from noizenet.audio.session import (
    Session,
    new_session,
    read_library,
    restored_session,
    with_absolute_data,
)
from noizenet.config import differences, to_dict
from noizenet.errors import ParameterError
from noizenet.learner.batches import WINDOW_BATCH, WINDOW_SAMPLES, OneShot, Windows
from noizenet.learner.fit import Stop, Trainer
from noizenet.learner.machine import chunk_steps, history_bytes_per_step, seconds_per_step
from noizenet.runs import Run
from noizenet.sound.library import Library

# What a resumed run may change: how long it goes on, where it runs, and what it plays.
MAY_CHANGE = (
    {"epochs", "budget_minutes"}
    | set(to_dict(AudioConfig().play))
    | set(to_dict(AudioConfig().machine))
)


def train(config: AudioConfig, name: str | None, resume: bool) -> None:
    """Train (or go on training) a run, then play from it and judge what it played.

    Raises
    ------
    NoizeNetError
        For anything the user can mend; a new run's folder is only made once its songs were read.
    """
    if resume:
        run, config = _reopened(name, config)
        library = read_library(config)
        session, tensors, facts = restored_session(run, config, library)
    else:
        config = with_absolute_data(config)
        library = read_library(config)
        session, tensors, facts = new_session(config, library), {}, {}
        run = Run.create(name or time.strftime("audio-%Y%m%d-%H%M%S"), config)
    run.unit = "sample" if config.sound.representation == "waveform" else "frame"
    run.extra = session.codec_tensors()

    stop = Stop()
    trainer = _trainer(session, run, stop)
    if facts:
        trainer.restore(tensors, facts["progress"])
    _announce(run, session, trainer)
    try:
        with stopping_on_interrupt(stop, run), run.progress_bar(trainer.share_done()):
            trainer.run()
        results = {"steps": trainer.progress.step}
        if math.isfinite(trainer.progress.best_valid_bits):
            run.say(f"unseen songs: best {trainer.progress.best_valid_bits:.3f} bits per sample")
            results["best_valid_bits_per_sample"] = trainer.progress.best_valid_bits
        best = play_and_judge(run, session, config.play, step=trainer.progress.step)
        settings = {k: v for part in to_dict(config).values() for k, v in part.items()}
        run.add_hparams(settings, results | best.verdict.scalars())
    finally:
        run.close()
    run.say(f"listen     {best.path}")
    run.say(f"look       tensorboard --logdir {run.folder.parent}")
    run.say(f"play more  python scripts/generate.py --run {run.folder.name} --seed random")


def _reopened(name: str | None, asked: AudioConfig) -> tuple[Run, AudioConfig]:
    """The run to go on with; ``asked`` was made from its config and the flags given now."""
    if name is None:
        raise ParameterError("--resume needs --run NAME, the run to go on with")
    run = Run.open(name, AudioConfig)
    for field, old, new in differences(run.config, with_absolute_data(asked)):
        if field not in MAY_CHANGE:
            flag = "--" + field.removesuffix("_s").replace("_", "-")
            raise ParameterError(
                f"{flag} {new} contradicts run {name}, which was trained with {old}; leave it "
                "out, or start a new --run"
            )
    run.config = asked
    return run, asked


def _trainer(session: Session, run: Run, stop: Stop) -> Trainer:
    config, codec, model = session.config, session.codec, session.model
    numbers = [codec.encode(song.samples) for song in session.library.train]
    device = model.residual_scale.device
    fit = config.fit
    if fit.training == "one-shot":
        batches = OneShot(
            numbers,
            codec.start(),
            config.play.rng,
            fit.song_order,
            fit.epochs,
            fit.songs_per_step,
            device,
        )
    else:
        window_steps = max(2, (fit.window_samples or WINDOW_SAMPLES) // codec.hop_samples)
        batches = Windows(numbers, codec.start(), window_steps, fit.batch or WINDOW_BATCH, device)
    chunk = chunk_steps(model, config.machine, batches.longest_steps, batches.batch)
    validate = session.valid_bits if session.library.unseen else None
    return Trainer(model, batches, fit, run, config.play.rng, chunk, validate, stop)


def _announce(run: Run, session: Session, trainer: Trainer) -> None:
    """Say what is going to happen, how long it takes and how much memory it needs."""
    config, model, batches = session.config, session.model, trainer.batches
    _announce_library(run, session.library)
    if model.engine == "numba":
        run.say("compiling the kernels (once; later runs load them) …")
    step_s = seconds_per_step(model, batches.batch, batches.longest_steps)
    epoch_s = step_s * batches.numbers_per_epoch / batches.batch
    memory = history_bytes_per_step(model) * batches.batch * trainer.chunk_steps
    prediction = f" over a linear prediction of {n}" if (n := model.predictor_order) else ""
    run.say(
        f"network    {config.model.cell} {config.model.hidden} × {config.model.layers}, "
        f"{config.sound.loss}{prediction}: {model.n_parameters():,} parameters, "
        f"{model.engine} on {model.residual_scale.device}"
    )
    by_epochs_s = epoch_s * (config.fit.epochs or math.inf)
    expected_s = min(by_epochs_s, config.fit.budget_s) * (1 - trainer.share_done())
    run.say(
        f"training   {config.fit.training}, {config.fit.optimizer}: "
        f"{batches.numbers_per_epoch:,} {run.unit}s an epoch of about {duration(epoch_s)}; "
        f"expected {duration(expected_s)} and {memory / 1e9:.2g} GB of history"
    )
    run.say(
        f"then       plays {config.play.generate_seconds:g} s from seed {config.play.seed}, "
        f"into {run.folder}"
    )


def _announce_library(run: Run, library: Library) -> None:
    seconds = sum(song.duration_s for song in library.train)
    names = ", ".join(song.name for song in library.train[:6])
    more = f" and {len(library.train) - 6} more" if len(library.train) > 6 else ""
    run.say(f"songs      {len(library.train)}, {duration(seconds)} in all: {names}{more}")
    unseen = ", ".join(song.name for song in library.unseen[:6])
    run.say(f"unseen     {unseen or 'none: nothing is held out'}")
    for line in library.skipped:
        run.say(f"skipped    {line}")
    for line in library.notes:
        run.say(f"note       {line}")


def duration(seconds: float) -> str:
    """``95 -> '1 min 35 s'``, the way a person says it."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes / 60:.1f} h"


@contextlib.contextmanager
def stopping_on_interrupt(stop: Stop, run: Run):
    """Ctrl-C asks training to end; a second one quits."""

    def on_interrupt(signum, frame):
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        run.say("stopping: saves and plays what it has learned; Ctrl-C again quits")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
