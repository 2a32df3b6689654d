"""Hard et al. 2018: a federated CIFG beats the n-gram keyboard and equals central training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from fedsim.config import Config
from fedsim.leakage.intervals import over_users
from fedsim.seeding import stream
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
from fedsim.studies.findings.pairing import Interval
from fedsim.studies.grid import Told, run_all
from fedsim.studies.simulated import load_cell

FEDERATED, NGRAM, CENTRAL = "federated CIFG", "n-gram", "central CIFG"
MARGIN = 0.01
RESAMPLES = 2000
_LOGS = "prediction recall on server-hosted logs"
_CACHES = "prediction recall on client caches"


@FINDINGS.register("hard2018")
class Hard2018(Finding):
    """The preset gboard: one run holds all three models."""

    title = "A federated keyboard model beats n-grams and equals central training"
    citation = (
        "Hard, Rao, Mathews, Ramaswamy, Beaufays, Augenstein, Eichner, Kiddon and Ramage (2018): "
        "Federated Learning for Mobile Keyboard Prediction. arXiv:1811.03604."
    )
    claim = (
        "A CIFG language model trained by federated averaging has a higher top-1 recall than the "
        "n-gram baseline, and about that of the same network trained on a server."
    )
    rule = (
        "Top-1 recall on test users, differences paired by user, 95 % intervals by a bootstrap "
        "that draws users. Shows, where in every run federated minus n-gram is above zero and the "
        "lower end of federated minus central is above -1 point; does not show, where in a run "
        "federated minus n-gram is below zero or the upper end of federated minus central is below "
        "-1 point; else not resolved. By default it is one run: the intervals are over people, and "
        "say nothing about another training."
    )
    published = (
        Published("n-gram, top-1 recall", "13.0 %", _LOGS),
        Published("server-trained CIFG", "16.5 %", _LOGS),
        Published("federated CIFG", "16.4 %", _LOGS),
        Published("n-gram, server-trained, federated", "12.5 %, 15.0 %, 15.8 %", _CACHES),
    )
    cost = "three quarters of an hour on 2 cores for each run"
    seeds = 1
    preset: ClassVar[str] = "gboard"
    varied: ClassVar[dict[str, str]] = {
        "seed": "use --seeds",
        "evaluation.central": "both baselines are what it compares with",
        "evaluation.trigram": "both baselines are what it compares with",
    }

    def cells(self, asked: Asked) -> dict[str, Config]:
        """See `Finding.cells`."""
        return {
            f"gboard, seed {seed}": load_cell(self.preset, [f"seed={seed}", *asked.overrides])
            for seed in asked.seeds
        }

    def measure(self, asked: Asked, folder: Path, jobs: int, told: Told) -> Measured:
        """rows: one a seed, model and test user, with its words and hits."""
        runs = run_all(self.cells(asked), folder, jobs, told)
        parts = []
        for seed in asked.seeds:
            run = runs[f"gboard, seed {seed}"]
            names = {run.config.strategy.name: FEDERATED, "trigram": NGRAM, "central": CENTRAL}
            users = run.table("users")[["model", "user", "words", "hits_top1"]]
            users = users[users.model.isin(names)]  # the floors are not asked about
            parts.append(users.assign(arm=users.model.map(names), seed=seed).drop(columns="model"))
        return Measured(pd.concat(parts, ignore_index=True), list(runs.values()))

    def judge(self, rows: pd.DataFrame) -> Outcome:
        """See `rule`."""
        table, sentences, verdicts = [], [], []
        for seed, own in rows.groupby("seed"):
            gains = {other: difference(own, FEDERATED, other) for other in (NGRAM, CENTRAL)}
            verdicts.append(_verdict(gains[NGRAM], gains[CENTRAL]))
            for arm in (NGRAM, CENTRAL, FEDERATED):
                mine = own[own.arm == arm]
                line: dict[str, Any] = {
                    "seed": str(seed),
                    "model": arm,
                    "here, top-1, %": f"{100 * mine.hits_top1.sum() / mine.words.sum():.2f}",
                    "federated minus it, points": _ends(gains[arm]) if arm in gains else "",
                }
                table.append(line)
            sentences.append(
                f"Seed {seed}: federated minus n-gram {_ends(gains[NGRAM])} points, minus central "
                f"{_ends(gains[CENTRAL])}."
            )
        if DOES_NOT_SHOW in verdicts:
            verdict = DOES_NOT_SHOW
        else:
            verdict = SHOWS if set(verdicts) == {SHOWS} else UNRESOLVED
        return Outcome(verdict, pd.DataFrame(table), tuple(sentences))


def difference(rows: pd.DataFrame, one: str, other: str) -> Interval:
    """Recall over all words of `one` minus `other`, with the bootstrap over users."""
    tables = [rows[rows.arm == name].set_index("user").sort_index() for name in (one, other)]
    shared = tables[0].index.intersection(tables[1].index)
    mine, theirs = (table.loc[shared] for table in tables)
    words = mine.words.to_numpy(np.float64)
    gained = (mine.hits_top1 - theirs.hits_top1).to_numpy(np.float64)

    def recall(chosen: np.ndarray) -> float:
        return float(gained[chosen].sum() / words[chosen].sum())

    users = np.arange(len(shared))
    low, high = over_users(recall, users, stream(0, "bootstrap of a finding"), RESAMPLES)
    return Interval(recall(users), low, high)


def _verdict(ngram: Interval, central: Interval) -> str:
    if ngram.below_zero or central.high < -MARGIN:
        return DOES_NOT_SHOW
    return SHOWS if ngram.above_zero and central.low > -MARGIN else UNRESOLVED


def _ends(gain: Interval) -> str:
    return f"{100 * gain.mean:+.2f} ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
