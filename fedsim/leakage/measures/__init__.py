"""One file for each leakage measure; importing this room registers them all."""

from fedsim.leakage.base import MEASURES

__all__ = ["MEASURES"]
