"""A model's parameters as one contiguous buffer, with a digest.

Order and names are those of `named_parameters()`; buffers of the module are not part of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

_BLOCK = 1 << 16  # scalars at a time, where the whole would be a second model


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors in a flat buffer, in order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """The layout of a module's distinct parameters (tied tensors appear once)."""
        named = list(model.named_parameters())
        return cls(tuple(n for n, _ in named), tuple(tuple(p.shape) for _, p in named))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each tensor lies in the flat buffer."""
        out, start = [], 0
        for shape in self.shapes:
            out.append(slice(start, start + prod(shape)))
            start += prod(shape)
        return tuple(out)

    @property
    def size(self) -> int:
        """Number of scalars."""
        return self.slices[-1].stop if self.slices else 0


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The l2 norm of a - b, in float64, without copies of the whole."""
    total, room = 0.0, np.empty(_BLOCK)
    for start in range(0, len(a), _BLOCK):
        part = room[: len(a) - start]
        np.subtract(a[start : start + _BLOCK], b[start : start + _BLOCK], out=part, dtype=float)
        # Not `part @ part`: the threads of a BLAS wait for each other where the cores are busy.
        total += float(np.square(part, out=part).sum())
    return math.sqrt(total)


class Parameters:
    """Named arrays over one flat buffer; the views share its memory."""

    def __init__(self, layout: Layout, flat: np.ndarray) -> None:
        if flat.shape != (layout.size,):
            raise ValueError(f"flat buffer has shape {flat.shape}, layout needs ({layout.size},)")
        self.layout = layout
        self.flat = flat

    @classmethod
    def zeros(cls, layout: Layout) -> Parameters:
        """All zeros, float32."""
        return cls(layout, np.zeros(layout.size, np.float32))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Parameters:
        """A float32 copy of named arrays, in their order."""
        layout = Layout(tuple(arrays), tuple(a.shape for a in arrays.values()))
        out = cls.zeros(layout)
        for part, array in zip(layout.slices, arrays.values(), strict=True):
            out.flat[part] = array.ravel()
        return out

    @classmethod
    def from_model(cls, model: nn.Module) -> Parameters:
        """A float32 copy of a module's parameters."""
        return cls.from_arrays({n: p.detach().cpu().numpy() for n, p in model.named_parameters()})

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, view) pairs."""
        for name, shape, part in zip(
            self.layout.names, self.layout.shapes, self.layout.slices, strict=True
        ):
            yield name, self.flat[part].reshape(shape)

    def load_into(self, model: nn.Module) -> None:
        """Copy the values into a module with the same layout."""
        import torch

        if Layout.of(model) != self.layout:
            raise ValueError("the model's parameters have other names or shapes")
        with torch.no_grad():
            for parameter, (_, array) in zip(model.parameters(), self.items(), strict=True):
                parameter.copy_(torch.from_numpy(np.asarray(array, np.float32, order="C")))

    def copy(self) -> Parameters:
        """An independent copy."""
        return Parameters(self.layout, self.flat.copy())

    def digest(self) -> str:
        """SHA-256 over names, shapes and the float32 bytes: equal digests mean equal models."""
        h = hashlib.sha256(repr((self.layout.names, self.layout.shapes)).encode())
        h.update(np.ascontiguousarray(self.flat, "<f4").tobytes())
        return h.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of the float32 model on the wire."""
        return 4 * self.layout.size


def share_kept(decay: float, step: int) -> float:
    """Of a running average, at a step counted from 0: a plain mean over the first steps,
    exponential once the mean's own weight reaches the decay."""
    return min(decay, step / (step + 1))
