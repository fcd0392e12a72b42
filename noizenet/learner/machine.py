"""Where a model runs: device, engine, threads, and how much history fits in memory."""

import os
import time
from pathlib import Path

import torch

from noizenet.config import MachineConfig
from noizenet.errors import ParameterError
from noizenet.kernels.recurrent import CELLS
from noizenet.kernels.threads import team_for
from noizenet.learner.bptt import CHUNK_STEPS, backpropagate
from noizenet.learner.guide import no_guide
from noizenet.learner.model import Model
from noizenet.learner.recurrent import STATE_PARTS

MEMORY_SHARE = 0.25  # of the machine's memory, for the history of one pass
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # where a container's share of it stands
# In training: weights, gradient, two numbers of the optimizer, and three copies of all but the
# gradient (the last good state, that before the step, that which is being saved).
WEIGHT_COPIES = 13
FIRST_TRIAL_STEPS, TRIAL_STEPS = 64, 4096
TRIAL_S = 0.2  # long enough to tell the time of a step by
FLOAT_BYTES = 4
BESIDE_FEATURES = 2  # the number itself and its linear prediction
WALKING_PARTS = 4  # the outputs' gradient twice, and that of the layer below


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
    # its ten bits would be an error of the linear prediction larger than what is left unpredicted
    torch.backends.cudnn.allow_tf32 = False
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

    The compiled engine keeps the states, and the gates of a large layer; torch keeps
    more than those of every layer (measured: 3.9 kB a step for LSTM-50). Dropout keeps its mask and
    what it let through. Beside them are the input's features.
    """
    recurrent = model.recurrent
    parts = 20
    if model.engine == "numba":
        parts = STATE_PARTS[recurrent.cell]
        weights = recurrent.layers[0].weight_hh_l0
        if team_for(weights.nbytes, torch.get_num_threads(), alone=True) is not None:
            parts += CELLS[recurrent.cell].n_rows
    dropout = 2 if recurrent.dropout else 0
    layers = len(recurrent.layers) * (parts + dropout) * recurrent.hidden
    return FLOAT_BYTES * (layers + recurrent.layers[0].input_size + BESIDE_FEATURES)


def walking_bytes_per_step(model: Model) -> int:
    """What a step of the one chunk at work takes beside: gradients of what layers read and say."""
    return FLOAT_BYTES * WALKING_PARTS * model.recurrent.hidden


def machine_bytes(device: torch.device) -> float:
    """The memory of a GPU, of the machine, or of the container that this runs in."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # not a container, or one without a limit
        return physical


def require_memory(n_weights: int, device: torch.device, flags: str) -> None:
    """Refuse a network that cannot be trained here, before it is made.

    Raises
    ------
    ParameterError
        When ``n_weights`` need more memory than there is; ``flags`` are what made them so many.
    """
    needed, there = FLOAT_BYTES * WEIGHT_COPIES * n_weights, machine_bytes(device)
    if needed > there:
        raise ParameterError(
            f"{flags}: {n_weights:,} weights need {needed / 1e9:,.0f} GB of memory in training, "
            f"and there are {there / 1e9:,.0f} GB; lower them"
        )


def memory_bytes(config: MachineConfig) -> float:
    """What the history of a pass may take."""
    if config.memory_gb is not None:
        return config.memory_gb * 1e9
    return MEMORY_SHARE * machine_bytes(torch.device("cpu"))


def chunk_steps(model: Model, config: MachineConfig, longest_steps: int, batch: int) -> int:
    """Steps whose history fits at once (see :mod:`noizenet.learner.bptt`)."""
    there = memory_bytes(config) / batch
    history, walking = history_bytes_per_step(model), walking_bytes_per_step(model)
    fitting = (there - CHUNK_STEPS * walking) / history
    if fitting < CHUNK_STEPS:  # all that fits is one chunk, and a shorter one
        fitting = there / (history + walking)
    return max(1, int(min(longest_steps, fitting)))


def seconds_per_step(model: Model, batch: int, longest_steps: int) -> float:
    """Time of one step of training, tried out on noise (this also compiles what is compiled)."""
    device = model.residual_scale.device
    most = min(TRIAL_STEPS, longest_steps)
    if model.n_codes is None:
        noise = torch.randn(batch, most, model.n_features, device=device)
    else:
        noise = torch.randint(model.n_codes, (batch, most), device=device)

    guide = None
    if model.guided:
        guide = no_guide(batch, model.predictor_order, model.n_conditions).to(device)

    def took_s(n_steps: int) -> float:
        part, state = noise[:, :n_steps], model.initial_state(batch)
        began_s = time.monotonic()
        backpropagate(model, part, part, state, n_steps, mask_seed=0, guide=guide)
        return time.monotonic() - began_s

    # a large network is not tried for longer than it takes to know
    n_steps = min(FIRST_TRIAL_STEPS, most)
    took_s(n_steps)
    while (found_s := took_s(n_steps)) < TRIAL_S and n_steps < most:
        n_steps = min(most, 8 * n_steps)
    model.zero_grad(set_to_none=True)
    return found_s / n_steps
