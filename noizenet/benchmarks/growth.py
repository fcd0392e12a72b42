"""Time and memory of one whole sequence, against its length."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from noizenet.benchmarks.measuring import Table, peak_megabytes
from noizenet.benchmarks.plan import Plan
from noizenet.config import MachineConfig
from noizenet.drawing import LEVEL_COLOUR, WAVE_COLOUR, new_figure
from noizenet.learner.bptt import CHUNK_STEPS, backpropagate, chunks_run_again
from noizenet.learner.machine import chunk_steps
from noizenet.learner.model import Model
from noizenet.units import SAMPLE_RATE_HZ
from noizenet.views import figure_to_png

N_MIXTURES = 4


@dataclass(frozen=True)
class Growth:
    """What a whole sequence of one length costs."""

    n_steps: int
    n_again: int  # steps whose history was not kept: they are run a second time
    us_per_step: float
    megabytes: float


def backpropagate_once(
    hidden: int, n_steps: int, memory_gb: float, n_threads: int, warm_up: bool = False
) -> tuple[float, int]:
    """Seconds that the exact gradient of a whole sequence takes, and steps run twice for it."""
    torch.set_num_threads(n_threads)
    torch.manual_seed(0)
    model = Model(
        cell="lstm", hidden=hidden, layers=1, dropout=0.0, loss="mixture",
        n_mixtures=N_MIXTURES, n_features=1, n_codes=None, predictor_order=0,
    )  # fmt: skip
    model.engine = "numba"
    n_steps = min(n_steps, 3000) if warm_up else n_steps
    kept = chunk_steps(model, MachineConfig(memory_gb=memory_gb), n_steps, batch=1)
    numbers = torch.randn(1, n_steps, 1)
    began_s = time.perf_counter()
    backpropagate(model, numbers, numbers, model.initial_state(1), kept, mask_seed=0)
    took_s = time.perf_counter() - began_s
    return took_s, chunks_run_again(n_steps, kept) * min(kept, CHUNK_STEPS)


def measure_growth(plan: Plan, memory_gb: float, n_threads: int) -> list[Growth]:
    """Every length in a process of its own."""
    found = []
    for n_steps in plan.growth_steps:
        megabytes, (took_s, n_again) = peak_megabytes(
            backpropagate_once, plan.growth_hidden, n_steps, memory_gb, n_threads
        )
        found.append(Growth(n_steps, n_again, took_s / n_steps * 1e6, megabytes))
    return found


def growth_table(growth: list[Growth], hidden: int, memory_gb: float, n_threads: int) -> Table:
    """Time and memory against length."""
    rows = [
        (
            f"{g.n_steps:,}",
            f"{g.n_steps / SAMPLE_RATE_HZ:,.1f}",
            f"{100 * g.n_again / g.n_steps:.0f} %",
            f"{g.us_per_step:.2f}",
            f"{g.megabytes:,.0f}",
            f"{1e6 * g.megabytes / g.n_steps:,.0f}",
        )
        for g in growth
    ]
    columns = ("steps", "seconds of sound", "run twice", "µs a step", "MB", "bytes a step")
    note = (
        f"LSTM-{hidden} with a mixture head, the exact gradient of one whole sequence, "
        f"--memory-gb {memory_gb:g}, {n_threads} thread(s). Steps whose history does "
        "not fit into the memory given are run twice; the sequence itself comes on top of it."
    )
    return Table("Growth with the length of a song", columns, rows, note)


def draw_growth(growth: list[Growth], path: Path) -> None:
    """The same as a picture."""
    figure = new_figure((8, 3.2), "")
    n_steps = [g.n_steps for g in growth]
    for axes, values, unit, colour in zip(
        figure.subplots(1, 2),
        ([g.us_per_step for g in growth], [g.megabytes for g in growth]),
        ("µs a step", "peak memory, MB"),
        (WAVE_COLOUR, LEVEL_COLOUR),
        strict=True,
    ):
        axes.plot(n_steps, values, marker="o", color=colour)
        axes.set(xscale="log", xlabel="steps in one sequence", ylabel=unit, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    figure_to_png(figure, path)
