"""Training: torch's LSTM against the kernels."""

import statistics
from collections.abc import Callable, Iterable

import torch
from torch import nn

from noizenet.benchmarks.measuring import (
    Table,
    Work,
    in_turns,
    microseconds,
    peak_gflops,
    peak_megabytes,
    ratio,
)
from noizenet.benchmarks.plan import Plan, Size
from noizenet.learner.recurrent import Recurrent

ENGINES = ("torch", "numba")
N_SONGS = 5
LEAST_STEPS = 200  # of several songs: fewer would measure how a pass begins


def training_run(engine: str, size: Size, n_steps: int, n_songs: int = 1) -> Callable[[], None]:
    """Forward and backward over whole sequences, by torch's nn.LSTM or by the kernels."""
    torch.manual_seed(0)
    x = torch.randn(n_songs, n_steps, 1)
    gradient = torch.randn(n_songs, n_steps, size.hidden)
    if engine == "torch":
        network = nn.LSTM(1, size.hidden, size.layers, batch_first=True)
        return lambda: network(x)[0].backward(gradient)
    stack = Recurrent("lstm", 1, size.hidden, size.layers, dropout=0.0)
    state = stack.initial_state(n_songs)
    return lambda: stack(x, state, "numba")[0].backward(gradient)


def train_once(engine: str, size: Size, warm_up: bool = False) -> None:
    """For :func:`peak_megabytes`."""
    torch.set_num_threads(1)
    training_run(engine, size, 64 if warm_up else size.training_steps)()


def training_table(plan: Plan, thread_counts: Iterable[int]) -> Table:
    """Torch against the kernels."""
    rows = []
    megabytes = {
        (size.name, name): peak_megabytes(train_once, name, size)[0]
        for size in plan.sizes
        for name in ENGINES
    }
    for n_threads in thread_counts:
        torch.set_num_threads(n_threads)
        peak = peak_gflops(plan.rounds)
        for size in plan.sizes:
            n_steps = size.training_steps
            engines = {name: Work(training_run(name, size, n_steps), n_steps) for name in ENGINES}
            took_s = in_turns(engines, plan.rounds)
            # forward once, backward twice; what is computed anew is not counted
            gflops = 6e-9 * size.n_products / statistics.median(took_s["numba"])
            rows.append(
                (
                    size.name,
                    f"{n_threads}",
                    f"{n_steps:,}",
                    *(microseconds(took_s[name]) for name in ENGINES),
                    f"**{ratio(took_s, 'torch', 'numba'):.1f}**",
                    *(f"{megabytes[size.name, name]:,.0f}" for name in ENGINES),
                    f"{gflops:.0f}",
                    f"{100 * gflops / peak:.0f} %",
                )
            )
    columns = (
        *("network", "threads", "steps", "torch, µs a step", "ours", "times faster"),
        *("torch, MB", "ours, MB", "ours, GFLOP/s", "of the peak"),
    )
    note = (
        "Forward and backward through one whole sequence in one piece: `torch.nn.LSTM` and the "
        "same network by the kernels. Memory is what a fresh process took for it, with one thread."
    )
    return Table("Training", columns, rows, note)


def songs_table(plan: Plan, thread_counts: Iterable[int]) -> Table:
    """Several songs in one step against one."""
    rows = []
    for n_threads in thread_counts:
        torch.set_num_threads(n_threads)
        for size in (plan.sizes[0], plan.sizes[-1]):
            n_steps = max(min(LEAST_STEPS, size.training_steps), size.training_steps // 4)
            works = {
                name: Work(training_run(engine, size, n_steps, n_songs), n_steps)
                for name, engine, n_songs in (
                    ("one", "numba", 1),
                    ("several", "numba", N_SONGS),
                    ("torch", "torch", N_SONGS),
                )
            }
            took_s = in_turns(works, plan.rounds)
            rows.append(
                (
                    size.name,
                    f"{n_threads}",
                    f"{n_steps:,}",
                    microseconds(took_s["one"]),
                    microseconds(took_s["several"]),
                    f"**{ratio(took_s, 'several', 'one'):.1f}**",
                    microseconds(took_s["torch"]),
                    f"{ratio(took_s, 'torch', 'several'):.1f}",
                )
            )
    columns = (
        *("network", "threads", "steps of each", "one song, µs a step", f"{N_SONGS} songs"),
        *("times the time of one", f"torch, {N_SONGS} songs", "times faster"),
    )
    note = "`--songs-per-step`: whole songs side by side, which share the reading of the weights."
    return Table("Several songs in one step", columns, rows, note)
