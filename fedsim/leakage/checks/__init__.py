"""One file for each family of self-checks; importing this room registers them all."""

import fedsim.leakage.checks.text_extraction  # noqa: F401
from fedsim.leakage.selfcheck import CHECKS

__all__ = ["CHECKS"]
