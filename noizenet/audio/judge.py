"""Alive or not: what there is to say about a generated sound, measured against the songs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import signal

from noizenet.audio.copies import CopySearch, without_rumble
from noizenet.audio.likeness import SpectralLikeness, harmonic_distances
from noizenet.errors import DataError, ParameterError
from noizenet.sound.features import envelope, spectral_flatness
from noizenet.units import SAMPLE_RATE_HZ, amplitude_to_db, samples_to_seconds, seconds_to_samples

SECOND = SAMPLE_RATE_HZ
DEAD_DB = -40.0  # relative to the songs: their own quietest seconds were -38 dB and above
DEAD_WINDOW_SAMPLES = seconds_to_samples(0.1)  # a short rest; 2 periods of the lowest tone
DEAD_SHARE = 0.97  # of all windows: with a click at its beginning silence is silence
MIN_DEAD_S = 1.0  # a shorter pause is music, and so is half as long again as the songs' longest
PAUSE_ALLOWANCE = 1.5

RUNAWAY_DB = 12.0  # above the songs' loudest second: four times its amplitude is no crescendo
RISING = 0.9  # rank correlation of level and time; a crescendo that never pauses for breath

CLIPPED_SHARE = 0.001  # of all samples; music driven 6 dB too far has 0.009, clean music 0
CLIPPED_RUN = 3  # samples in a row at the peak: a wave's own top is not flat at this rate …
CLIPPED_TOLERANCE = 1e-5  # … down to 20 Hz, if "at the peak" means this near

WHITE_FLATNESS = math.exp(-np.euler_gamma)  # 0.56, of white noise; percussive music has 0.05
HISS_SHARE = 0.5  # of the white noise's flatness and Fréchet ratio
NOISY = 0.35  # noise of any colour has 0.38 to 0.58; 38 pieces of music had 0.01 to 0.34
NOISE_MOVEMENT = 0.25  # of the songs'; noise of any colour had 0.01 to 0.18
NOISE_FRAME_SAMPLES = 2048
NOISE_BAND_BINS = 32  # 344 Hz: the colour of a noise is even in it, partials of tones are not

DRONE_MOVEMENT = 0.05  # of the songs'; tones and hums have 0.00 to 0.02, 40 pieces 0.08 and more
MOVEMENT_FLOOR = 1e-3  # added to both sides: songs that are drones themselves divide by nothing

COPIED_S = 1.0  # unseen songs that share drum samples with the training songs match up to 0.4 s


@dataclass(frozen=True)
class Verdict:
    """What the judge found; ``songs`` are those it was trained on."""

    alive: bool
    """Nothing is wrong that makes it pointless to listen; it may still be a copy or a drone."""
    problems: tuple[str, ...]
    """In words, the worst first; empty if there are none."""
    level_db: float
    """The median second's RMS, relative to the songs' median second."""
    level_range_db: tuple[float, float]
    """The quietest and the loudest second, relative to the songs' median second."""
    songs_level_range_db: tuple[float, float]
    """The same of the songs."""
    clipped_share: float
    """Share of the samples that lie in flat tops at the peak."""
    flatness: float
    """Spectral flatness: 0 a tone, 0.56 white noise."""
    songs_flatness: float
    """The same of the songs, their median."""
    noisiness: float
    """Flatness within narrow bands, weighted by power: noise of any colour has 0.38 to 0.58."""
    songs_noisiness: float
    """The same of the songs, their median."""
    movement_1s: float
    """How much the harmony changes in 1 s: 1 is like the songs, 0 a drone. NaN if too short."""
    movement_4s: float
    """How much the harmony changes in 4 s."""
    frechet_ratio: float
    """How far its spectra are from the songs': 1 is a real excerpt."""
    noise_ratio: float
    """The same of white noise at the songs' level."""
    copied_s: float
    """Novelty: the longest stretch that matches a song, seconds; 0 if none does."""
    copied_song: str
    """The song that it matches; empty if none."""

    def headline(self) -> str:
        """``alive``, ``alive, but: drone`` or ``not alive: silent``."""
        problems = "; ".join(self.problems)
        if not self.alive:
            return f"not alive: {problems}"
        return f"alive, but: {problems}" if problems else "alive"

    def lines(self) -> list[str]:
        """The whole verdict as an aligned table, the headline first."""
        quiet_db, loud_db = self.level_range_db
        songs_quiet_db, songs_loud_db = self.songs_level_range_db
        copied = f"of {self.copied_song}" if self.copied_song else "nothing was copied"
        rows = [
            (
                "loudness",
                f"{self.level_db:+.1f} dB",
                f"by seconds {quiet_db:+.0f} to {loud_db:+.0f} dB "
                f"(songs {songs_quiet_db:+.0f} to {songs_loud_db:+.0f})",
            ),
            (
                "flatness",
                f"{self.flatness:.3f}",
                f"songs {self.songs_flatness:.3f}, white noise {WHITE_FLATNESS:.2f}",
            ),
            (
                "noisiness",
                f"{self.noisiness:.2f}",
                f"songs {self.songs_noisiness:.2f}, noise of any colour above {NOISY}",
            ),
            ("harmony in 1 s", _number(self.movement_1s), "moves like the songs 1, a drone 0"),
            ("harmony in 4 s", _number(self.movement_4s), "moves like the songs 1, a drone 0"),
            (
                "spectrum",
                _number(self.frechet_ratio),
                f"Fréchet ratio: a real excerpt 1, white noise {self.noise_ratio:.1f}",
            ),
            ("longest copy", f"{self.copied_s:.1f} s", copied),
        ]
        if self.clipped_share:
            rows.insert(
                1,
                (
                    "clipped",
                    f"{100 * self.clipped_share:.2f} %",
                    "of the samples are flat tops at the peak",
                ),
            )
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return [self.headline()] + [
            f"  {name:<{widths[0]}}  {value:>{widths[1]}}   {meaning}"
            for name, value, meaning in rows
        ]

    def scalars(self) -> dict[str, float]:
        """Every number by its name, for TensorBoard, but for those that are not known."""
        found = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("level_range_db"):
                stem = field.name.removesuffix("_range_db")
                found[f"{stem}_low_db"], found[f"{stem}_high_db"] = map(float, value)
            elif isinstance(value, (bool, float)):
                found[field.name] = float(value)
        return {name: value for name, value in found.items() if math.isfinite(value)}


