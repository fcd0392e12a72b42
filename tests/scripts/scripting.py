"""What the tests of the scripts share: small settings, sounds, and how a script ended."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from noizenet.units import SAMPLE_RATE_HZ

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = [
    *("--hidden", "4", "--songs", "2", "--duration", "0.5", "--epochs", "2", "--predictor", "8"),
    *("--seed-seconds", "0.2", "--generate-seconds", "0.3", "--threads", "1"),
]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
LAST = "runs/a/checkpoints/last.safetensors"


def tone(n_samples=SAMPLE_RATE_HZ // 2, frequency_hz=440):
    noise = np.random.default_rng(frequency_hz).standard_normal(n_samples)
    wave = np.sin(2 * np.pi * frequency_hz / SAMPLE_RATE_HZ * np.arange(n_samples))
    return (0.3 * wave + 0.01 * noise).astype(np.float32)


def write(path, samples):
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="FLOAT")


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def must_be(self, error):
        """One line on stderr that begins so, and exit code 2."""
        assert self.err.startswith(error), self.err
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        assert self.code == 2
