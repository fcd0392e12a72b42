"""Playing: loops over torch's modules against the sampler."""

import statistics
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from torch import nn

from noizenet.benchmarks.measuring import Table, Work, in_turns, microseconds, ratio
from noizenet.benchmarks.plan import Plan, Size
from noizenet.learner.generate import play
from noizenet.learner.model import Model
from noizenet.units import SAMPLE_RATE_HZ

N_MIXTURES = 4
PREDICTOR_ORDER = 1024
OURS_LONGER = 20  # times: a few milliseconds would be lost in what begins a call


def player(
    size: Size, loss: str, predictor_order: int, n_at_once: int = 1, precision: str = "float32"
) -> Callable[[int], None]:
    """Our sampler: plays a number of samples, of each of several sequences."""
    torch.manual_seed(0)
    model = Model(
        cell="lstm", hidden=size.hidden, layers=size.layers, dropout=0.0, loss=loss,
        n_mixtures=N_MIXTURES, n_features=1, n_codes=None, predictor_order=predictor_order,
    )  # fmt: skip
    model.engine = "numba"
    model.stay_within(-1, 1)
    seed = np.zeros((2, 1), np.float32)
    temperature = 0.0 if loss == "mse" else 1.0
    return lambda n_steps: play(
        model, seed, n_steps, temperature, range(n_at_once), precision=precision
    )


class Loop:
    """Torch's way: a step, its output back into it."""

    def __init__(self, size: Size, with_cells: bool):
        torch.manual_seed(0)
        self.head = nn.Linear(size.hidden, 1)
        if with_cells:
            inputs = [1] + [size.hidden] * (size.layers - 1)
            self.cells = [nn.LSTMCell(n, size.hidden) for n in inputs]
            self.first = [(torch.zeros(1, size.hidden),) * 2 for _ in inputs]
            self.step = self.step_of_cells
        else:
            self.network = nn.LSTM(1, size.hidden, size.layers, batch_first=True)
            self.first = (torch.zeros(size.layers, 1, size.hidden),) * 2
            self.step = self.step_of_layers

    def step_of_layers(self, x, state):
        h, state = self.network(x[:, None], state)
        return self.head(h[:, 0]), state

    def step_of_cells(self, x, states):
        after = []
        for cell, state in zip(self.cells, states, strict=True):
            x, c = cell(x, state)
            after.append((x, c))
        return self.head(x), after

    @torch.no_grad()
    def __call__(self, n_steps: int) -> None:
        x, state = torch.zeros(1, 1), self.first
        for _ in range(n_steps):
            x, state = self.step(x, state)


def compiled_loop(size: Size) -> Loop:
    """The loop over cells with a step made by torch.compile; raises where that does not run."""
    loop = Loop(size, with_cells=True)
    loop.step = torch.compile(loop.step_of_cells)
    loop(3)
    return loop


def playing_table(plan: Plan, thread_counts: Iterable[int]) -> Table:
    """Loops over torch's modules against the sampler."""
    rows, reasons = [], set()
    for n_threads in thread_counts:
        torch.set_num_threads(n_threads)
        for size in plan.sizes:
            n_steps = size.playing_steps
            loops = {
                "nn.LSTM": Loop(size, with_cells=False),
                "LSTMCell": Loop(size, with_cells=True),
                **_compiled(size, plan.compiles, reasons),
            }
            works = {name: Work(partial(loop, n_steps), n_steps) for name, loop in loops.items()}
            n_ours = OURS_LONGER * n_steps
            for name, play_on, n in (
                ("ours", player(size, "mse", 0), n_ours),
                ("whole", player(size, "mixture", PREDICTOR_ORDER), n_ours),
                (
                    "many",
                    player(size, "mixture", PREDICTOR_ORDER, plan.n_at_once),
                    n_ours // plan.n_at_once,
                ),
            ):
                works[name] = Work(partial(play_on, n), n)
            took_s = in_turns(works, plan.rounds)
            one, many = (statistics.median(took_s[name]) for name in ("whole", "many"))
            rows.append(
                (
                    size.name,
                    f"{n_threads}",
                    *(microseconds(took_s[name]) for name in ("nn.LSTM", "LSTMCell")),
                    microseconds(took_s["compiled"]) if "compiled" in took_s else "–",
                    microseconds(took_s["ours"]),
                    f"**{ratio(took_s, 'LSTMCell', 'ours'):.0f}**",
                    f"{one * 1e6:.2f}",
                    f"{1 / one / SAMPLE_RATE_HZ:.1f}",
                    f"{plan.n_at_once * one / many:.1f}",
                )
            )
    columns = (
        *("network", "threads", "nn.LSTM, µs a sample", "LSTMCell", "torch.compile", "ours"),
        *("times faster than LSTMCell", "whole sampler", "times real time"),
        f"{plan.n_at_once} at once, times the throughput",
    )
    note = (
        "The first four play back a linear head's value: the same work. The whole sampler draws "
        f"from a mixture of {N_MIXTURES} around a linear prediction of order {PREDICTOR_ORDER}; "
        f"real time is {SAMPLE_RATE_HZ:,} samples a second."
    )
    note += "".join(f" torch.compile was left out: {reason}." for reason in sorted(reasons))
    return Table("Playing", columns, rows, note)


def _compiled(size: Size, wanted: bool, reasons: set[str]) -> dict[str, Loop]:
    """The compiled loop under its name; or nothing, and why."""
    if not wanted:
        reasons.add("not in the quick version")
        return {}
    try:
        return {"compiled": compiled_loop(size)}
    except Exception as error:  # whatever a compiler may not find; it is no loss but to say so
        reasons.add(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}")
        return {}
