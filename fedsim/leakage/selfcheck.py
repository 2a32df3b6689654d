"""The laboratory against known truth: every measure where theory says what it must find.

`docs/leakage.md` lists the truths. A check draws from its own streams, so it gives the same figure
at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedsim.registry import Registry


@dataclass(frozen=True)
class Check:
    """What was found, and the range that it has to be in; `truth` says why, in words."""

    truth: str
    found: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.low <= self.found <= self.high


# Name -> the checks of one known truth. A new one is a function in `fedsim/leakage/checks`.
CHECKS: Registry[Callable[[], list[Check]]] = Registry("self-check")
