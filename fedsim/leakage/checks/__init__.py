"""One file for each family of self-checks; importing this room registers them all."""

from fedsim.leakage.checks import (
    auditing,
    canaries,
    compression,
    mechanism,
    membership,
    shadows,
    text_extraction,
    updates,
)
from fedsim.leakage.selfcheck import CHECKS

__all__ = [
    "CHECKS",
    "auditing",
    "canaries",
    "compression",
    "mechanism",
    "membership",
    "shadows",
    "text_extraction",
    "updates",
]
