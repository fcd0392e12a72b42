"""What a stack goes through before its first step, timed: a program that prints it as JSON.

Everything is imported inside, for that is most of what a start takes.
"""

import json
import time

ORDER = 1024  # of the linear prediction
HIDDEN, N_MIXTURES, N_SONGS, SONG_S, FRAME_SAMPLES = 48, 4, 5, 20.0, 1024  # its defaults


def stages() -> list[tuple[str, float]]:
    """What is done between the start of a process and its first step, and the seconds of each."""
    took_s = []
    began_s = time.perf_counter()

    def done(name: str) -> None:
        nonlocal began_s
        took_s.append((name, time.perf_counter() - began_s))
        began_s = time.perf_counter()

    import torch

    done("importing torch")
    from noizenet.kernels import play, recurrent  # noqa: F401

    done("importing numba")
    from noizenet.learner.codecs import fit_codec
    from noizenet.learner.machine import seconds_per_step
    from noizenet.learner.model import Model, fit_linear_prediction
    from noizenet.sound.features import chroma, log_mel, spectral_flatness
    from noizenet.sound.library import DEMO, load_library

    done("importing scipy.signal and scikit-learn")
    library = load_library(DEMO, N_SONGS, SONG_S, valid_fraction=0.1)
    songs = [song.samples for song in library.train]
    done("reading and resampling the songs")
    codec = fit_codec(songs, "waveform", "mixture", "zscore", FRAME_SAMPLES)
    done("fitting the codec")
    numbers = [codec.encode(song) for song in songs]
    done("encoding (z-score)")
    coefficients, scale = fit_linear_prediction([song[:, 0] for song in numbers], ORDER)
    done("fitting the linear prediction")
    for feature in (log_mel, chroma):
        feature(songs[0][:1])
    done("importing librosa's filters, which compile something")
    for song in songs:
        for feature in (log_mel, chroma, spectral_flatness):
            feature(song)
    done("mel bands, chroma and flatness, to judge by")
    model = Model(
        cell="lstm", hidden=HIDDEN, layers=1, dropout=0.0, loss="mixture",
        n_mixtures=N_MIXTURES, n_features=1, n_codes=None, predictor_order=ORDER,
    )  # fmt: skip
    model.stand_on(coefficients, scale)
    model.engine = "numba"
    seconds_per_step(model, batch=1, longest_steps=len(numbers[0]))
    done("loading compiled kernels and trying a step")
    torch.optim.Adam(model.parameters())
    done("making the optimizer (torch imports its compiler for it)")
    return took_s


if __name__ == "__main__":
    print(json.dumps(stages()))
