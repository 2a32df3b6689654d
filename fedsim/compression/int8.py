"""Post-training quantization to 8 bits: symmetric, one scale a row (Jacob et al. 2018)."""

from __future__ import annotations

import numpy as np

from fedsim.compression.base import COPIES, Compressed, Copy, Original

LEVELS = 127  # of either sign
_SPARE = np.uint32(0x7F)  # the last 7 bits of a float32


@COPIES.register("int8")
class Int8(Copy):
    """Each row of a matrix as whole numbers from -127 to 127 times the row's scale."""

    def make(self, original: Original) -> Compressed:
        """See `Copy.make`; the copy's values are the stored ones, multiplied out."""
        values = original.parameters()
        size = 0
        for _, array in values.items():
            if array.ndim == 2:
                codes, scales = quantized(array)
                array[:] = dequantized(codes, scales)
                size += codes.nbytes + scales.nbytes
            else:
                size += array.nbytes
        return Compressed(original.with_parameters(values), size)


def quantized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(codes, scales): int8 like the matrix, float32 (rows,); no value moves by more than about
    half a scale.

    A scale has 17 significant bits, rounded up: a code has 7, so their product is exact in
    float32, and what is quantized already is not changed by being quantized again.
    """
    exact = (np.abs(matrix).max(axis=1) / LEVELS).astype(np.float32)
    scales = ((exact.view(np.uint32) + _SPARE) & ~_SPARE).view(np.float32)
    divisor = np.where(scales > 0, scales, 1.0).astype(np.float64)
    return np.rint(matrix / divisor[:, None]).astype(np.int8), scales


def dequantized(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The float32 values that are computed with."""
    return codes.astype(np.float32) * scales[:, None]
