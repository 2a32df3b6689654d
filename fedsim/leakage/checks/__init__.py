"""One file for each family of self-checks; importing this room registers them all."""

from fedsim.leakage.checks import compression
from fedsim.leakage.selfcheck import CHECKS

__all__ = ["CHECKS", "compression"]
