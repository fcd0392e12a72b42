"""All benchmarks in one go: what ``scripts/bench.py`` prints."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import torch

from noizenet.benchmarks.growth import draw_growth, growth_table, measure_growth
from noizenet.benchmarks.measuring import peak_gflops
from noizenet.benchmarks.plan import Plan
from noizenet.benchmarks.playing import playing_table
from noizenet.benchmarks.precision import precision_table
from noizenet.benchmarks.preparing import preparing_table
from noizenet.benchmarks.starting import starting_table
from noizenet.benchmarks.training import songs_table, training_table

PACKAGES = ("torch", "numba", "numpy", "librosa", "scikit-learn")


def machine_text(plan: Plan, thread_counts: Iterable[int]) -> str:
    """What this was measured on and with."""
    peaks = []
    for n_threads in thread_counts:
        torch.set_num_threads(n_threads)
        peaks.append(f"{peak_gflops(plan.rounds):.0f} GFLOP/s with {n_threads} thread(s)")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}; float32 peak by a matrix "
        f"product: {' and '.join(peaks)}. Python {platform.python_version()}, {versions}. "
        f"Medians of {plan.rounds} rounds in which the opponents take turns. "
        "Written by `python scripts/bench.py --out docs/benchmarks.md`.\n"
    )


def _processor() -> str:
    with contextlib.suppress(OSError):  # only Linux has it
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def run_all(
    plan: Plan,
    picture: Path | None,
    memory_gb: float = 1.5,
    say: Callable[[str], None] = print,
) -> str:
    """Measure everything; each part is said as soon as it is there, and all returned (Markdown)."""
    n_all = torch.get_num_threads()
    thread_counts = sorted({1, n_all})
    parts = []

    def keep(text: str) -> None:
        parts.append(text)
        say(text)

    keep("# Benchmarks\n\n" + machine_text(plan, thread_counts))
    keep(training_table(plan, thread_counts).markdown())
    keep(songs_table(plan, thread_counts).markdown())
    keep(playing_table(plan, thread_counts).markdown())
    keep(precision_table(plan, thread_counts).markdown())
    torch.set_num_threads(n_all)
    keep(preparing_table(plan).markdown())
    keep(starting_table(plan).markdown())
    growth = measure_growth(plan, memory_gb, n_all)
    keep(growth_table(growth, plan.growth_hidden, memory_gb, n_all).markdown())
    if picture is not None:
        draw_growth(growth, picture)
        keep(f"![Growth with the length of a song]({picture.name})\n")
    return "\n".join(parts)
