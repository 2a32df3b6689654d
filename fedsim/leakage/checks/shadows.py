"""LiRA and RMIA on Gaussian targets, where the best possible attack is known."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from fedsim.leakage import roc, shadow
from fedsim.leakage.selfcheck import CHECKS, Check
from fedsim.seeding import stream

TARGETS = 6000


@CHECKS.register("membership shadows")
def optimal_on_gaussians() -> list[Check]:
    """Training lifts phi by one deviation: the best AUC is Phi(1 / sqrt 2), given each target's
    own level. LiRA and RMIA must reach it, and phi alone must not."""
    checks = []
    for shadows in (64, 16):
        phi, others, inside, member = gaussian_targets(shadows, lift=0.05, spread=0.05)
        rng = stream(0, "selfcheck strangers")
        level = _levels(TARGETS, rng)
        strangers = level + 0.05 * rng.normal(size=(shadows + 1, TARGETS))
        population = strangers[0], strangers[1:]
        # The mean over half of the shadows is known to sigma / sqrt(shadows / 2).
        best = float(stats.norm.cdf(1 / math.sqrt(2 * (1 + 2 / shadows))))
        found = {
            "LiRA offline": shadow.lira_offline(phi, others, inside),
            "LiRA online": shadow.lira_online(phi, others, inside),
            "RMIA": shadow.rmia(phi, others, inside, population, a=0.9, gamma=1.0),
        }
        for name, scores in found.items():
            area = roc.auc(scores[member], scores[~member])
            truth = f"AUC of {name} with {shadows} shadows, best {best:.4f}"
            checks.append(Check(truth, area, best - 0.025, best + 0.025))
        area = roc.auc(phi[member], phi[~member])
        checks.append(Check("AUC of phi without shadows, near a half", area, 0.5, 0.6))
    return [*checks, _wider_when_trained()]


def _wider_when_trained() -> Check:
    """Where training only triples the deviation, the best is P(|3 X| > |Y|) = 2/pi arctan 3."""
    phi, others, inside, member = gaussian_targets(64, lift=0.0, spread=0.02, wider=3.0)
    scores = shadow.lira_online(phi, others, inside)
    area = roc.auc(scores[member], scores[~member])
    best = 2 / math.pi * math.atan(3.0)
    return Check("AUC of LiRA online where training widens phi, 0.7952", area, best - 0.03, best)


def gaussian_targets(
    shadows: int, lift: float, spread: float, wider: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """phi (n,) of the audited model, (s, n) of the shadows, inside bool (s, n), member bool (n,).

    Each target has a level of its own; those trained on have `lift` more and `wider` the spread.
    """
    rng = stream(0, f"selfcheck shadows {shadows} {lift}")
    inside = rng.random((shadows + 1, TARGETS)) < 0.5
    noise = spread * rng.normal(size=inside.shape) * np.where(inside, wider, 1.0)
    phi = _levels(TARGETS, rng) + lift * inside + noise
    return phi[0], phi[1:], inside[1:], inside[0]


def _levels(n: int, rng: np.random.Generator) -> np.ndarray:
    """Minus nats a word of so many texts, likely ones: p is around a half."""
    return -0.7 + 0.2 * rng.normal(size=n)
