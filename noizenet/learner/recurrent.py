"""A stack of RNN, LSTM or GRU layers with dropout, on torch's or on the compiled engine.

Shapes: B batch, T time, D inputs, H hidden units, L layers, S parts of a state (h, and the LSTM's
c). The state of the whole stack is one tensor ``(L, S, B, H)``, so that it can be carried from
chunk to chunk, differentiated and saved without knowing the cell.
"""

import numpy as np
import torch
from torch import Tensor, nn

from noizenet.kernels import recurrent as kernels

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
STATE_PARTS = {"lstm": 2, "gru": 1, "rnn": 1}
FORGET_BIAS = 1.0  # remembers by default (Jozefowicz et al. 2015)


class Recurrent(nn.Module):
    """``layers`` recurrent layers; each layer's output passes dropout.

    Parameters are torch's own, in torch's own order, whichever engine computes them.
    """

    def __init__(self, cell: str, n_inputs: int, hidden: int, layers: int, dropout: float):
        super().__init__()
        self.cell = cell
        self.hidden = hidden
        self.dropout = dropout
        self.layers = nn.ModuleList(
            LAYERS[cell](n_inputs if depth == 0 else hidden, hidden, batch_first=True)
            for depth in range(layers)
        )
        if cell == "lstm":
            for layer in self.layers:
                with torch.no_grad():
                    layer.bias_ih_l0[hidden : 2 * hidden].fill_(FORGET_BIAS)
                    layer.bias_hh_l0[hidden : 2 * hidden].zero_()

    def initial_state(self, batch: int) -> Tensor:
        """Silence: zeros, ``(L, S, B, H)``."""
        weight = self.layers[0].weight_hh_l0
        shape = (len(self.layers), STATE_PARTS[self.cell], batch, self.hidden)
        return torch.zeros(shape, dtype=weight.dtype, device=weight.device)

    def forward(
        self, inputs: Tensor, state: Tensor, engine: str, masks: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run ``(B, T, D)`` through the stack.

        Parameters
        ----------
        engine : {'numba', 'torch'}
        masks : torch.Generator, optional
            Draws the dropout masks; without it nothing is dropped. The same generator state gives
            the same masks, which is what recomputing a chunk needs.

        Returns
        -------
        outputs : (B, T, H)
        state : (L, S, B, H), after the last step
        """
        outputs, last = inputs, []
        for layer, before in zip(self.layers, state, strict=True):
            run = compiled_layer if engine == "numba" else torch_layer
            outputs, after = run(layer, self.cell, outputs, before)
            last.append(after)
            if masks is not None and self.dropout > 0:
                # empty_like would keep torch's (T, B, H) layout, and with it another order of draws
                keep = torch.empty_like(outputs, memory_format=torch.contiguous_format)
                keep.bernoulli_(1 - self.dropout, generator=masks)
                outputs = outputs * keep / (1 - self.dropout)
        return outputs, torch.stack(last)


def torch_layer(
    layer: nn.Module, cell: str, inputs: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One layer by torch (cuDNN on a GPU); state (S, B, H)."""
    if cell == "lstm":
        outputs, (h, c) = layer(inputs, (state[:1].contiguous(), state[1:].contiguous()))
        return outputs, torch.cat((h, c))
    return layer(inputs, state.contiguous())


def compiled_layer(
    layer: nn.Module, cell: str, inputs: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One layer by the Numba kernels; state (S, B, H)."""
    weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    return _CompiledLayer.apply(cell, torch.is_grad_enabled(), inputs, state, *weights)


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().contiguous().numpy()


class _CompiledLayer(torch.autograd.Function):
    """The kernels' exact forward and backward as one differentiable operation.

    Of a layer too large for the caches, the gates are kept for backward as well as the states; of
    others they are computed again, which is faster than to write and read them.
    """

    @staticmethod
    def forward(ctx, cell, keep, inputs, state, w_ih, w_hh, b_ih, b_hh):
        h0, c0 = state[0], state[1] if cell == "lstm" else None
        arrays = (_array(t) for t in (inputs, w_ih, w_hh, b_ih, b_hh, h0, c0))
        ctx.kept = {} if keep else None
        h, c = kernels.forward(cell, *arrays, n_threads=torch.get_num_threads(), kept=ctx.kept)
        h = torch.from_numpy(h)
        c = None if c is None else torch.from_numpy(c)
        ctx.cell = cell
        ctx.save_for_backward(inputs, w_ih, w_hh, b_ih, b_hh, h0, c0, h, c)
        last = h[None, :, -1] if c is None else torch.stack((h[:, -1], c[:, -1]))
        return h, last.clone()

    @staticmethod
    def backward(ctx, dh, dlast):
        inputs, w_ih, w_hh, b_ih, b_hh, h0, c0, h, c = ctx.saved_tensors
        dc_last = dlast[1] if ctx.cell == "lstm" else None
        dx, dw_ih, dw_hh, db_ih, db_hh, dh0, dc0 = kernels.backward(
            ctx.cell,
            *(_array(t) for t in (inputs, w_ih, w_hh, b_ih, b_hh, h0, c0, h, c)),
            _array(dh),
            _array(dlast[0]),
            _array(dc_last),
            ctx.needs_input_grad[2],
            n_threads=torch.get_num_threads(),
            kept=ctx.kept,
        )
        dstate = np.stack((dh0,) if dc0 is None else (dh0, dc0))
        gradients = (dx, dstate, dw_ih, dw_hh, db_ih, db_hh)
        return None, None, *(None if g is None else torch.from_numpy(g) for g in gradients)
