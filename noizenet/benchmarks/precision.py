"""Large networks with 8-bit weights: how much faster they play, and how many bits that costs."""

import copy
from collections.abc import Iterable
from functools import partial

import numpy as np
import torch

from noizenet.benchmarks.measuring import Table, Work, in_turns, microseconds, ratio
from noizenet.benchmarks.plan import Plan, Size
from noizenet.benchmarks.playing import N_MIXTURES, OURS_LONGER, PREDICTOR_ORDER, player
from noizenet.kernels.narrow import quantise
from noizenet.kernels.threads import team_for
from noizenet.learner.batches import shifted
from noizenet.learner.bptt import backpropagate
from noizenet.learner.codecs import Codec, fit_codec
from noizenet.learner.model import Model, fit_linear_prediction
from noizenet.learner.score import bits_per_sample
from noizenet.sound.library import DEMO, load_library
from noizenet.units import SAMPLE_RATE_HZ

PRECISIONS = ("float32", "int8")
SONG_S = 5.0
LEARNING_RATE = 3e-3
FLOAT_BYTES = 4
HEARD_LONGER = 8  # times a step of training, to tell bits by


def taught(size: Size, n_lessons: int) -> tuple[Model, Codec, np.ndarray]:
    """A network that has begun to learn a demo song, its codec and what it has not heard of it."""
    song = load_library(DEMO, 1, SONG_S, valid_fraction=0.0).train[0].samples
    codec = fit_codec([song], "waveform", "mixture", "zscore", frame_samples=2)
    torch.manual_seed(0)
    model = Model(
        cell="lstm", hidden=size.hidden, layers=size.layers, dropout=0.0, loss="mixture",
        n_mixtures=N_MIXTURES, n_features=1, n_codes=None, predictor_order=PREDICTOR_ORDER,
    )  # fmt: skip
    numbers = codec.encode(song)
    model.stand_on(*fit_linear_prediction([numbers[:, 0]], PREDICTOR_ORDER))
    model.engine = "numba"
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    n_steps, state = size.training_steps, model.initial_state(1)
    parts = np.linspace(0, len(numbers) // 2 - n_steps, n_lessons).astype(int)
    for start in parts:
        inputs, targets = shifted(numbers[start : start + n_steps], codec.start())
        optimizer.zero_grad()
        backpropagate(
            model, torch.from_numpy(inputs)[None], torch.from_numpy(targets)[None], state,
            n_steps, mask_seed=0,
        )  # fmt: skip
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model, codec, song[len(song) // 2 :][: HEARD_LONGER * n_steps]


def rounded(model: Model) -> Model:
    """An LSTM with the weights that its 8-bit integers stand for.

    Inputs of the first layer keep their float32 weights; those of the others are states, and
    share the scale of each gate with the layer's own state.
    """
    model = copy.deepcopy(model)
    for depth, layer in enumerate(model.recurrent.layers):
        weights = [layer.weight_hh_l0] + ([layer.weight_ih_l0] if depth else [])
        with torch.no_grad():
            integers, scales = quantise(torch.cat(weights, 1).T.numpy())
            exact = torch.from_numpy((integers * scales).T)
            for weight, new in zip(
                weights, exact.split([w.shape[1] for w in weights], 1), strict=True
            ):
                weight.copy_(new)
    return model


def precision_table(plan: Plan, thread_counts: Iterable[int]) -> Table:
    """The largest network of the plan in float32 and in int8."""
    size = plan.sizes[-1]
    torch.set_num_threads(max(thread_counts))
    model, codec, unheard = taught(size, plan.n_lessons)
    bits = dict(
        zip(
            PRECISIONS,
            (bits_per_sample(m, codec, unheard) for m in (model, rounded(model))),
            strict=True,
        )
    )
    rows = []
    for n_threads in thread_counts:
        torch.set_num_threads(n_threads)
        n_steps = OURS_LONGER * size.playing_steps
        works = {
            name: Work(
                partial(player(size, "mixture", PREDICTOR_ORDER, precision=name), n_steps), n_steps
            )
            for name in PRECISIONS
        }
        took_s = in_turns(works, plan.rounds)
        team = team_for(FLOAT_BYTES * size.n_products, n_threads)
        for name in PRECISIONS:
            speed = 1 / np.median(took_s[name]) / SAMPLE_RATE_HZ
            rows.append(
                (
                    f"{name}, {size.name}",
                    f"{n_threads}",
                    f"{1 if team is None else team.n_workers}",
                    microseconds(took_s[name]),
                    f"{speed:.2f}",
                    f"**{ratio(took_s, 'float32', name):.1f}**",
                    f"{bits[name]:.4f}",
                    f"{bits[name] - bits['float32']:+.4f}",
                )
            )
    columns = (
        *("recurrent weights", "threads", "workers of a team", "µs a sample", "times real time"),
        *("times faster", "bits a sample", "bits lost"),
    )
    note = (
        "The whole sampler, as above; a team shares every step of it. Bits are those of the 8-bit "
        f"mu-law code of {len(unheard) / SAMPLE_RATE_HZ:.2g} s of a demo song, after "
        f"{plan.n_lessons} steps of training on other parts of it."
    )
    return Table("Large networks: a team, and 8-bit weights", columns, rows, note)
