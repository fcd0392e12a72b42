"""Has it been heard before? The longest stretch of a sound that a training song holds too."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

from noizenet.units import SAMPLE_RATE_HZ, samples_to_seconds, seconds_to_samples

MATCH = 0.95  # normalised cross-correlation of a copy: noise 10 dB below it is allowed for
WINDOW_SAMPLES = seconds_to_samples(0.2)  # over which the match holds; rides over short rests
STEP_SAMPLES = 55  # 2.5 ms: how exactly the ends of a stretch are found

PROBE_SAMPLES = 2208  # 0.1 s, a multiple of COARSE: one probe lies in any copy of 0.2 s
COARSE = 8  # the search runs at 2756 Hz; 64 times less work than at the full rate
COARSE_BAND_HZ = (40.0, 1000.0)  # there most music is, and half a coarse step is a small phase
COARSE_MATCH = 0.6  # half a coarse step costs 0.3 at 700 Hz; what passes is looked at again
COARSE_FFT = 1024  # a song is searched in pieces of this length; each names one candidate
N_CANDIDATES = 6  # looked at more closely per probe

CHANGE = 0.8  # a stretch whose windows all match each other better than this is a held tone
N_CHANGE_WINDOWS = 32  # looked at in a stretch, however long it is
CHANGE_REACH_SAMPLES = 551  # 25 ms, a period of 40 Hz: a shift that aligns any audible tone
RUMBLE_HZ = 20.0  # the lowest tone that is heard: what is below it is an offset or a drift
QUIET_DB = -50.0  # relative to the songs' level: what is quieter matches nothing


@dataclass(frozen=True)
class Copy:
    """A stretch of a sound that matches a stretch of a song."""

    n_samples: int = 0
    """Its length; 0 if nothing matches."""
    start_samples: int = 0
    """Where it begins in the sound."""
    song: int = -1
    """Which song; -1 if none."""
    song_start_samples: int = 0
    """Where it begins in the song."""

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return samples_to_seconds(self.n_samples)


class CopySearch:
    """Finds what was copied from songs, whatever its gain and polarity.

    A stretch is a copy if its normalised cross-correlation with a song, at one constant shift,
    stays above ``MATCH`` in every window of 0.2 s, and if something happens in it. Therefore

    - silence is no copy: a window more than 50 dB below the songs' level matches nothing, but
      a rest that both have does not end a copy;
    - a held tone is no copy, though it matches every tone of that pitch for as long as both
      last: within a copy there must be two windows that do not match each other at any shift
      up to 25 ms, such as before and after a note begins.

    Stretches of 0.3 s and more are found as long as they have some sound between 40 and
    1000 Hz: non-overlapping probes of 0.1 s are searched for at an eighth of the rate by FFT,
    and the best places are examined, and extended both ways, at the full rate.
    """

    def __init__(self, songs: Sequence[np.ndarray]):
        self._songs = [_Sound(song) for song in songs]
        level = np.sqrt(np.mean([song.power[-1] / max(1, len(song)) for song in self._songs]))
        self._quiet_power = max((level * 10 ** (QUIET_DB / 20)) ** 2, 1e-12)  # of one sample

        n_probe = PROBE_SAMPLES // COARSE
        hop = COARSE_FFT - n_probe + 1
        pieces, scales, self._pieces_at = [], [], []
        for index, song in enumerate(self._songs):
            n_lags = max(1, len(song.coarse) - n_probe + 1)
            starts = np.arange(0, n_lags, hop)
            padded = np.pad(song.coarse, (0, starts[-1] + COARSE_FFT - len(song.coarse)))
            power = np.concatenate(([0], np.cumsum(padded.astype(np.float64) ** 2)))
            energy = power[n_probe:] - power[:-n_probe]
            scale = 1 / np.sqrt(np.maximum(energy, self._quiet_power * n_probe))
            for start in starts:
                pieces.append(padded[start : start + COARSE_FFT])
                scales.append(scale[start : start + hop])
                self._pieces_at.append((index, int(start)))
        self._spectra = fft.rfft(np.array(pieces), axis=1)  # (n_pieces, COARSE_FFT/2 + 1)
        self._scales = np.array(scales, dtype=np.float32)  # (n_pieces, hop)

    def longest(self, samples: np.ndarray) -> Copy:
        """The longest copy in a sound.

        Parameters
        ----------
        samples
            (n_samples,), finite.
        """
        sound = _Sound(samples)
        best = Copy()
        seen: dict[tuple[int, int], int] = {}  # (song, lag) -> where the stretch there ended
        tone_until = 0
        for start in range(0, len(sound) - PROBE_SAMPLES + 1, PROBE_SAMPLES):
            if start + PROBE_SAMPLES <= tone_until:
                continue  # a copy that goes on beyond the tone is found by what follows it
            for song, lag in self._candidates(sound, start):
                # A neighbouring lag is the same stretch, found a sample beside.
                if any(seen.get((song, near), -1) > start for near in (lag - 1, lag, lag + 1)):
                    continue
                first, last = self._stretch(sound, self._songs[song], lag, start)
                seen[song, lag] = last
                if last - first <= best.n_samples:
                    continue
                if _changes(sound.samples[first:last]):
                    best = Copy(last - first, first, song, first + lag)
                else:
                    tone_until = max(tone_until, last)
        return best

    def _candidates(self, sound: "_Sound", start: int) -> list[tuple[int, int]]:
        """The (song, lag) at which 0.1 s of a sound from ``start`` on match, best first."""
        probe = sound.coarse[start // COARSE : (start + PROBE_SAMPLES) // COARSE]
        energy = float(np.dot(probe, probe))
        if energy < self._quiet_power * len(probe):
            return []
        spectrum = fft.rfft(probe, COARSE_FFT).conj()
        match = fft.irfft(self._spectra * spectrum, axis=1)[:, : self._scales.shape[1]]
        match *= self._scales
        np.abs(match, out=match)
        lags = match.argmax(axis=1)
        peaks = match[np.arange(len(match)), lags] / np.sqrt(energy)
        found = []
        for piece in np.argsort(peaks)[::-1][:N_CANDIDATES]:
            if peaks[piece] < COARSE_MATCH:
                break
            song, piece_start = self._pieces_at[piece]
            guess = (piece_start + int(lags[piece])) * COARSE
            at = max(0, guess - COARSE)
            region = self._songs[song].samples[at : guess + COARSE + PROBE_SAMPLES]
            template = sound.samples[start : start + PROBE_SAMPLES]
            value, offset = _best_match(template, region, self._quiet_power)
            if value >= MATCH:
                found.append((song, at + offset - start))
        return found

    def _stretch(self, sound: "_Sound", song: "_Sound", lag: int, start: int) -> tuple[int, int]:
        """First and last (exclusive) sample of the match around a probe at one lag."""
        lowest, highest = max(0, -lag), min(len(sound), len(song) - lag)
        reach = SAMPLE_RATE_HZ
        while True:  # look farther until the match ends within sight
            low, high = max(lowest, start - reach), min(highest, start + reach)
            if high - low < WINDOW_SAMPLES:
                return start, start
            product = sound.samples[low:high] * song.samples[low + lag : high + lag]
            total = np.concatenate(([0], np.cumsum(product)))
            at = np.arange(0, high - low - WINDOW_SAMPLES + 1, STEP_SAMPLES)
            energy = sound.energy(low + at) * song.energy(low + lag + at)
            floor = (self._quiet_power * WINDOW_SAMPLES) ** 2
            match = np.abs(total[at + WINDOW_SAMPLES] - total[at]) / np.sqrt(
                np.maximum(energy, floor)
            )
            matches = match >= MATCH
            quiet = self._quiet_power * WINDOW_SAMPLES
            is_rest = sound.energy(low + at) < quiet
            is_rest &= song.energy(low + lag + at) < quiet
            good = matches | is_rest
            # Windows that hold the whole probe, or else what is left of them at the edges.
            inside = (at <= start - low) & (at >= start - low + PROBE_SAMPLES - WINDOW_SAMPLES)
            near = np.flatnonzero(matches & inside)
            if not len(near):
                return start, start
            bad = np.flatnonzero(~good)
            before, after = bad[bad < near[0]], bad[bad > near[0]]
            first = before[-1] + 1 if len(before) else 0
            last = after[0] - 1 if len(after) else len(good) - 1
            cut = (first == 0 and low > lowest) or (last == len(good) - 1 and high < highest)
            if not cut:
                heard = at[first + np.flatnonzero(matches[first : last + 1])]
                return low + int(heard[0]), low + int(heard[-1]) + WINDOW_SAMPLES
            reach *= 2


def without_rumble(samples: np.ndarray) -> np.ndarray:
    """What can be heard of a sound: without offset and drift, float64 (n_samples,)."""
    high_pass = signal.butter(2, RUMBLE_HZ, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    # The state as if the first sample had always been there: an offset does not click.
    state = signal.sosfilt_zi(high_pass) * samples[0]
    return signal.sosfilt(high_pass, np.asarray(samples, dtype=np.float64), zi=state)[0]


class _Sound:
    """A sound as the search needs it: without rumble, at both rates, with its running power."""

    def __init__(self, samples: np.ndarray):
        self.samples = samples = without_rumble(samples)
        n_padded = COARSE * fft.next_fast_len(-(-len(samples) // COARSE) + 1, real=True)
        padded = np.pad(samples, (0, n_padded - len(samples)))
        spectrum = fft.rfft(padded)
        frequency_hz = fft.rfftfreq(n_padded, 1 / SAMPLE_RATE_HZ)
        low_hz, high_hz = COARSE_BAND_HZ
        spectrum[(frequency_hz < low_hz) | (frequency_hz > high_hz)] = 0
        n_coarse = n_padded // COARSE
        coarse = fft.irfft(spectrum[: n_coarse // 2 + 1], n_coarse) / COARSE
        self.coarse = coarse[: -(-len(samples) // COARSE)].astype(np.float32)
        self.power = np.concatenate(([0], np.cumsum(self.samples**2)))

    def __len__(self) -> int:
        return len(self.samples)

    def energy(self, starts: np.ndarray) -> np.ndarray:
        """Of the windows that begin at ``starts``."""
        return self.power[starts + WINDOW_SAMPLES] - self.power[starts]


def _best_match(template: np.ndarray, region: np.ndarray, quiet_power: float) -> tuple[float, int]:
    """The highest normalised correlation of a template within a region, and its place there."""
    n = len(template)
    if len(region) < n:
        return 0.0, 0
    n_lags = len(region) - n + 1
    size = fft.next_fast_len(len(region), real=True)
    product = fft.irfft(fft.rfft(region, size) * fft.rfft(template, size).conj(), size)[:n_lags]
    power = np.concatenate(([0], np.cumsum(region**2)))
    energy = np.maximum(power[n:] - power[:-n], quiet_power * n)
    match = np.abs(product) / np.sqrt(energy * max(float(template @ template), quiet_power * n))
    place = int(match.argmax())
    return float(match[place]), place


def _changes(stretch: np.ndarray) -> bool:
    """Whether a stretch is more than one tone held: some window of it is unlike another."""
    n = PROBE_SAMPLES
    n_windows = min(len(stretch) // n, N_CHANGE_WINDOWS)
    starts = np.linspace(0, len(stretch) - n, n_windows).astype(int)
    power = max(float(np.mean(stretch**2)) * 1e-4, 1e-12)  # windows 40 dB below it are a rest
    for template_start in (starts[0], starts[n_windows // 2], starts[-1]):
        template = stretch[template_start : template_start + n]
        for start in starts:
            low = max(0, start - CHANGE_REACH_SAMPLES)
            region = stretch[low : start + n + CHANGE_REACH_SAMPLES]
            if _best_match(template, region, power)[0] < CHANGE:
                return True
    return False
