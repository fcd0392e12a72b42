"""The exact gradient of a whole sequence, in chunks.

Backpropagation through time needs every hidden state of a song. Kept all at once that is
gigabytes; kept only at chunk boundaries it is next to nothing. So: run forward once, keeping the
state at each boundary; then from the last chunk to the first run the chunk again with its
history kept and push the gradient through it, handing the gradient of its first state on to the
chunk before (Chen et al. 2016). Dropout draws the same masks both times.

The gradient is that of the whole sequence: nothing is cut. Truncated training is another thing
(windows), and detaches the state on purpose.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noizenet.learner.model import Model, State


@dataclass(frozen=True)
class Pass:
    """What one sequence, or one part of it, gave."""

    loss: float  # mean over its steps
    state: State  # after the last step, detached


def chunk_masks(model: Model, seed: int, index: int) -> torch.Generator | None:
    """The generator of a chunk's dropout masks, the same whenever it is asked for."""
    if not model.recurrent.dropout:
        return None
    generator = torch.Generator(device=model.residual_scale.device)
    return generator.manual_seed((seed * 1_000_003 + index) % (1 << 63))


def backpropagate(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    state: State,
    chunk_steps: int,
    mask_seed: int,
    observe_weight: float = 0.0,
    between: Callable[[], None] = lambda: None,
) -> Pass:
    """Add the gradient of the mean loss over ``inputs`` -> ``targets`` to the parameters.

    Parameters
    ----------
    inputs, targets : (B, T, D) or (B, T)
    state : where the sequence begins; no gradient flows further back
    chunk_steps : steps whose history is kept at once
    mask_seed : fixes the dropout masks
    observe_weight : how far a value head's scale moves towards the error seen
    between : called after each chunk; may raise to abandon the pass
    """
    n_steps = inputs.shape[1]
    starts = range(0, n_steps, chunk_steps)
    parts = [(start, min(start + chunk_steps, n_steps)) for start in starts]
    boundaries = [state.detached()]
    with torch.no_grad():
        for index, (start, stop) in enumerate(parts[:-1]):
            masks = chunk_masks(model, mask_seed, index)
            _, _, after = model(inputs[:, start:stop], boundaries[-1], masks)
            boundaries.append(after)
            between()

    total, last, gradient = 0.0, None, None
    weight = 1 - observe_weight  # of what the head knows: its past and the chunks done
    for index in reversed(range(len(parts))):
        start, stop = parts[index]
        before = boundaries.pop()
        first = before.recurrent.detach().requires_grad_()
        masks = chunk_masks(model, mask_seed, index)
        parameters, base, after = model(inputs[:, start:stop], State(before.past, first), masks)
        wanted = targets[:, start:stop]
        loss = model.loss(parameters, base, wanted).sum() / (n_steps * inputs.shape[0])
        if gradient is None:
            last = after.detached()
            loss.backward()
        else:
            torch.autograd.backward((loss, after.recurrent), (torch.ones_like(loss), gradient))
        gradient = first.grad
        if observe_weight:
            # a running mean, so that the chunks together weigh what one pass would
            share = observe_weight * (stop - start) / n_steps
            weight += share
            model.observe(parameters.detach(), base, wanted, share / weight)
        total += loss.item()
        between()
    return Pass(total, last)
