"""The hot path in plain PyTorch: packed recurrences and linear + cross-entropy with own backward.

Why by hand: autograd of a Python time loop spends most of its time on small tensors. Here the
input product is one GEMM before the loop, every weight gradient is one GEMM after it, and the
loop itself works in place on a few buffers. Each function is tested against autograd of the
model's `forward`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from fedsim.models.batch import previous_rows

# Rows of logits are made and used in blocks of this many bytes: small enough for a CPU's cache,
# large enough to fill a GPU. It bounds the memory of a batch, whatever its size.
_BLOCK_BYTES = {"cpu": 8 << 20}
_BLOCK_BYTES_ELSEWHERE = 256 << 20


class _PackedCifg(Function):
    """See `packed_cifg`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        batch_sizes: list[int],
        w_input: Tensor,
        bias: Tensor,
        w_recurrent: Tensor,
        w_project: Tensor,
    ) -> Tensor:
        n_units = w_project.shape[1]
        gates = torch.addmm(bias, x, w_input.t())
        cell = gates.new_empty(len(x), n_units)
        tanh_cell, inner = torch.empty_like(cell), torch.empty_like(cell)
        out = gates.new_empty(len(x), w_project.shape[0])
        recurrent_t, project_t = w_recurrent.t(), w_project.t()
        # Views of every time step, made at once: slicing inside the loop would cost as much as
        # its arithmetic.
        views = (gates, gates[:, : 2 * n_units], *gates.split(n_units, 1), cell, tanh_cell, inner)
        before_c = before_r = None
        for gate, of, o, f, z, c, tanh_c, h, r in zip(
            *(v.split(batch_sizes) for v in (*views, out)), strict=True
        ):
            if before_r is not None:
                gate.addmm_(before_r[: len(r)], recurrent_t)
            of.sigmoid_()
            z.tanh_()
            if before_c is None:
                torch.addcmul(z, f, z, value=-1, out=c)
            else:
                torch.lerp(z, before_c[: len(c)], f, out=c)
            torch.tanh(c, out=tanh_c)
            torch.mul(o, tanh_c, out=h)
            torch.mm(h, project_t, out=r)
            before_c, before_r = c, r
        ctx.save_for_backward(x, w_input, w_recurrent, w_project, out)
        ctx.batch_sizes, ctx.work = batch_sizes, (gates, cell, tanh_cell, inner)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, w_input, w_recurrent, w_project, out = ctx.saved_tensors
        gates, cell, tanh_cell, inner = ctx.work
        ctx.work = None  # overwritten below: a second backward must fail, not lie
        sizes, n_units = ctx.batch_sizes, cell.shape[1]
        keep = _cifg_slopes(gates, cell, tanh_cell, sizes)

        d_out = grad_out.clone(memory_format=torch.contiguous_format)
        d_cell = cell.new_zeros(sizes[0], n_units)
        d_hidden = torch.empty_like(d_cell)
        views = (gates, gates[:, :n_units], gates[:, n_units:].unflatten(1, (2, n_units)))
        steps = list(zip(*(v.split(sizes) for v in (*views, tanh_cell, keep, d_out)), strict=True))
        for t in range(len(sizes) - 1, -1, -1):
            gate, o, fz, slope, f, d_r = steps[t]
            d_h = torch.mm(d_r, w_project, out=d_hidden[: len(d_r)])
            d_c = d_cell[: len(d_r)].addcmul_(d_h, slope)
            o.mul_(d_h)
            fz.mul_(d_c.unsqueeze(1))
            if t:
                d_c.mul_(f)
                steps[t - 1][-1][: len(d_r)].addmm_(gate, w_recurrent)

        gates_t = gates.t()
        d_recurrent = gates_t[:, sizes[0] :] @ previous_rows(out, sizes)
        return gates @ w_input, None, gates_t @ x, gates.sum(0), d_recurrent, d_out.t() @ inner


