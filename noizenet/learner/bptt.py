"""The exact gradient of a whole sequence, in chunks.

Backpropagation through time needs every hidden state of a song. Kept all at once that may be
gigabytes; kept only at chunk boundaries it is next to nothing. So: run forward once, keeping the
state at each boundary, and the history of as many chunks, the last ones, as there is memory for;
then from the last chunk to the first push the gradient through it, handing the gradient of its
first state on to the chunk before. A chunk whose history was not kept is run again for it (Chen
et al. 2016). Dropout draws the same masks both times.

Chunks are short however much fits: what belongs to the walk back through one of them, the
gradient of its outputs above all, is then small and written to the same memory again and again,
and a song costs the same a step whatever its length.

The gradient is that of the whole sequence: nothing is cut. Truncated training is another thing
(windows), and detaches the state on purpose.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from noizenet.learner.guide import Guide
from noizenet.learner.heads import ValueHead
from noizenet.learner.model import Axis, Model, State

HEAD_BLOCK_NUMBERS = 1 << 17  # outputs of the head at work at once
CHUNK_STEPS = 1 << 14  # at most; the weights are packed once for each chunk


@dataclass(frozen=True)
class Pass:
    """What one sequence, or one part of it, gave."""

    loss: float  # mean over its steps
    state: State  # after the last step, detached


class _Heard(NamedTuple):
    """A chunk with its history."""

    first: Tensor  # the recurrent state before it
    hidden: Tensor
    axis: Axis | None
    after: State


def chunks_run_again(n_steps: int, kept_steps: int) -> int:
    """How many chunks, the first ones, are run a second time when so many steps are kept."""
    return max(0, -(-(n_steps - kept_steps) // min(kept_steps, CHUNK_STEPS)))


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
    kept_steps: int,
    mask_seed: int,
    observe_weight: float = 0.0,
    between: Callable[[], None] = lambda: None,
    weights: Tensor | None = None,
    guide: Guide | None = None,
) -> Pass:
    """Add the gradient of the mean loss over ``inputs`` -> ``targets`` to the parameters.

    Parameters
    ----------
    inputs, targets : (B, T, D) or (B, T)
    state : where the sequence begins; no gradient flows further back
    kept_steps : steps whose history is kept at once
    mask_seed : fixes the dropout masks
    observe_weight : how far a value head's scale moves towards the error seen
    between : called after each chunk; may raise to abandon the pass
    weights : (B, T) of each step's loss, summing to 1; by default all are the same
    guide : what the sequence follows; its blocks begin where chunks do
    """
    n_steps = inputs.shape[1]
    if weights is None:
        weights = state.recurrent.new_tensor(1 / (inputs.shape[0] * n_steps))
        weights = weights.expand(inputs.shape[:2])
    if guide is not None:
        kept_steps = max(guide.hop, kept_steps - kept_steps % guide.hop)
    chunk_steps = min(kept_steps, CHUNK_STEPS)
    starts = range(0, n_steps, chunk_steps)
    parts = [(start, min(start + chunk_steps, n_steps)) for start in starts]

    def hear(index: int, before: State) -> tuple[Tensor, Axis | None, State]:
        start, stop = parts[index]
        masks = chunk_masks(model, mask_seed, index)
        followed = None if guide is None else guide.part(start, stop)
        return model.hear(inputs[:, start:stop], before, masks, followed)

    def run(index: int, before: State) -> _Heard:
        """A chunk with its history."""
        first = before.recurrent.detach().requires_grad_()
        return _Heard(first, *hear(index, before._replace(recurrent=first)))

    n_again = chunks_run_again(n_steps, kept_steps)
    before, boundaries, kept = state.detached(), [], []
    for index in range(len(parts)):
        if index >= n_again:
            kept.append(run(index, before))
            before = kept[-1].after.detached()
        else:
            boundaries.append(before)
            with torch.no_grad():
                before = hear(index, before)[2]
        between()

    total, last = 0.0, before
    gradient = torch.zeros_like(state.recurrent)
    errors = []
    for index, (start, stop) in reversed(list(enumerate(parts))):
        heard = kept.pop() if kept else run(index, boundaries.pop())
        loss, dhidden = _through_head(
            model, heard.hidden, heard.axis, targets[:, start:stop], weights[:, start:stop], errors
        )
        torch.autograd.backward((heard.hidden, heard.after.recurrent), (dhidden, gradient))
        gradient = heard.first.grad
        del heard  # or it would lie in memory beside the one before it
        total += loss
        between()
    if errors and observe_weight:
        model.head.observe(sum(errors), observe_weight)
    return Pass(total, last)


def _through_head(
    model: Model,
    hidden: Tensor,
    axis: Axis | None,
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
    total, gradient = 0.0, torch.empty_like(hidden)
    for start in range(0, hidden.shape[1], size):
        block = slice(start, start + size)
        part = hidden[:, block].detach().requires_grad_()
        wanted = model.residual(targets[:, block], None if axis is None else axis.part(block))
        parameters = model.head(part)
        loss = (model.head.loss(parameters, wanted) * weights[:, block]).sum()
        loss.backward()
        gradient[:, block] = part.grad
        total += loss.item()
        if isinstance(model.head, ValueHead):
            error = (parameters.detach() - wanted).abs()
            errors.append((error * weights[:, block, None]).sum((0, 1)))
    return total, gradient
