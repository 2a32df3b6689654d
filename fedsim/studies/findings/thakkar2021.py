"""Thakkar et al. 2021: federated averaging by user memorizes less than central training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd

from fedsim.config import Config
from fedsim.privacy.claims import COLUMNS
from fedsim.studies import memorization
from fedsim.studies.findings.base import (
    DOES_NOT_SHOW,
    FINDINGS,
    SHOWS,
    UNRESOLVED,
    Asked,
    Finding,
    Measured,
    Outcome,
    Published,
)
from fedsim.studies.findings.pairing import over_seeds, written
from fedsim.studies.grid import Told
from fedsim.studies.memorization import ORDER, SCORES, Private, Study
from fedsim.studies.ordering import AS_FOUND, REVERSED, Difference, differences, trained, verdict

JUDGED = "exposure_bits"
_NAMES = {
    "exposure_bits": "sampled exposure",
    "exact_bits": "exact exposure",
    "margin_bits": "likelihood against held-out canaries",
}
_VERDICTS = {AS_FOUND: SHOWS, REVERSED: DOES_NOT_SHOW}


@FINDINGS.register("thakkar2021")
class Thakkar2021(Finding):
    """`study memorization`, judged by its first score."""

    title = "Central training memorizes most, then FedAvg IID, by user, and with privacy"
    citation = (
        "Thakkar, Ramaswamy, Mathews and Beaufays (2021): Understanding Unintended Memorization in "
        "Language Models Under Federated Learning. PrivateNLP; Ramaswamy, Thakkar, Mathews, "
        "Andrew, McMahan and Beaufays (2020): Training Production Language Models Without "
        "Memorizing User Data. arXiv:2009.10031."
    )
    claim = (
        "Unintended memorization falls from central training over FedAvg on text dealt out at "
        "random and FedAvg by user to user-level differential privacy."
    )
    rule = (
        "Mean sampled exposure of the trained canaries, bits, of each setting minus the next, "
        "paired by canary, 95 % intervals by Student's t over the means of seeds. Shows, where "
        "every step down is above zero; does not show, where one is below zero; else, and with "
        "fewer than three seeds, not resolved. Exact exposure and likelihood, which have no "
        "ceiling, are reported, not judged."
    )
    published = (
        Published(
            "central training, text clustered by user, FedAvg, user-level DP",
            "clustering by user has a significant effect, FedAvg reduces memorization further, "
            "user-level DP memorizes least",
            "Thakkar et al., abstract; no figure is quoted",
        ),
    )
    cost = "five quarters of an hour on one core"
    seeds = 5
    private: ClassVar[Private] = Private(8.0, 0.5, 2.0, None)
    preset: ClassVar[str] = "memorization"

    def study(self, asked: Asked) -> Study:
        """The memorization study that it is."""
        return Study(asked.seeds, self.private, self.preset, asked.overrides)

    def check(self, overrides: Sequence[str]) -> None:
        """See `Finding.check`; the study knows what it varies."""
        memorization.check_overrides(overrides)

    def cells(self, asked: Asked) -> dict[str, Config]:
        """See `Finding.cells`."""
        study = self.study(asked)
        return {f"{s}, seed {seed}": study.config(s, seed) for seed in asked.seeds for s in ORDER}

    def measure(self, asked: Asked, folder: Path, jobs: int, told: Told) -> Measured:
        """rows: one a setting, seed and canary."""
        trained = memorization.train(self.study(asked), folder, jobs, told)
        canaries, scores = memorization.tables(trained)
        scores = scores.rename(columns={"validation_top1": "top1"})
        kept = scores[["setting", "seed", "top1", *(c for c in COLUMNS if c in scores)]]
        rows = canaries.merge(kept, on=["setting", "seed"], how="left", validate="many_to_one")
        rows["arm"] = rows.setting
        return Measured(rows, list(trained.values()))

    def judge(self, rows: pd.DataFrame) -> Outcome:
        """See `rule`."""
        steps = differences(rows, ORDER, SCORES)
        judged = [step for step in steps if step.score == JUDGED]
        found = _VERDICTS.get(verdict(judged), UNRESOLVED)
        sentences = [
            f"By {_NAMES[score]}: "
            + "; ".join(_said(step) for step in steps if step.score == score)
            for score in SCORES
        ]
        full = [f"{step.ceiling:.0%} of {step.more} to {step.less}" for step in judged]
        sentences.append(f"Pairs at the ceiling of sampled exposure in both: {'; '.join(full)}.")
        return Outcome(found, _table(rows), tuple(sentences), memorization.promised(rows))


def _said(step: Difference) -> str:
    half = step.high - step.mean
    return f"{step.more} minus {step.less} {written(step.mean, half, 1)} bits ({step.verdict})"


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    seen = trained(rows)
    lines = []
    for setting in ORDER:
        own = seen[seen.setting == setting]
        seeds = own.groupby("seed")
        line = {
            "setting": setting,
            "here, validation top-1, %": over_seeds(seeds.top1.first()).points(),
        }
        for score in SCORES:
            mean = over_seeds(seeds[score].mean())
            line[f"{_NAMES[score]}, bits"] = written(mean.mean, mean.high - mean.mean, 1)
        lines.append(line | {"extracted": f"{int(own.extracted.sum())} of {len(own)}"})
    return pd.DataFrame(lines)
