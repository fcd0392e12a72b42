"""The start of a run: where its seconds go, and so which of them a kernel could save."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noizenet.benchmarks.measuring import Table
from noizenet.benchmarks.plan import Plan
from noizenet.benchmarks.stages import N_SONGS, SONG_S

SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
LAST_WORD = "then "  # how the last line begins that a run says before it trains


def stages_of_a_process() -> list[tuple[str, float]]:
    """:func:`noizenet.benchmarks.stages.stages`, in a fresh process."""
    command = [sys.executable, "-m", "noizenet.benchmarks.stages"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return [(name, took_s) for name, took_s in json.loads(ended.stdout)]


def seconds_to_first_step() -> float:
    """From the start of ``scripts/train.py`` until it trains; then it is ended.

    Raises
    ------
    RuntimeError
        When it ended before that.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "--model", "stack", "--run", "start"],
            cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        with process:
            for line in process.stdout:
                if line.startswith(LAST_WORD):
                    took_s = time.perf_counter() - began_s
                    process.kill()
                    return took_s
        errors.seek(0)
        raise RuntimeError(f"{SCRIPT} ended before it trained: {errors.read().strip()}")


def starting_table(plan: Plan) -> Table:
    """How long a run takes to begin, and what takes so long."""
    known = stages_of_a_process()
    whole_s = min(seconds_to_first_step() for _ in range(plan.n_starts))
    rest_s = max(0.0, whole_s - sum(took_s for _, took_s in known))
    named = [
        *known,
        ("all else", rest_s),
        ("**scripts/train.py --model stack, to its first step**", whole_s),
    ]
    rows = [(name, f"{1e3 * s:,.0f}", f"{100 * s / whole_s:.0f} %") for name, s in named]
    note = (
        f"A warm start with the demo's {N_SONGS} songs of {SONG_S:g} s. Nearly all of it is "
        "importing. Of what is computed, framing, mel bands and the linear prediction are "
        "compiled FFTs, and a z-score is too short to be worth a kernel: one of our own was "
        "slower than scikit-learn's. Mu-law codes, which librosa takes longest for, are ours."
    )
    return Table("Starting", ("stage", "ms", "share"), rows, note)
