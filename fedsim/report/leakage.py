"""What a run's leakage measures found: which were taken, their rows, and what is not known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from fedsim.leakage.measures import MEASURES
from fedsim.privacy.claims import Claim
from fedsim.program import command, command_for_pages
from fedsim.report.leakage_rows import Row, rows_of
from fedsim.report.leakage_rules import conclusion
from fedsim.runs import Run

# From what is planted to what is real, then who is who, then the server.
ORDER = (
    "canaries",
    "memorisation",
    "generation",
    "membership",
    "user_membership",
    "shadows",
    "updates",
    "compression",
    "epsilon",
)


@dataclass(frozen=True)
class Leakage:
    """The table `leakage` of a run, with the tables behind it."""

    run: Run
    table: pd.DataFrame
    privacy: dict[str, Any] | None  # the statement

    @cached_property
    def measures(self) -> list[str]:
        """Those that were taken, in the order of the cards."""
        names = sorted(set(self.table["measure"]))
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def rounds(self, measure: str) -> list[int]:
        """Rounds after which a measure was taken."""
        return sorted(self._of(measure)["round"].unique().tolist())

    def rows(self, measure: str, round: int | None = None) -> list[Row]:
        """What it found in the last of them, or in one."""
        table = self._of(measure)
        last = self.rounds(measure)[-1] if round is None else round
        return rows_of(table[table["round"] == last])

    def threat(self, measure: str) -> str:
        """Who the adversary is, as the table has it."""
        return str(self._of(measure)["threat"].iloc[-1])

    def _of(self, measure: str) -> pd.DataFrame:
        table = self.table[self.table["measure"] == measure]
        texts = {name: table[name].fillna("") for name in ("group", "interval", "note", "threat")}
        return table.assign(**texts)

    # -- overview ----------------------------------------------------------------------------

    @property
    def ceiling(self) -> Claim | None:
        """What a user of this run was promised, where users are what is guaranteed.

        Not where sampling amplifies it: that epsilon is of who may have been drawn, and members
        are those who were.
        """
        guarantee = (self.privacy or {}).get("guarantee")
        if not guarantee or guarantee["unit"] != "user" or guarantee["amplified"]:
            return None
        claim = Claim.of(self.privacy)
        own = claim.own if claim else None
        return own if own and math.isfinite(own.epsilon) else None

    def overview(self) -> dict[str, Any]:
        """What was measured, what was not and how to, and the epsilons."""
        names = [name for name in ORDER if name in MEASURES]
        names += [name for name in MEASURES if name not in ORDER]
        lacking = [name for name in names if name not in self.measures]
        return {
            "taken": [(name, title_of(name)) for name in self.measures],
            "lacking": [
                {"title": MEASURES[name].title, "name": name, "trains": MEASURES[name].trains}
                for name in lacking
            ],
            "command": command_for_pages("audit", "RUN", "--measures", ",".join(lacking))
            if lacking
            else "",
            "epsilon": self.epsilon_line(),
        }

    def epsilon_line(self) -> str:
        """The proven epsilon of the run beside the audited one; what there is of them."""
        claim, said = Claim.of(self.privacy), []
        if claim:
            said.append(claim.sentence("Proven: epsilon"))
        if "epsilon" in self.measures:
            said.append(
                f"Audited, on an audit run: {conclusion('epsilon', self.rows('epsilon')).text}"
            )
        elif claim:
            said.append("Not audited: no attack was tried on the mechanism.")
        return " ".join(said)


def title_of(measure: str) -> str:
    """What a measure is called; its name, spaced, where this build does not know it."""
    if measure in MEASURES:
        return MEASURES[measure].title
    return measure.replace("_", " ").capitalize()


def digest(run: Run) -> list[str]:
    """Two lines for a terminal on the measures that were taken; none where there are none."""
    table = run.table("leakage")
    if not len(table):
        return []
    leakage = Leakage(run, table, run.privacy)
    overview = leakage.overview()
    lines = [f"leakage measured: {', '.join(leakage.measures)} (findings in the report)"]
    if overview["lacking"]:
        names = ", ".join(one["name"] for one in overview["lacking"])
        missing_ones = names.replace(" ", "")
        lines.append(
            f"not measured: {names}; {command('audit', run.path, '--measures', missing_ones)}"
        )
    return lines
