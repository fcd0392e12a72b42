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

from noizenet.learner.heads import ValueHead
from noizenet.learner.model import Model, State

HEAD_BLOCK_NUMBERS = 1 << 17  # outputs of the head at work at once


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
    weights: Tensor | None = None,
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
    weights : (B, T) of each step's loss, summing to 1; by default all are the same
    """
    n_steps = inputs.shape[1]
    if weights is None:
        weights = state.recurrent.new_tensor(1 / (inputs.shape[0] * n_steps))
        weights = weights.expand(inputs.shape[:2])
    starts = range(0, n_steps, chunk_steps)
    parts = [(start, min(start + chunk_steps, n_steps)) for start in starts]
    boundaries = [state.detached()]
    with torch.no_grad():
        for index, (start, stop) in enumerate(parts[:-1]):
            masks = chunk_masks(model, mask_seed, index)
            _, _, after = model.hear(inputs[:, start:stop], boundaries[-1], masks)
            boundaries.append(after)
            between()

    total, last = 0.0, None
    gradient = torch.zeros_like(state.recurrent)
    errors = []
    for index in reversed(range(len(parts))):
        start, stop = parts[index]
        before = boundaries.pop()
        first = before.recurrent.detach().requires_grad_()
        masks = chunk_masks(model, mask_seed, index)
        hidden, base, after = model.hear(inputs[:, start:stop], State(before.past, first), masks)
        last = after.detached() if last is None else last
        part = weights[:, start:stop]
        loss, dhidden = _through_head(model, hidden, base, targets[:, start:stop], part, errors)
        torch.autograd.backward((hidden, after.recurrent), (dhidden, gradient))
        gradient = first.grad
        total += loss
        between()
    if errors and observe_weight:
        model.head.observe(sum(errors), observe_weight)
    return Pass(total, last)


def _through_head(
    model: Model,
    hidden: Tensor,
    base: Tensor | None,
    targets: Tensor,
    weights: Tensor,
    errors: list[Tensor],
) -> tuple[float, Tensor]:
    """A chunk's part of the mean loss, and its gradient by ``hidden``.

    The head works step by step, so block after block of steps gives the same in less memory, and
    faster: a mixture's intermediate values stay in the cache. A value head's weighted absolute
    errors of each block are added to ``errors``.
    """
    size = max(1, HEAD_BLOCK_NUMBERS // (hidden.shape[0] * model.head.linear.out_features))
    total, gradients = 0.0, []
    for start in range(0, hidden.shape[1], size):
        block = slice(start, start + size)
        part = hidden[:, block].detach().requires_grad_()
        wanted = model.residual(targets[:, block], None if base is None else base[:, block])
        parameters = model.head(part)
        loss = (model.head.loss(parameters, wanted) * weights[:, block]).sum()
        loss.backward()
        gradients.append(part.grad)
        total += loss.item()
        if isinstance(model.head, ValueHead):
            error = (parameters.detach() - wanted).abs()
            errors.append((error * weights[:, block, None]).sum((0, 1)))
    return total, torch.cat(gradients, 1)