class Judge:
    """Knows the songs that were trained on, and judges sounds against them.

    Parameters
    ----------
    songs
        (n_samples,) each, mono at 22 050 Hz; at least one that is not silent.
    names
        What to call them; "song 1" and so on if None.

    Raises
    ------
    DataError
        No songs, or nothing but silence in them.
    """

    def __init__(self, songs: Sequence[np.ndarray], names: Sequence[str] | None = None):
        songs = [_checked(song) for song in songs]
        self._names = list(names) if names else [f"song {i + 1}" for i in range(len(songs))]
        if len(self._names) != len(songs):
            raise ParameterError(f"{len(self._names)} names for {len(songs)} songs")
        heard = [without_rumble(song) for song in songs]
        if not any(np.abs(song).max() > 1e-5 for song in heard):
            raise DataError("there is no sound in the training songs to judge against")

        seconds = np.concatenate([_seconds_rms(song) for song in heard])
        self._rms = float(np.median(seconds)) or float(seconds.max())
        self._level_range_db = self._range_db(seconds)
        pauses = [_runs(self._dead_windows(song)) for song in heard]
        longest = max((stop - start for runs in pauses for start, stop in runs), default=0)
        pause_s = samples_to_seconds(longest * DEAD_WINDOW_SAMPLES)
        self._longest_pause_s = max(MIN_DEAD_S, PAUSE_ALLOWANCE * pause_s)
        self._clipped_share = max(_clipped_share(song) for song in songs)
        self._flatness = float(np.median([spectral_flatness(song) for song in songs]))
        self._noisiness = float(np.median([_noisiness(song) for song in songs]))
        self._movement = {
            lag_s: _median(np.concatenate([harmonic_distances(song, lag_s) for song in songs]))
            for lag_s in (1, 4)
        }
        self._likeness = SpectralLikeness(songs)
        self._copies = CopySearch(songs)
        self._noise_ratios: dict[tuple[int, int], float] = {}

    def judge(self, samples: np.ndarray, rng: int = 0) -> Verdict:
        """Measure a sound.

        Parameters
        ----------
        samples
            (n_samples,), at least one. From the first one that is NaN or infinite on, it counts
            as silent, and as runaway.
        rng
            Number that fixes the white noise of ``noise_ratio``.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not len(samples):
            raise ParameterError(f"samples of shape {samples.shape} must be (n_samples,)")
        # Beyond 1e6 squares of float32 overflow in what follows; it is runaway long before.
        broken = np.flatnonzero(~(np.abs(samples) < 1e6))
        n_sound = int(broken[0]) if len(broken) else len(samples)
        samples = np.where(np.arange(len(samples)) < n_sound, samples, np.float32(0))

        heard = without_rumble(samples)
        seconds = _seconds_rms(heard)
        copy = self._copies.longest(samples)
        measured = {
            "level_db": float(amplitude_to_db(np.median(seconds) / self._rms)),
            "level_range_db": self._range_db(seconds),
            "songs_level_range_db": self._level_range_db,
            "clipped_share": _clipped_share(samples),
            "flatness": spectral_flatness(samples),
            "songs_flatness": self._flatness,
            "noisiness": _noisiness(samples),
            "songs_noisiness": self._noisiness,
            "movement_1s": self._movement_ratio(samples, 1),
            "movement_4s": self._movement_ratio(samples, 4),
            "frechet_ratio": self._likeness.ratio(samples),
            "noise_ratio": self._noise_ratio(len(samples), rng),
            "copied_s": copy.duration_s,
            "copied_song": self._names[copy.song] if copy.n_samples else "",
        }
        fatal = self._level_problems(samples, heard, n_sound)
        dead = any(problem in ("silent", "constant") for problem in fatal)
        minor = []
        if not dead:
            if self._is_hiss(measured):
                fatal.append("hiss")
            elif max(_known_movements(measured), default=1.0) < DRONE_MOVEMENT:
                minor.append("drone")
            if measured["clipped_share"] > max(CLIPPED_SHARE, 2 * self._clipped_share):
                minor.append("clipped")
            if copy.duration_s >= COPIED_S:
                minor.append(f"copied {copy.duration_s:.1f} s of {measured['copied_song']}")
        return Verdict(alive=not fatal, problems=(*fatal, *minor), **measured)

    def _level_problems(self, samples: np.ndarray, heard: np.ndarray, n_sound: int) -> list[str]:
        """What is wrong with the level over time; each of these makes a sound not alive."""
        if n_sound < len(samples):
            return [f"runaway after {samples_to_seconds(n_sound):.1f} s"]
        problems = []
        levels_db = amplitude_to_db(_seconds_rms(heard) / self._rms)
        # With its offset, which can run away without a sound.
        whole_db = amplitude_to_db(_seconds_rms(samples) / self._rms)
        highest_db = self._level_range_db[1]
        rising = len(levels_db) >= 4 and _rank_correlation(levels_db) >= RISING
        rising = rising and levels_db[-1] - levels_db[0] > RUNAWAY_DB
        if whole_db.max() > highest_db + RUNAWAY_DB or (rising and levels_db[-1] > highest_db):
            problems.append("runaway")

        dead = self._dead_windows(heard)
        if dead.mean() >= DEAD_SHARE:
            return [*problems, "silent" if np.median(whole_db) < DEAD_DB else "constant"]
        for start, stop in _runs(dead):
            start_s, stop_s = (
                samples_to_seconds(min(edge * DEAD_WINDOW_SAMPLES, len(samples)))
                for edge in (start, stop)
            )
            if stop_s - start_s > self._longest_pause_s:
                ends = stop == len(dead)
                problems.append(
                    f"collapsed after {start_s:.1f} s"
                    if ends
                    else f"silent from {start_s:.1f} to {stop_s:.1f} s"
                )
        return problems

    def _is_hiss(self, measured: dict) -> bool:
        white = (
            measured["flatness"] >= max(HISS_SHARE * WHITE_FLATNESS, 2 * self._flatness)
            and measured["frechet_ratio"] >= HISS_SHARE * measured["noise_ratio"]
        )
        # At one lag is enough: songs that repeat every 4 s hardly move from there to there.
        coloured = measured["noisiness"] >= max(NOISY, 1.2 * self._noisiness) and any(
            movement < NOISE_MOVEMENT for movement in _known_movements(measured)
        )
        return white or coloured

    def _dead_windows(self, heard: np.ndarray) -> np.ndarray:
        """Which windows of 0.1 s are silent or constant."""
        rms = envelope(heard, DEAD_WINDOW_SAMPLES)
        return rms < self._rms * 10 ** (DEAD_DB / 20)

    def _range_db(self, seconds_rms: np.ndarray) -> tuple[float, float]:
        levels_db = amplitude_to_db(seconds_rms / self._rms)
        return float(levels_db.min()), float(levels_db.max())

    def _movement_ratio(self, samples: np.ndarray, lag_s: int) -> float:
        movement = _median(harmonic_distances(samples, lag_s))
        return (movement + MOVEMENT_FLOOR) / (self._movement[lag_s] + MOVEMENT_FLOOR)

    def _noise_ratio(self, n_samples: int, rng: int) -> float:
        if (n_samples, rng) not in self._noise_ratios:
            noise = np.random.default_rng(rng).standard_normal(n_samples) * self._rms
            self._noise_ratios[n_samples, rng] = self._likeness.ratio(noise.astype(np.float32))
        return self._noise_ratios[n_samples, rng]


def rank(verdicts: Sequence[Verdict]) -> list[int]:
    """The places of verdicts, best first.

    Alive before not, then the fewest problems, then the nearest to the songs: the smallest sum
    of |log2| of the Fréchet ratio and of the movement. Equals keep their order.
    """

    def badness(index: int) -> tuple[bool, int, float]:
        verdict = verdicts[index]
        moved = [m for m in (verdict.movement_1s, verdict.movement_4s) if math.isfinite(m)]
        distance = sum(abs(math.log2(max(m, 1e-3))) for m in moved) / max(1, len(moved))
        distance += abs(math.log2(max(verdict.frechet_ratio, 1e-3)))
        return not verdict.alive, len(verdict.problems), distance

    return sorted(range(len(verdicts)), key=badness)


def _checked(song: np.ndarray) -> np.ndarray:
    song = np.asarray(song, dtype=np.float32)
    if song.ndim != 1 or not len(song) or not np.isfinite(song).all():
        raise ParameterError("a training song must be finite samples, (n_samples,)")
    return song


def _seconds_rms(samples: np.ndarray) -> np.ndarray:
    """RMS second by second, without what is left at the end (if it is not all there is)."""
    rms = envelope(samples, SECOND).astype(np.float64)
    return rms[: max(1, len(samples) // SECOND)]


def _clipped_share(samples: np.ndarray) -> float:
    size = np.abs(samples.astype(np.float64))
    if not size.max():
        return 0.0
    lengths = [stop - start for start, stop in _runs(size >= size.max() * (1 - CLIPPED_TOLERANCE))]
    return sum(n for n in lengths if n >= CLIPPED_RUN) / len(samples)


def _noisiness(samples: np.ndarray) -> float:
    """Spectral flatness within bands of 344 Hz, averaged with their power as weight.

    Unlike the flatness of the whole spectrum it does not depend on the colour of a noise.
    """
    samples = np.pad(samples.astype(np.float64), (0, max(0, NOISE_FRAME_SAMPLES - len(samples))))
    _, _, spectrum = signal.stft(samples, nperseg=NOISE_FRAME_SAMPLES)
    power = np.abs(spectrum[1:].T) ** 2  # (n_frames, n_bins) without DC
    bands = power.reshape(len(power), -1, NOISE_BAND_BINS) + 1e-20
    flatness = np.exp(np.log(bands).mean(axis=2)) / bands.mean(axis=2)
    # Where all is silence every band is as flat as any; it must not count.
    weight = np.maximum(bands.sum(axis=2) - 1e-12, 0)
    return float((flatness * weight).sum() / weight.sum()) if weight.any() else 0.0


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """The (start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _rank_correlation(values: np.ndarray) -> float:
    """Spearman's, with time."""
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])


def _known_movements(measured: dict) -> list[float]:
    """The harmony's movement at those lags that the sound is long enough for."""
    return [m for m in (measured["movement_1s"], measured["movement_4s"]) if math.isfinite(m)]


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else math.nan


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"
