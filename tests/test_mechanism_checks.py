"""The self-checks of user-level DP: they hold, and a mechanism that is broken does not pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedsim.leakage.checks import CHECKS
from fedsim.privacy import contributions
from fedsim.privacy.base import Release
from fedsim.privacy.mechanisms.user_level import UserLevel
from fedsim.updates import Aggregate

NOISE, RELEASE, CLIP_FACTOR = UserLevel.noise, UserLevel.release, contributions.clip_factor


def failed(name: str) -> list[str]:
    """What does not hold."""
    return [check.truth for check in CHECKS[name]() if not check.passed]


@pytest.mark.parametrize("name", ["dp noise", "sensitivity"])
def test_the_checks_hold(name: str) -> None:
    assert failed(name) == []
    assert CHECKS[name]() == CHECKS[name]()  # of its own streams


def _a_tenth(self: UserLevel, round: int, size: int, deviation: float, state: Any) -> Any:
    return NOISE(self, round, size, deviation / 10, state)


def _of_the_first_round(self: UserLevel, round: int, *rest: Any) -> Any:
    return NOISE(self, 1, *rest)


def _by_those_that_came(self: UserLevel, aggregate: Aggregate, round: int, state: Any) -> Release:
    release = RELEASE(self, aggregate, round, state)
    assert release.mean is not None
    return replace(release, mean=release.mean * (self.setting.cohort / len(aggregate.results)))


def _by_the_last_to_come(self: UserLevel, aggregate: Aggregate) -> np.ndarray:
    return aggregate.total * (1 + list(aggregate._results)[-1] / 10)


@pytest.mark.parametrize(
    ("name", "sabotage", "noticed"),
    [
        ("noise", _a_tenth, "deviation"),
        ("noise", _of_the_first_round, "two rounds"),
        ("release", _by_those_that_came, "three of ten"),
        ("total", _by_the_last_to_come, "order"),
    ],
)
def test_noise_that_is_not_as_said_is_noticed(
    name: str, sabotage: Callable[..., Any], noticed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserLevel, name, sabotage)
    assert any(noticed in truth for truth in failed("dp noise"))


@pytest.mark.parametrize(
    ("factor", "noticed"),
    [
        (lambda norm, clip_norm: 1.0, "1e6"),
        (lambda norm, clip_norm: 1.5 * CLIP_FACTOR(norm, clip_norm), "1e6"),
        (lambda norm, clip_norm: min(1.0, clip_norm / norm) if norm else 1.0, "one NaN"),
    ],
)
def test_clipping_that_does_not_bound_is_noticed(
    factor: Callable[..., float], noticed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contributions, "clip_factor", factor)
    assert any(noticed in truth for truth in failed("sensitivity"))
