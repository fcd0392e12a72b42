"""What a network sounds like while it learns: the same few seconds at fixed times."""

from noizenet.audio.playing import Stage
from noizenet.audio.session import Session
from noizenet.runs import Run
from noizenet.sound.song import write_song
from noizenet.units import SAMPLE_RATE_HZ, seconds_to_samples

FIRST_S = 30.0  # of training; then each time after twice as long
EXCERPT_S = 5.0
LEAST_EXCERPT_S = 0.5
PATIENCE_S = 5.0
# Compiled playing takes about as long as training on as many samples, or less; torch's, step by
# step, some 25 times as long on a CPU, and no less on a GPU that trains much faster.
PLAIN_STEP_S = 2e-3


class Excerpts:
    """Plays from the run's seed after 30 s, 1 min, 2 min, 4 min and so on of training.

    Parameters
    ----------
    step_s : what a step of training takes; a network too slow to be heard in time is not played
    """

    def __init__(self, run: Run, session: Session, stage: Stage, step_s: float):
        self._run = run
        self._session = session
        self._stage = stage
        if session.model.engine == "torch":
            step_s = max(step_s, PLAIN_STEP_S)
        in_time_s = PATIENCE_S / max(step_s, 1e-9) * session.codec.hop_samples / SAMPLE_RATE_HZ
        self._length_s = min(EXCERPT_S, in_time_s)
        self._next_s = FIRST_S

    def go_on_after(self, elapsed_s: float) -> None:
        """What was heard before a run was stopped is not played again."""
        self._next_s = _first_after(elapsed_s)

    def __call__(self, elapsed_s: float, step: int) -> None:
        """Play if it is time."""
        if elapsed_s < self._next_s or self._length_s < LEAST_EXCERPT_S:
            return
        at_s = _first_after(elapsed_s) / 2  # the latest of the fixed times
        self._next_s = _first_after(elapsed_s)
        codec, config = self._session.codec, self._stage.config
        n_steps = codec.n_steps(seconds_to_samples(self._length_s))
        [played] = self._session.play(self._stage.prime(codec), n_steps, config, rngs=[config.rng])
        if len(played) < codec.n_steps(1):
            return
        samples = codec.decode(played)
        write_song(self._run.folder / "audio" / f"learning-{at_s:g}s.wav", samples)
        self._run.add_sound("learning", samples, SAMPLE_RATE_HZ, step)


def _first_after(elapsed_s: float) -> float:
    """The first of the fixed times that is later."""
    time_s = FIRST_S
    while time_s <= elapsed_s:
        time_s *= 2
    return time_s
