"""Preparing songs: librosa and scikit-learn in a loop against ours."""

import statistics

import librosa
import numpy as np
from sklearn.preprocessing import StandardScaler

from noizenet.benchmarks.measuring import Table, Work, in_turns, ratio
from noizenet.benchmarks.plan import Plan
from noizenet.learner.codecs import fit_codec
from noizenet.sound.frames import FrameTransform
from noizenet.units import SAMPLE_RATE_HZ, mu_law_encode

FRAME_SAMPLES = 1024
N_SONGS = 5


def preparing_table(plan: Plan) -> Table:
    """Well-known functions in a loop over songs against ours."""
    rng = np.random.default_rng(0)
    n_samples = int(plan.songs_s * SAMPLE_RATE_HZ)
    songs = [0.1 * rng.standard_normal(n_samples).astype(np.float32) for _ in range(N_SONGS)]
    transform = FrameTransform(FRAME_SAMPLES, FRAME_SAMPLES // 2)

    def librosa_frames():
        for song in songs:
            librosa.stft(
                song, n_fft=FRAME_SAMPLES, hop_length=FRAME_SAMPLES // 2, window=transform.window
            )

    def sklearn_scaled():
        scaler = StandardScaler()
        for song in songs:
            scaler.partial_fit(song[:, None])
        return [scaler.transform(song[:, None]) for song in songs]

    def our_scaled():
        codec = fit_codec(songs, "waveform", "mse", "zscore", FRAME_SAMPLES)
        return [codec.encode(song) for song in songs]

    works = {
        "FFT frames, by librosa": (
            librosa_frames,
            lambda: [transform.to_frames(song) for song in songs],
        ),
        "z-score, by scikit-learn": (sklearn_scaled, our_scaled),
        "mu-law codes, by librosa": (
            lambda: [librosa.mu_compress(song.clip(-1, 1), quantize=True) for song in songs],
            lambda: [mu_law_encode(song) for song in songs],
        ),
    }
    rows = []
    for name, (theirs, ours) in works.items():
        n_all = N_SONGS * n_samples
        took_s = in_turns({"theirs": Work(theirs, n_all), "ours": Work(ours, n_all)}, plan.rounds)
        nanoseconds = [1e9 * statistics.median(t) for t in took_s.values()]
        rows.append(
            (
                name,
                *(f"{n:.1f}" for n in nanoseconds),
                f"**{ratio(took_s, 'theirs', 'ours'):.1f}**",
                f"{1e9 / nanoseconds[1] / SAMPLE_RATE_HZ:,.0f}",
            )
        )
    columns = ("work", "theirs, ns a sample", "ours", "times faster", "times real time")
    return Table("Preparing", columns, rows, f"{N_SONGS} songs of {plan.songs_s:g} s.")
