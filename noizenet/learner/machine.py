"""Where a model runs: device, engine, threads, and how much history fits in memory."""

import os
import time

import torch

from noizenet.config import MachineConfig
from noizenet.errors import ParameterError
from noizenet.learner.bptt import backpropagate
from noizenet.learner.model import Model
from noizenet.learner.recurrent import STATE_PARTS

MEMORY_SHARE = 0.25  # of the machine's memory, for the history of one pass
TRIAL_STEPS = 4096
FLOAT_BYTES = 4


def choose_device(config: MachineConfig) -> torch.device:
    """The device that ``--device`` means here; sets the number of threads.

    Raises
    ------
    ParameterError
        When CUDA was asked for and there is none.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise ParameterError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if cuda and config.device != "cpu" else "cpu")


def choose_engine(config: MachineConfig, device: torch.device) -> str:
    """``numba`` or ``torch``: who computes the recurrence."""
    if device.type == "cpu":
        return "torch" if config.engine == "torch" else "numba"
    if config.engine == "numba":
        raise ParameterError("--engine numba runs on the CPU; add --device cpu")
    return "torch"


def history_bytes_per_step(model: Model) -> int:
    """About how much one step of one sequence leaves in memory for the backward pass.

    The compiled engine keeps the states only; torch keeps the gates as well (measured: 3.9 kB a
    step for LSTM-50). Beside them are the outputs' gradient and the input's features.
    """
    recurrent = model.recurrent
    parts = STATE_PARTS[recurrent.cell] if model.engine == "numba" else 20
    dropout = 2 if recurrent.dropout else 0
    layers = len(recurrent.layers) * (parts + 2 + dropout) * recurrent.hidden
    return FLOAT_BYTES * (layers + 4 * recurrent.layers[0].input_size)


def memory_bytes(config: MachineConfig) -> float:
    """What the history of a pass may take."""
    if config.memory_gb is not None:
        return config.memory_gb * 1e9
    return MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def chunk_steps(model: Model, config: MachineConfig, longest_steps: int, batch: int) -> int:
    """Steps whose history fits at once (see :mod:`noizenet.learner.bptt`)."""
    fitting = int(memory_bytes(config) / (history_bytes_per_step(model) * batch))
    return max(1, min(longest_steps, fitting))


def seconds_per_step(model: Model, batch: int, longest_steps: int) -> float:
    """Time of one step of training, tried out on noise (this also compiles what is compiled)."""
    n_steps = min(TRIAL_STEPS, longest_steps)
    device = model.residual_scale.device
    if model.n_codes is None:
        numbers = torch.randn(batch, n_steps, model.n_features, device=device)
    else:
        numbers = torch.randint(model.n_codes, (batch, n_steps), device=device)
    for _ in range(2):  # the first also warms up
        began_s = time.monotonic()
        backpropagate(model, numbers, numbers, model.initial_state(batch), n_steps, mask_seed=0)
        took_s = time.monotonic() - began_s
    model.zero_grad(set_to_none=True)
    return took_s / n_steps
