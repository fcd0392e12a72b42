"""The playing loop: read the whole seed, then feed back what was played."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from noizenet.kernels import play as kernels
from noizenet.kernels.recurrent import CELLS
from noizenet.kernels.vector import MAX_ROWS
from noizenet.learner.heads import SCALE_FLOOR, CodeHead, MixtureHead, ValueHead
from noizenet.learner.model import Model, State

READ_STEPS = 1 << 16  # how much of a seed is read at once
WATCH_STEPS = 512  # steps between two looks at whether to stop
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def uniform_draws(rng: int, n_steps: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers in (0, 1) for playing, float32 (n_steps, *shape), fixed by ``rng``.

    Drawn apart from the loop, so that every engine plays the same sound from the same number.
    The ends are left out: a logistic drawn there is infinite.
    """
    generator = np.random.Generator(np.random.PCG64(rng))
    tiny = np.float32(2**-24)
    return generator.random((n_steps, *shape), dtype=np.float32).clip(tiny, 1 - tiny)


@torch.no_grad()
def listen(model: Model, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, State]:
    """Read ``(B, T, …)`` from silence; the outputs of the last step and the state after it."""
    model.eval()
    state = model.initial_state(numbers.shape[0])
    for part in numbers.split(READ_STEPS, dim=1):
        parameters, base, state = model(part, state)
    return parameters[:, -1:], None if base is None else base[:, -1:], state


def play(
    model: Model,
    seed: np.ndarray,
    n_steps: int,
    temperature: float,
    rngs: Sequence[int],
    watch: Callable[[int], None] = lambda done: None,
) -> list[np.ndarray]:
    """Play on from a seed, once for each number in ``rngs``.

    Parameters
    ----------
    seed : (T, D) numbers or (T,) codes, T >= 1; all of it is read before the first step is played
    n_steps : steps to play
    temperature : 0 takes the likeliest each time
    rngs : each fixes every draw of one sound, whichever others are played with it
    watch : called with the number of steps played, now and then; may raise to stop

    Returns
    -------
    list of (n_steps, D) or (n_steps,) arrays; one is shorter when its state became non-finite,
    which ends that sound there
    """
    device = model.residual_scale.device
    heard = listen(model, torch.from_numpy(seed)[None].to(device))
    compiled = model.engine == "numba" and model.n_features == 1
    sounds = []
    group = MAX_ROWS if compiled else 1
    for first in range(0, len(rngs), group):
        rows = rngs[first : first + group]
        shape = (model.n_features, model.head.n_uniforms)
        draws = np.stack([uniform_draws(rng, n_steps, shape) for rng in rows])
        run = play_compiled if compiled else play_plainly
        sounds += run(model, heard, draws, temperature, watch)
    return [sound.astype(seed.dtype).reshape(-1, *seed.shape[1:]) for sound in sounds]


Heard = tuple[torch.Tensor, torch.Tensor | None, State]


@torch.no_grad()
def play_plainly(
    model: Model, heard: Heard, draws: np.ndarray, temperature: float, watch: Callable
) -> list[np.ndarray]:
    """Step by step through torch: any model, one sequence (draws (1, n, D, U))."""
    parameters, base, state = heard
    uniforms = torch.from_numpy(draws).to(parameters.device)
    played = []
    for step in range(draws.shape[1]):
        number = model.sample(parameters, base, uniforms[:, step : step + 1], temperature)
        # a code is always finite, whatever it was drawn from
        if not (torch.isfinite(parameters).all() and torch.isfinite(number).all()):
            break
        played.append(number[0, 0].cpu().numpy())
        parameters, base, state = model(number, state)
        if step % WATCH_STEPS == 0:
            watch(step)
    return [np.array(played)]


def play_compiled(
    model: Model, heard: Heard, draws: np.ndarray, temperature: float, watch: Callable
) -> list[np.ndarray]:
    """The compiled loop: a model of samples or codes, several sequences side by side.

    ``draws`` are (R, n, 1, U).
    """
    rows, n_steps = draws.shape[:2]
    player = _player(model, heard, rows)
    parts = []
    for first in range(0, max(1, n_steps), kernels.BLOCK_STEPS):  # once, though nothing is to play
        part = draws[:, first : first + kernels.BLOCK_STEPS, 0]
        parts.append(player.play(np.ascontiguousarray(part), temperature))
        watch(first + part.shape[1])
        if (player.n_finite < first + part.shape[1]).all():
            break
    played = np.concatenate(parts, 1)
    return [sound[:n] for sound, n in zip(played, player.n_finite, strict=True)]


def _player(model: Model, heard: Heard, rows: int) -> kernels.Player:
    """The model's weights and what it remembers, packed for the compiled loop."""
    parameters, base, state = heard
    head, recurrent = model.head, model.recurrent
    n_inputs = recurrent.layers[0].input_size
    room = kernels.state_step(recurrent.hidden, n_inputs)
    layers = [
        kernels.pack_layer(
            recurrent.cell,
            *(getattr(layer, f"{name}_l0").detach().numpy() for name in WEIGHTS),
            rows,
            room,
        )
        for layer in recurrent.layers
    ]
    packed, bias = kernels.pack_head(
        head.linear.weight.detach().numpy(), head.linear.bias.detach().numpy(), rows
    )
    kinds = {ValueHead: kernels.VALUE, MixtureHead: kernels.MIXTURE, CodeHead: kernels.CODES}
    embedding = model.embedding.weight.detach().numpy() if model.n_codes else np.zeros((0, 0))
    sampler = kernels.Sampler(
        cell=CELLS[recurrent.cell].number,
        n_gates=CELLS[recurrent.cell].n_rows,
        n_hidden=recurrent.hidden,
        n_inputs=n_inputs,
        state_step=room,
        head=packed,
        head_bias=bias,
        head_step=len(bias),
        head_kind=kinds[type(head)],
        n_outputs=head.linear.out_features,
        scale=float(head.scale[0]) if isinstance(head, ValueHead) else 1.0,
        log_floor=math.log(SCALE_FLOOR),
        prediction=model.prediction.flip(0).numpy(),
        unit=float(model.residual_scale),
        lowest=float(model.bounds[0]),
        highest=float(model.bounds[1]),
        embedding=embedding.astype(np.float32),
    )
    parts = state.recurrent.numpy()  # (L, S, 1, H)
    states = [(part[0], part[1] if len(part) > 1 else None) for part in parts]
    return kernels.Player(
        sampler,
        layers,
        np.repeat(parameters[0].numpy(), rows, 0),
        np.zeros(rows) if base is None else np.repeat(base[0, 0].numpy(), rows),
        np.repeat(state.past.numpy(), rows, 0),
        states,
    )
