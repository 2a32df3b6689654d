"""Smaller copies of a finished model, as a phone would get them; importing this registers all."""

from fedsim.compression import distilled, int8, pruned
from fedsim.compression.base import COPIES, Compressed, Copy, Original

__all__ = ["COPIES", "Compressed", "Copy", "Original", "distilled", "int8", "pruned"]
