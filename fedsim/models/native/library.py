"""The native kernel's functions over NumPy-like memory: pointers in, numbers out."""

from __future__ import annotations

import ctypes
import weakref
from ctypes import POINTER, Structure, byref, c_double, c_float, c_int64, c_uint64, c_void_p
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fedsim.models.batch import Batch
from fedsim.models.loss import NOMINAL_TOKENS
from fedsim.models.native import LSTM
from fedsim.models.native.build import library
from fedsim.noise import PrivateStep


class _Batch(Structure):
    _fields_ = (
        *((name, c_int64) for name in ("rows", "steps", "sequences")),
        *((name, c_void_p) for name in ("inputs", "targets", "sizes", "sequence")),
        *((name, c_void_p) for name in ("input_mask", "hidden_mask")),
    )


_BATCH = POINTER(_Batch)
_SIGNATURES = {
    "trainer_new": (c_void_p, [c_int64] * 4),
    "trainer_size": (c_int64, [c_void_p]),
    "trainer_free": (None, [c_void_p]),
    "trainer_gradient": (c_double, [c_void_p, c_void_p, _BATCH, c_float, c_void_p]),
    "trainer_step": (
        c_double,
        [c_void_p, c_void_p, _BATCH, c_float, c_float, c_float, c_float, c_void_p],
    ),
    "trainer_private_step": (
        c_double,
        [c_void_p, c_void_p, _BATCH, *[c_float] * 4, c_uint64, c_uint64, c_uint64, c_void_p],
    ),
    "l2_norm": (c_double, [c_void_p, c_int64]),
    "add_scaled": (None, [c_void_p, c_void_p, c_int64, c_double]),
}


@lru_cache(maxsize=1)
def functions() -> ctypes.CDLL:
    """The kernel with its signatures. Raises `build.Unavailable`."""
    loaded = library()
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


class Trainer:
    """Steps of one model's parameters, float32 in one run of memory on the CPU.

    `masks` are the dropout masks of the embeddings and of what the recurrence gives, (rows, width)
    each of `mask_widths`, or None. Not for two threads at a time.
    """

    def __init__(self, kind: int, words: int, width: int, units: int) -> None:
        self._c = functions()
        self._handle = self._c.trainer_new(kind, words, width, units)
        weakref.finalize(self, self._c.trainer_free, self._handle)
        self._words = words
        self.size: int = self._c.trainer_size(self._handle)
        self.mask_widths = width, units if kind == LSTM else width

    def gradient(
        self,
        values: Tensor,
        batch: Batch,
        masks: tuple[Tensor, Tensor] | None,
        weight: float,
        total: Tensor,
    ) -> float:
        """Add `weight` x the gradient of the batch's mean loss to `total`; the summed nats."""
        view = self._view(batch, masks)
        return self._c.trainer_gradient(
            self._handle, values.data_ptr(), view.pointer, weight * _mean(batch), total.data_ptr()
        )

    def step(
        self,
        values: Tensor,
        batch: Batch,
        masks: tuple[Tensor, Tensor] | None,
        lr: float,
        max_grad_norm: float,
        proximal_mu: float,
        start: Tensor,
    ) -> float:
        """One step of SGD in place; the batch's summed nats."""
        view = self._view(batch, masks)
        return self._c.trainer_step(
            self._handle,
            values.data_ptr(),
            view.pointer,
            _mean(batch),
            lr,
            max_grad_norm,
            proximal_mu,
            start.data_ptr(),
        )

    def private_step(
        self,
        values: Tensor,
        batch: Batch,
        masks: tuple[Tensor, Tensor] | None,
        how: PrivateStep,
    ) -> tuple[float, Tensor]:
        """One step of DP-SGD in place; nats, norms before clipping (sequences,)."""
        view, norms = self._view(batch, masks), torch.empty(batch.n_sequences)
        nats = self._c.trainer_private_step(
            self._handle,
            values.data_ptr(),
            view.pointer,
            1.0 / NOMINAL_TOKENS,
            how.clip_norm,
            how.lr,
            how.deviation,
            *how.key,
            how.step,
            norms.data_ptr(),
        )
        return nats, norms

    def _view(self, batch: Batch, masks: tuple[Tensor, Tensor] | None) -> _View:
        """Raises IndexError for a word that the model does not have: C would not notice."""
        for ids in (batch.inputs, batch.targets) if len(batch) else ():
            low, high = ids.aminmax()
            if low < 0 or high >= self._words:
                raise IndexError(f"word ids {low} to {high}, but the model has {self._words} words")
        return _View(batch, masks)


class _View:
    """A batch as C sees it; keeps alive what it points to."""

    def __init__(self, batch: Batch, masks: tuple[Tensor, Tensor] | None) -> None:
        sizes = np.array(batch.batch_sizes, np.int64)
        self._alive = (sizes, batch, masks)
        self._struct = _Batch(
            len(batch),
            batch.n_steps,
            batch.n_sequences,
            batch.inputs.data_ptr(),
            batch.targets.data_ptr(),
            sizes.ctypes.data,
            batch.sequence.data_ptr(),
            *((None, None) if masks is None else (mask.data_ptr() for mask in masks)),
        )
        self.pointer = byref(self._struct)


def _mean(batch: Batch) -> float:
    """A row's weight in the batch's mean loss, see `fedsim.models.loss`."""
    return 1.0 / (NOMINAL_TOKENS * batch.n_sequences)


def l2_norm(values: Tensor) -> float:
    """Of a float32 vector, in float64."""
    return functions().l2_norm(values.data_ptr(), values.numel())


def add_scaled(total: Tensor, values: Tensor, scale: float) -> None:
    """total (int64) += values (float32) x scale, rounded towards zero."""
    functions().add_scaled(total.data_ptr(), values.data_ptr(), values.numel(), scale)
