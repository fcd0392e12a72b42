"""Seeds: the short sounds that the network hears before it plays on."""

import math
from collections.abc import Sequence
from pathlib import Path

import noise
import numpy as np

from noizenet.errors import DataError, ParameterError
from noizenet.sound.song import Song, is_silent, read_song
from noizenet.units import SAMPLE_RATE_HZ, db_to_amplitude, samples_to_seconds

SEED_KINDS = ("perlin", "random", "song")  # any other word is a file's path

PERLIN_HZ = 440.0
PERLIN_OCTAVES = 6
MAX_PERLIN_OCTAVES = 12  # further ones are far above hearing, and lost in single precision

# The package's table of gradients has 256 entries, so the noise has this period on each axis,
# whatever its argument ``repeat`` is.
LATTICE_PERIOD = 256
# A straight line of irrational slope through that torus never closes. The golden ratio keeps
# it away from itself longest: at 440 Hz it first passes within a cell of its own path after
# more than a minute and a half.
DIRECTION = np.array([1.0, (1 + math.sqrt(5)) / 2]) / math.hypot(1, (1 + math.sqrt(5)) / 2)

QUIETEST_EXCERPT_DB = -20.0  # against its song: rests between the notes are no seeds


def perlin_noise(
    n_samples: int,
    rng: int,
    frequency_hz: float = PERLIN_HZ,
    octaves: int = PERLIN_OCTAVES,
    persistence: float = 0.5,
) -> np.ndarray:
    """Perlin noise as sound: random like noise, smooth like a melody's slow movement.

    The package's one-dimensional noise comes back to its beginning every 256 cells, which is
    every 0.6 s at 440 Hz, and is 0 at every cell's edge. So this is the two-dimensional noise
    along a slanted line, which does neither.

    Parameters
    ----------
    n_samples
        At least 2.
    rng
        0 or more; each draws another line, a different stretch of noise. The same one gives
        the same samples, bit for bit.
    frequency_hz
        Cells of the first octave per second. It is the noise's upper edge rather than its
        middle: at 440 Hz with 6 octaves half of the power lies below 190 Hz, 90 % below
        480 Hz and 5 % below 20 Hz; all of these scale with it. At 110 Hz it is a rumble that
        small loudspeakers do not play.
    octaves
        How many layers, each of twice the frequency of the one before: 1 hums smoothly, 6
        adds a hiss that falls like that of natural sounds. 1 to 12; those above 11 kHz alias.
    persistence
        The amplitude of each layer against the one before; 0.7 is brighter, 0.3 duller.

    Returns
    -------
    np.ndarray
        float32 (n_samples,), of zero mean and RMS 1.
    """
    _check_noise(n_samples, rng)
    if not 0 < frequency_hz < math.inf:
        raise ParameterError(f"--perlin-hz {frequency_hz} must be a number of hertz above 0")
    if not 1 <= octaves <= MAX_PERLIN_OCTAVES:
        raise ParameterError(f"--perlin-octaves {octaves} must be 1 to {MAX_PERLIN_OCTAVES}")
    if not 0 < persistence < math.inf:
        raise ParameterError(f"persistence {persistence} must be a number above 0")
    start = _generator(rng).uniform(0, LATTICE_PERIOD, size=2)
    cells = frequency_hz / SAMPLE_RATE_HZ * np.arange(n_samples)
    # Wrapped here, in double precision: the package computes in single precision.
    line = (start[:, None] + DIRECTION[:, None] * cells) % LATTICE_PERIOD  # (2, n_samples)
    samples = np.array(
        [
            noise.pnoise2(x, y, octaves=octaves, persistence=persistence)
            for x, y in zip(*line.tolist(), strict=True)
        ]
    )
    if samples.std() < 1e-5:  # nothing but rounding would be left to amplify
        raise ParameterError(
            f"--perlin-hz {frequency_hz} is too low for noise that is "
            f"{samples_to_seconds(n_samples):g} s long"
        )
    return _standardise(samples)


def random_noise(n_samples: int, rng: int) -> np.ndarray:
    """Pseudo-random Gaussian white noise.

    Parameters
    ----------
    n_samples
        At least 2.
    rng
        0 or more; the same one gives the same samples, bit for bit.

    Returns
    -------
    np.ndarray
        float32 (n_samples,), of zero mean and RMS 1.
    """
    _check_noise(n_samples, rng)
    return _standardise(_generator(rng).standard_normal(n_samples))


