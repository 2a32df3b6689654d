"""Kairouz et al. 2021: DP-FTRL does without sampling assumptions, at little or no cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd

from fedsim.config import Config
from fedsim.privacy.claims import Claim, notes, together
from fedsim.studies import frontier
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
from fedsim.studies.findings.pairing import over_seeds, paired
from fedsim.studies.frontier import Point, Study, Tuning, reported
from fedsim.studies.frontier_results import theorems
from fedsim.studies.grid import Told

AMPLIFIED, TREE = "dp-fedavg", "tree"
MECHANISMS = (AMPLIFIED, TREE)
BUDGETS = (2.0, 8.0, 18.0)
MARGIN = 0.005
MANY_USERS = 5_000  # whose noise is simulated
_TUNING = Tuning((0.5,), (0.7, 2.0))


@FINDINGS.register("kairouz2021")
class Kairouz2021(Finding):
    """The privacy study at three budgets, judged at the largest."""

    title = "DP-FTRL keeps up with amplified DP-FedAvg, without a sampling assumption"
    citation = (
        "Kairouz, McMahan, Song, Thakkar, Thakurta and Xu (2021): Practical and Private (Deep) "
        "Learning without Sampling or Shuffling. ICML."
    )
    claim = (
        "DP-FTRL with tree aggregation, which needs no random sampling, is as good as DP-FedAvg "
        "amplified by sampling, or better, at larger epsilon."
    )
    rule = (
        "Top-1 recall on test users of `tree` minus `dp-fedavg` under Poisson sampling, at the "
        "largest epsilon, 18, paired by seed. Shows, where the lower end of its 95 % interval is "
        "above -0.5 points; does not show, where the upper end is below -0.5 points; else not "
        "resolved. Smaller budgets are reported, not judged."
    )
    published = (
        Published(
            "DP-FTRL against DP-SGD amplified by sampling",
            "competitive; better in the regime of higher accuracy and lower privacy",
            "abstract and introduction; no figure is quoted",
        ),
    )
    cost = "a quarter of an hour on 2 cores"
    seeds = 5
    preset: ClassVar[str] = "privacy"
    # Everybody takes part once at most, as in the paper's Stack Overflow runs.
    shared: ClassVar[tuple[str, ...]] = ("canaries.per_cell=0", "data.cap_words=500",
                                         "server.cohort=10", "evaluation.every=60")  # fmt: skip

    def study(self, asked: Asked) -> Study:
        """The privacy study that it is."""
        own = (*self.shared, *asked.overrides)
        points = tuple(Point(name, budget) for name in MECHANISMS for budget in BUDGETS)
        scale = reported(self.preset, own, None, MANY_USERS)
        return Study(points, asked.seeds, _TUNING, self.preset, (*own, *scale))

    def check(self, overrides: Sequence[str]) -> None:
        """See `Finding.check`; the study knows what it varies."""
        frontier.check_overrides(overrides)

    def cells(self, asked: Asked) -> dict[str, Config]:
        """See `Finding.cells`."""
        study, (clip,), (lr, *_) = self.study(asked), _TUNING.clip_norms, _TUNING.server_lrs
        return {
            f"{point.name} seed {seed}": study.config(point, seed, clip, lr)
            for point in study.points
            for seed in asked.seeds
        }

    def measure(self, asked: Asked, folder: Path, jobs: int, told: Told) -> Measured:
        """See `Finding.measure`."""
        study = self.study(asked)
        trained = frontier.train(study, folder, jobs, told)
        rows = frontier.rows(study, trained)
        return Measured(
            rows.rename(columns={"mechanism": "arm", "top1_recall": "top1"}),
            list(trained.runs.values()),
            list(trained.trials.values()),
        )

    def judge(self, rows: pd.DataFrame) -> Outcome:
        """See `rule`."""
        leads = {
            (name, budget): paired(rows[rows.epsilon == budget], name, AMPLIFIED)
            for budget in sorted(rows.epsilon.unique())
            for name in dict.fromkeys(rows.arm)
            if name != AMPLIFIED
        }
        judged = leads[TREE, max(rows.epsilon)]
        groups = rows.groupby(["epsilon", "arm"], sort=False)
        claims = {key: Claim.of_row(own.iloc[0]) for key, own in groups}
        table = pd.DataFrame(
            {
                "epsilon of one run": claim.short if (claim := claims[budget, name]) else "",
                "epsilon, search included": (
                    together(claim, own.iloc[0].to_dict(), "epsilon_with_search").short
                    if claim
                    else ""
                ),
                "mechanism": name,
                "adjacency": own.adjacency.iloc[0],
                "here, top-1, %": over_seeds(own.top1).points(),
                "minus dp-fedavg, points": (
                    leads[name, budget].signed() if (name, budget) in leads else ""
                ),
                "noise on the mean": f"{own.noise_deviation.mean():.3g}",
                "server lr": f"{own.server_lr.iloc[0]:g}",
            }
            for (budget, name), own in groups
        )
        if judged.low > -MARGIN:
            verdict = SHOWS
        else:
            verdict = DOES_NOT_SHOW if judged.high < -MARGIN else UNRESOLVED
        sentences = (
            *(
                f"At budget {budget:g}, {name} minus dp-fedavg: {lead.signed()} points."
                for (name, budget), lead in leads.items()
            ),
            f"The search for clip norm and server rate took {len(_TUNING.trials)} trials on the "
            "same people; the second column composes them with one run.",
            *theorems(rows),
            "The promises differ: that of DP-FedAvg holds where nobody sees who is sampled, that "
            "of DP-FTRL with no assumption on sampling.",
        )
        below = " ".join(notes((name, claim) for (_, name), claim in claims.items() if claim))
        return Outcome(verdict, table, sentences, below)
