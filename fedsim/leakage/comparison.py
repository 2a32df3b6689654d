"""The rows of a membership attack: what it finds, beside what attackers find that cannot know."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedsim.leakage import clusters, roc
from fedsim.leakage.base import Finding
from fedsim.leakage.roc import FPRS, Estimate
from fedsim.seeding import stream
from fedsim.steps import Heard, nobody, steps

UNTRAINED, WORDS = "an untrained model", "a classifier of the words alone"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Members against non-members: rows are sentences, or one a user.

    member bool (n,), users int64 (n,): of each row. seed: of the bootstrap, which is there where
    a user has several rows.
    """

    member: np.ndarray
    users: np.ndarray
    seed: int

    def area(self, values: np.ndarray, label: str) -> Estimate:
        """The AUC of values (n,), NaN where a row has none; `label` names the bootstrap's draws."""
        mine, theirs, users = self._sides(values)
        if not self._clustered:
            return roc.delong(mine, theirs)
        return clusters.clustered_auc(mine, theirs, *users, self._stream(f"auc {label}"))

    def rate(self, values: np.ndarray, fpr: float, label: str) -> Estimate:
        """The TPR at an FPR."""
        mine, theirs, users = self._sides(values)
        if not self._clustered:
            return roc.tpr(mine, theirs, fpr)
        rng = self._stream(f"tpr {fpr} {label}")
        return clusters.clustered_tpr(mine, theirs, *users, fpr, rng)

    def people(self, values: np.ndarray) -> int:
        """Users with a value: the independent units."""
        return len(np.unique(self.users[~np.isnan(values)]))

    def findings(
        self,
        scores: Mapping[str, np.ndarray],
        untrained: Mapping[str, np.ndarray],
        guesses: np.ndarray,
        words: str,
        heard: Heard = nobody,
    ) -> list[Finding]:
        """AUC and TPR of every score, then the AUCs of the blind attackers.

        scores and untrained: group -> values of the model and of the untrained one, which are the
        control; guesses: of the classifier of words, whose group is `words`. heard: is told what
        share of the groups is done.
        """
        rows, blind = [], []
        by_words = self.area(guesses, words)
        doubt = warning(WORDS, by_words)
        for group, values in steps(scores.items(), len(scores), heard):
            n, null = self.people(values), self.area(untrained[group], f"untrained {group}")
            notes = [warning(UNTRAINED, null), doubt]
            area = self.area(values, group)
            note = "; ".join(said for said in notes if said)
            rows.append(finding("auc", group, area, n, null.value, note))
            blind.append(finding("auc", f"blind=untrained {group}", null, n, note=notes[0]))
            for fpr in FPRS:
                control = self.rate(untrained[group], fpr, f"untrained {group}").value
                rate = self.rate(values, fpr, group)
                rows.append(finding(f"tpr_at_fpr_{fpr:g}", group, rate, n, control))
        n = self.people(guesses)
        return [*rows, *blind, finding("auc", words, by_words, n, note=doubt)]

    def curves(self, scores: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Columns score, fpr, tpr: the ROC of every score."""
        parts = []
        for group, values in scores.items():
            fpr, tpr = roc.curve(*self._sides(values)[:2])
            parts.append(pd.DataFrame({"score": group, "fpr": fpr, "tpr": tpr}))
        return pd.concat(parts, ignore_index=True)

    @property
    def _clustered(self) -> bool:
        return len(np.unique(self.users)) < len(self.users)

    def _sides(
        self, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Members' values, non-members', and whose they are; rows without a value are left out."""
        there = ~np.isnan(values)
        mine, theirs = there & self.member, there & ~self.member
        return values[mine], values[theirs], (self.users[mine], self.users[theirs])

    def _stream(self, label: str) -> np.random.Generator:
        return stream(self.seed, f"membership bootstrap {label}")


def finding(
    quantity: str,
    group: str,
    estimate: Estimate,
    n: int,
    control: float = math.nan,
    note: str = "",
) -> Finding:
    """An estimate as a row of the table."""
    said = "; ".join(part for part in (estimate.note, note) if part)
    return Finding(
        quantity,
        estimate.value,
        group,
        n,
        estimate.low,
        estimate.high,
        estimate.interval,
        control,
        said,
    )


def warning(who: str, area: Estimate) -> str:
    """What a reader must know where a blind attacker finds something; empty where it does not."""
    if not area.excludes_half:
        return ""
    return (
        f"{who}, which cannot know, has AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f}): "
        "the groups differ without training"
    )