def _cifg_slopes(gates: Tensor, cell: Tensor, tanh_cell: Tensor, sizes: list[int]) -> Tensor:
    """Turn gates and tanh(cell), in place, into the factors of the backward loop; return f.

    o becomes d h/d (o's input); f and z become d c/d (their inputs); tanh_cell d h/d c.
    """
    o, f, z = gates.split(cell.shape[1], 1)
    keep = f.clone()
    change = z.neg()  # the cell before this step, zero at first, minus z
    change[sizes[0] :] += previous_rows(cell, sizes)
    z.square_().neg_().add_(1.0).mul_(1.0 - keep)
    f.addcmul_(f, f, value=-1).mul_(change)
    _output_slopes(o, tanh_cell)
    return keep


def _output_slopes(o: Tensor, tanh_cell: Tensor) -> None:
    """In place, for h = o tanh c: o becomes d h/d (o's input), tanh_cell d h/d c."""
    slope = torch.addcmul(o, o, tanh_cell.square(), value=-1)
    o.addcmul_(o, o, value=-1).mul_(tanh_cell)
    tanh_cell.copy_(slope)


def packed_cifg(
    x: Tensor,
    batch_sizes: list[int],
    w_input: Tensor,
    bias: Tensor,
    w_recurrent: Tensor,
    w_project: Tensor,
) -> Tensor:
    """Coupled input-forget LSTM with recurrent projection over packed rows, from a zero state.

    x (N, E), w_input (3H, E), bias (3H,), w_recurrent (3H, P), w_project (P, H) -> (N, P).
    Gates in the order output, forget, candidate: c = f * c + (1 - f) * z, r = W (o * tanh c).
    """
    return _PackedCifg.apply(x, batch_sizes, w_input, bias, w_recurrent, w_project)


