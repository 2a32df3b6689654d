"""Andrew et al. 2021: a clip norm that follows the median needs no tuning."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from fedsim.privacy.claims import Claim, notes, together
from fedsim.studies.contrasts import holm
from fedsim.studies.findings.arms import Arm, Arms
from fedsim.studies.findings.base import (
    DOES_NOT_SHOW,
    FINDINGS,
    SHOWS,
    UNRESOLVED,
    Asked,
    Outcome,
    Published,
)
from fedsim.studies.findings.pairing import over_seeds, p_of, paired
from fedsim.studies.frontier import reported
from fedsim.studies.frontier_results import theorems

ADAPTIVE = "adaptive, median"
FIXED = (0.05, 0.3, 1.0, 5.0)
MARGIN = 0.005
SERVER_LRS = (0.3, 1.0, 3.0)
MANY_USERS = 5_000  # whose noise is simulated


@FINDINGS.register("andrew2021")
class Andrew2021(Arms):
    """One adaptive clip norm against a grid of fixed ones, each with a server rate of its own."""

    title = "Adaptive clipping needs no tuning"
    citation = (
        "Andrew, Thakkar, McMahan and Ramaswamy (2021): Differentially Private Learning with "
        "Adaptive Clipping. NeurIPS."
    )
    claim = (
        "Under user-level DP, clipping to a private estimate of the median norm does as well as "
        "about the best fixed clip norm chosen in hindsight, while badly chosen ones cost recall."
    )
    rule = (
        "The best fixed norm is that with the highest mean top-1 recall on test users. Shows, "
        "where adaptive clipping is at most 0.5 points below it (the lower end of the 95 % "
        "interval of the difference, paired by seed, is above -0.5) and at least one fixed norm of "
        "the grid is clearly worse than adaptive clipping (t-test paired by seed, p below 0.05 "
        "after Holm's adjustment over the grid); does not show, where adaptive clipping is clearly "
        "more than 0.5 points below the best (the upper end is below -0.5); else not resolved."
    )
    published = (
        Published(
            "adaptive clipping to the median against the best fixed norm in hindsight",
            "about as good on all tasks, sometimes better",
            "abstract; no figure is quoted",
        ),
    )
    cost = "40 minutes on 2 busy cores"
    shared = ("canaries.per_cell=0", "data.cap_words=500", "server.cohort=10",
              "evaluation.every=30")  # fmt: skip
    varied: ClassVar[dict[str, str]] = dict.fromkeys(
        ("privacy", "privacy.clip_norm", "privacy.initial_clip_norm", "optimizer.lr"),
        "clipping and the server's learning rate are what it compares; leave it out",
    ) | {"seed": "use --seeds"}

    def arms(self, asked: Asked) -> tuple[Arm, ...]:
        """All at the same budget, for the same simulated users."""
        scale = reported(self.preset, (*self.shared, *asked.overrides), None, MANY_USERS)
        choices = tuple((f"optimizer.lr={lr}",) for lr in SERVER_LRS)
        budget = ("privacy.epsilon=8.0", *scale)
        return (
            Arm(ADAPTIVE, ("privacy=adaptive", *budget), choices),
            *(
                Arm(f"fixed, {norm:g}", ("privacy=dp-fedavg", f"privacy.clip_norm={norm}", *budget),
                    choices)
                for norm in FIXED
            ),
        )  # fmt: skip

    def judge(self, rows: pd.DataFrame) -> Outcome:
        """See `rule`."""
        fixed = [arm for arm in dict.fromkeys(rows.arm) if arm != ADAPTIVE]
        leads = {arm: paired(rows, ADAPTIVE, arm) for arm in fixed}
        best = max(fixed, key=lambda arm: rows[rows.arm == arm].top1.mean())
        p = dict(zip(fixed, holm([p_of(rows, ADAPTIVE, arm) for arm in fixed]), strict=True))
        worse = [arm for arm in fixed if leads[arm].mean > 0 and p[arm] < 0.05]
        near, far = leads[best].low > -MARGIN, leads[best].high < -MARGIN
        verdict = DOES_NOT_SHOW if far else SHOWS if near and worse else UNRESOLVED
        claims = {arm: Claim.of_row(rows[rows.arm == arm].iloc[0]) for arm in (ADAPTIVE, *fixed)}
        table = pd.DataFrame(
            {
                "clip norm": arm,
                "epsilon of one run": claim.short if (claim := claims[arm]) else "",
                "epsilon, search included": (
                    together(claim, own.iloc[0].to_dict(), "epsilon_with_search").short
                    if claim
                    else ""
                ),
                "here, top-1, %": over_seeds(own.top1).points(),
                "adaptive minus it, points": leads[arm].signed() if arm in leads else "",
                "p (Holm)": f"{p[arm]:.3f}" if arm in p else "",
                "chosen": own.chosen.iloc[0],
            }
            for arm, own in rows.groupby("arm", sort=False)
        )
        said = (
            f"Adaptive minus the best fixed norm ({best}): {leads[best].signed()} points; clearly "
            f"worse than adaptive: {'; '.join(worse) or 'none'}."
        )
        searched = (
            f"Each arm's server rate was chosen in {len(SERVER_LRS)} trials on the same people, "
            "which the epsilon of one run does not contain and the second column does."
        )
        composed = theorems(rows)
        below = " ".join(notes((arm, claim) for arm, claim in claims.items() if claim))
        return Outcome(verdict, table, (said, searched, *composed), below)
