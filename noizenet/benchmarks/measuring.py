"""Measuring by turns, and tables of what came out.

Opponents take turns within a round, so that whatever else the machine does meets all of them;
ratios are taken within a round, and the median over the rounds is reported. Memory is measured
apart, each in a process of its own. Nothing here asserts: benchmarks are not tests.
"""

import contextlib
import gc
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # see proc(5)
PEAK_SIZE = 1024  # of the square matrices whose product tells the machine's peak


class Work(NamedTuple):
    """Something to be timed."""

    run: Callable[[], object]
    n_units: int  # steps or samples that it works through


@dataclass(frozen=True)
class Table:
    """A title, what its columns are, and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""

    def markdown(self) -> str:
        """As GitHub reads it."""
        lines = [f"## {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        ruled = [self.columns, ("---", *["---:"] * (len(self.columns) - 1)), *self.rows]
        lines += [f"| {' | '.join(row)} |" for row in ruled]
        return "\n".join(lines) + "\n"


def in_turns(contenders: dict[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds a unit of each contender in each round; before the first, each warms up."""
    took_s = {name: [] for name in contenders}
    collects = gc.isenabled()
    gc.disable()  # or one contender pays for another's rubbish
    try:
        for turn in range(rounds + 1):
            for name, (run, n_units) in contenders.items():
                began_s = time.perf_counter()
                run()
                if turn:
                    took_s[name].append((time.perf_counter() - began_s) / n_units)
    finally:
        if collects:
            gc.enable()
    return took_s


def ratio(took_s: dict[str, list[float]], opponent: str, ours: str) -> float:
    """How many times longer the opponent took: the median of the rounds' ratios."""
    pairs = zip(took_s[opponent], took_s[ours], strict=True)
    return statistics.median(theirs / our for theirs, our in pairs)


def microseconds(took_s: list[float]) -> str:
    """The median of the rounds, a unit."""
    return f"{statistics.median(took_s) * 1e6:.2f}"


def peak_gflops(rounds: int) -> float:
    """The machine's float32 peak with the threads that torch has now, by a matrix product."""
    matrix = torch.rand(PEAK_SIZE, PEAK_SIZE)
    product = Work(lambda: matrix @ matrix, 2 * PEAK_SIZE**3)
    return 1e-9 / min(in_turns({"product": product}, 4 * rounds)["product"])


def peak_megabytes(run: Callable[..., object], *arguments) -> tuple[float, object]:
    """How much memory ``run`` took beyond what its fresh process had, and what it returned."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (run, arguments))


def _measured(run: Callable[..., object], arguments: tuple) -> tuple[float, object]:
    run(*arguments, warm_up=True)
    gc.collect()
    with contextlib.suppress(OSError):  # not Linux: then what importing took for a moment counts
        RESET.write_text("5")
    before = _highest_megabytes()
    found = run(*arguments)
    return _highest_megabytes() - before, found


def _highest_megabytes() -> float:
    """The most memory that this process had since the last reset.

    Linux's ``ru_maxrss`` begins with that of the process it was started from, so it is read here.
    """
    try:
        status = STATUS.read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        import resource

        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return highest / (1e6 if platform.system() == "Darwin" else 1e3)