class _PackedLstm(Function):
    """See `packed_lstm`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        batch_sizes: list[int],
        w_input: Tensor,
        bias: Tensor,
        w_recurrent: Tensor,
    ) -> Tensor:
        n_units = w_recurrent.shape[1]
        gates = torch.addmm(bias, x, w_input.t())
        cell = gates.new_empty(len(x), n_units)
        tanh_cell, out = torch.empty_like(cell), torch.empty_like(cell)
        recurrent_t = w_recurrent.t()
        views = (gates, gates[:, : 3 * n_units], *gates.split(n_units, 1), cell, tanh_cell, out)
        before_c = before_h = None
        for gate, oif, o, i, f, z, c, tanh_c, h in zip(
            *(v.split(batch_sizes) for v in views), strict=True
        ):
            if before_h is not None:
                gate.addmm_(before_h[: len(h)], recurrent_t)
            oif.sigmoid_()
            z.tanh_()
            torch.mul(i, z, out=c)
            if before_c is not None:
                c.addcmul_(f, before_c[: len(c)])
            torch.tanh(c, out=tanh_c)
            torch.mul(o, tanh_c, out=h)
            before_c, before_h = c, h
        ctx.save_for_backward(x, w_input, w_recurrent, out)
        ctx.batch_sizes, ctx.work = batch_sizes, (gates, cell, tanh_cell)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, w_input, w_recurrent, out = ctx.saved_tensors
        gates, cell, tanh_cell = ctx.work
        ctx.work = None  # overwritten below: a second backward must fail, not lie
        sizes, n_units = ctx.batch_sizes, cell.shape[1]
        keep = _lstm_slopes(gates, cell, tanh_cell, sizes)

        d_out = grad_out.clone(memory_format=torch.contiguous_format)
        d_cell = cell.new_zeros(sizes[0], n_units)
        views = (gates, gates[:, :n_units], gates[:, n_units:].unflatten(1, (3, n_units)))
        steps = list(zip(*(v.split(sizes) for v in (*views, tanh_cell, keep, d_out)), strict=True))
        for t in range(len(sizes) - 1, -1, -1):
            gate, o, ifz, slope, f, d_h = steps[t]
            d_c = d_cell[: len(d_h)].addcmul_(d_h, slope)
            o.mul_(d_h)
            ifz.mul_(d_c.unsqueeze(1))
            if t:
                d_c.mul_(f)
                steps[t - 1][-1][: len(d_h)].addmm_(gate, w_recurrent)

        gates_t = gates.t()
        d_recurrent = gates_t[:, sizes[0] :] @ previous_rows(out, sizes)
        return gates @ w_input, None, gates_t @ x, gates.sum(0), d_recurrent


def _lstm_slopes(gates: Tensor, cell: Tensor, tanh_cell: Tensor, sizes: list[int]) -> Tensor:
    """As `_cifg_slopes`, for the gates output, input, forget, candidate."""
    o, i, f, z = gates.split(cell.shape[1], 1)
    keep = f.clone()
    f.addcmul_(f, f, value=-1)
    f[sizes[0] :] *= previous_rows(cell, sizes)
    f[: sizes[0]] = 0.0  # no cell before the first step
    slope_z = i * (1.0 - z.square())
    i.addcmul_(i, i, value=-1).mul_(z)
    z.copy_(slope_z)
    _output_slopes(o, tanh_cell)
    return keep


def packed_lstm(
    x: Tensor, batch_sizes: list[int], w_input: Tensor, bias: Tensor, w_recurrent: Tensor
) -> Tensor:
    """LSTM over packed rows, from a zero state.

    x (N, E), w_input (4H, E), bias (4H,), w_recurrent (4H, H) -> (N, H). Gates in the order
    output, input, forget, candidate: c = f * c + i * z, h = o * tanh c.
    """
    return _PackedLstm.apply(x, batch_sizes, w_input, bias, w_recurrent)


class _FusedCrossEntropy(Function):
    """See `fused_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        row_weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        nats = hidden.new_empty(len(hidden))
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        for part in _blocks(hidden, weight):
            rows, target, scale = hidden[part], targets[part], row_weights[part]
            probabilities, nats[part] = _softmax(rows, weight, bias, target)
            d_logits = probabilities.mul_(scale[:, None])
            d_logits.scatter_add_(1, target[:, None], -scale[:, None])
            torch.mm(d_logits, weight, out=d_hidden[part])
            d_weight.addmm_(d_logits.t(), rows)
            if d_bias is not None:
                d_bias += d_logits.sum(0)
        ctx.gradients = d_hidden, d_weight, d_bias
        ctx.mark_non_differentiable(nats)
        return nats @ row_weights, nats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.gradients
        ctx.gradients = None  # scaled in place: a second backward must fail, not lie
        d_bias = None if d_bias is None else d_bias.mul_(grad_loss)
        return d_hidden.mul_(grad_loss), d_weight.mul_(grad_loss), d_bias, None, None


def _blocks(hidden: Tensor, weight: Tensor) -> list[slice]:
    """Row ranges whose logits fit a block."""
    n_bytes = _BLOCK_BYTES.get(hidden.device.type, _BLOCK_BYTES_ELSEWHERE)
    n_rows = max(16, n_bytes // (len(weight) * weight.element_size()))
    return [slice(i, i + n_rows) for i in range(0, len(hidden), n_rows)]


def _softmax(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """(n, V) next-token probabilities and (n,) nats of the targets."""
    logits = torch.nn.functional.linear(hidden, weight, bias)
    target_logits, largest = logits.gather(1, targets[:, None])[:, 0], logits.amax(1)
    probabilities = torch.softmax(logits, 1, out=logits)
    # The largest probability is at least 1/V, so its logarithm is exact where the target's own
    # could have underflowed.
    return probabilities, largest - probabilities.amax(1).log() - target_logits


def fused_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, row_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Linear layer and cross-entropy in one: (loss, nats).

    hidden (N, E), weight (V, E), bias (V,) or None, targets (N,) int64, row_weights (N,) fixed.
    nats (N,) = -ln softmax(hidden weight' + bias)[target], detached; loss = sum(row_weights nats).
    Logits exist for a block of rows at a time and are overwritten by their gradient, so the
    memory does not grow with N * V.
    """
    if torch.is_grad_enabled():
        return _FusedCrossEntropy.apply(hidden, weight, bias, targets, row_weights)
    nats = hidden.new_empty(len(hidden))
    for part in _blocks(hidden, weight):
        nats[part] = _softmax(hidden[part], weight, bias, targets[part])[1]
    return nats @ row_weights, nats