def match_level(samples: np.ndarray, rms: float) -> np.ndarray:
    """Scale a sound to an RMS above 0; float32 of the same shape. Silence has no level."""
    if not 0 < rms < math.inf:
        raise ParameterError(f"an RMS of {rms} must be a number above 0")
    samples = np.asarray(samples, dtype=np.float64)
    own_rms = math.sqrt(np.mean(samples**2)) if samples.size else 0.0
    if own_rms == 0:
        raise DataError("silence cannot be brought to a level")
    return (samples * (rms / own_rms)).astype(np.float32)


def make_seed(
    kind: str,
    n_samples: int,
    rng: int,
    rms: float,
    unseen: Sequence[Song],
    frequency_hz: float = PERLIN_HZ,
    octaves: int = PERLIN_OCTAVES,
) -> Song:
    """The seed that ``--seed`` names.

    Parameters
    ----------
    kind
        ``perlin`` or ``random``: noise. ``song``: an excerpt of one of the unseen songs, from
        a place that ``rng`` draws and that is not silent. Otherwise the path of an audio
        file, of which the beginning is taken.
    n_samples
        How long it is. A song or a file that is shorter is taken as it is.
    rng
        0 or more; the same one gives the same seed, bit for bit.
    rms
        The level of the noises, that of the music the network has learned. Songs and files
        keep their own.
    unseen
        The songs that the network has not heard.
    frequency_hz, octaves
        See :func:`perlin_noise`.

    Raises
    ------
    ParameterError
        An unknown kind that is no file either, or a number that is not allowed.
    DataError
        ``song`` without an unseen song that can be heard; a silent file.
    FormatError
        A file that cannot be decoded.
    """
    _check_rng(rng)
    if n_samples < 1:
        raise ParameterError("--seed-seconds must be a number of seconds above 0")
    if kind == "perlin":
        samples = perlin_noise(n_samples, rng, frequency_hz, octaves)
        return Song(kind, match_level(samples, rms))
    if kind == "random":
        return Song(kind, match_level(random_noise(n_samples, rng), rms))
    if kind == "song":
        return _excerpt(unseen, n_samples, rng)
    if not kind.strip() or not Path(kind).exists():
        raise ParameterError(
            f"--seed {kind} must be {', '.join(SEED_KINDS)}, or the path of an audio file"
        )
    return read_song(kind, samples_to_seconds(n_samples))


def _excerpt(unseen: Sequence[Song], n_samples: int, rng: int) -> Song:
    """A stretch of one of the songs that is not much quieter than the song as a whole."""
    songs = [song for song in unseen if not is_silent(song.samples)]
    if not songs:
        raise DataError(
            "--seed song: there is no unseen song to take it from; hold one out with "
            "--valid-fraction above 0, or name an audio file instead: --seed FILE"
        )
    generator = _generator(rng)
    song = songs[generator.integers(len(songs))]
    n_samples = min(n_samples, len(song.samples))
    energy = np.concatenate(([0.0], np.cumsum(song.samples.astype(np.float64) ** 2)))
    power = (energy[n_samples:] - energy[:-n_samples]) / n_samples  # of every possible excerpt
    # Never empty: the loudest excerpt has at least half the power of the song.
    song_power = energy[-1] / len(song.samples)
    starts = np.flatnonzero(power >= song_power * db_to_amplitude(QUIETEST_EXCERPT_DB) ** 2)
    start = int(starts[generator.integers(len(starts))])
    name = f"{song.name} from {samples_to_seconds(start):.2f} s"
    return Song(name, song.samples[start : start + n_samples].copy())


def _generator(rng: int) -> np.random.Generator:
    # PCG64 by name: numpy may change what default_rng means, and the WAV must not.
    return np.random.Generator(np.random.PCG64(rng))


def _check_rng(rng: int) -> None:
    if rng < 0:
        raise ParameterError(f"--rng {rng} must be a whole number of 0 or more")


def _check_noise(n_samples: int, rng: int) -> None:
    _check_rng(rng)
    if n_samples < 2:
        raise ParameterError(f"a seed of {n_samples} samples is too short: noise needs 2 or more")


def _standardise(samples: np.ndarray) -> np.ndarray:
    samples = samples - samples.mean()
    return (samples / np.sqrt(np.mean(samples**2))).astype(np.float32)
