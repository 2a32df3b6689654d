"""A budget-equal search: as many trials for every cell, recorded by Optuna.

Successive halving (Jamieson & Talwalkar 2016) without a race: all trials train a quarter of the
rounds, the better half of them up to the middle, the better half of those to the end. Which trials
go on depends on their scores alone, never on which was done first, so the number of processes
changes nothing. Trials are runs of a seed of their own, scored on validation users; they are paused
before they would see a test user.

Under a mechanism that guarantees something to users, against who sees the models, the search is a
private selection instead (`fedsim.privacy.selection`): a Poisson number of trials, their values
drawn independently, each trained to its end, none stopped for what another one scored.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.stats import qmc

from fedsim.config import Config
from fedsim.files import write_atomically
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.runs import Run
from fedsim.search_space import Range
from fedsim.seeding import stream
from fedsim.studies.cells import Cell, Plan
from fedsim.studies.comparison import validation
from fedsim.studies.frontier import SEARCH_SEED

if TYPE_CHECKING:
    from fedsim.studies.trial_record import TrialRecord

Values = dict[str, float]


def rungs(rounds: int) -> tuple[int, ...]:
    """After which rounds trials are compared: a quarter (rounded up), twice that, all."""
    quarter = math.ceil(rounds / 4)
    return tuple(sorted({quarter, min(2 * quarter, rounds), rounds}))


def better_half(scores: Mapping[int, float]) -> list[int]:
    """The trials that go on, ascending: half of them, rounded up; of equals the earlier one."""
    ranked = sorted(scores, key=lambda trial: (-scores[trial], trial))
    return sorted(ranked[: math.ceil(len(ranked) / 2)])


def budget(trials: int, rounds: int) -> int:
    """Rounds that a search of so many trials trains, none failing."""
    standing, before, spent = trials, 0, 0
    for rung in rungs(rounds):
        spent += standing * (rung - before)
        standing, before = math.ceil(standing / 2), rung
    return spent


def selects_privately(config: Config) -> bool:
    """Whether a search of the config is a private selection.

    Not under `local` and `dp-sgd`: their adversary sees every update, so that no trial is hidden.
    """
    options = config.privacy.options
    noisy = getattr(options, "noise_multiplier", 0.0) or getattr(options, "epsilon", 0.0)
    return bool(noisy) and MECHANISMS[config.privacy.name].draws_in_secret


def draws(ranges: Mapping[str, Range], mean: int, digest: str) -> list[Values]:
    """The values of a private selection: a Poisson number of independent draws, perhaps none.

    digest: of what is searched, and a secret where nobody else may know how many there are; another
    search, other draws.
    """
    count = int(stream(SEARCH_SEED, f"trials of a private selection {digest}").poisson(mean))
    out = []
    for trial in range(count):
        draw = stream(SEARCH_SEED, f"values of a private selection {digest}", trial)
        out.append({key: ranges[key].at(draw.random()) for key in sorted(ranges)})
    return out


def design(own: Values, ranges: Mapping[str, Range], trials: int) -> list[Values]:
    """The values of each trial: first the cell's own, then Sobol's points, shifted at random.

    A trial's values depend on what is searched and on its number only. Points of Sobol fill the
    ranges evenly however many are taken; the shift (Cranley & Patterson 1976) is one a key.
    """
    out = [dict(own)]
    keys = sorted(ranges)
    points = qmc.Sobol(len(keys), scramble=False).random_base2(max(1, trials).bit_length())
    shifts = [stream(SEARCH_SEED, f"tuning {key}").random() for key in keys]
    for point in points[: trials - 1]:
        shares = zip(keys, point, shifts, strict=True)
        out.append({key: ranges[key].at((p + shift) % 1.0) for key, p, shift in shares})
    return out


def own_values(config: Config, keys: Sequence[str]) -> Values:
    """What the config has for these keys."""
    out = {}
    for key in keys:
        section, _, option = key.partition(".")
        values = getattr(config, section)
        out[key] = float(getattr(getattr(values, "options", values), option))
    return out


@dataclass
class Search:
    """The trials of one cell: which are due and how far, and what was found."""

    cell: Cell
    ranges: Mapping[str, Range]
    designed: Sequence[Values]
    rungs: tuple[int, ...]
    own: Values = field(default_factory=dict)  # the cell's
    mean: int = 0  # of the number of trials, where that is drawn: a private selection
    record: TrialRecord | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = [
            {"trial": i, **values, "rounds": 0, "top1": math.nan, "state": "stopped"}
            for i, values in enumerate(self.designed)
        ]
        self._standing = list(range(len(self.rows)))
        self._rung = 0

    @property
    def due(self) -> dict[int, int]:
        """Trial -> the round up to which it is to be trained next; empty at the end."""
        if self._rung == len(self.rungs):
            return {}
        return dict.fromkeys(self._standing, self.rungs[self._rung])

    def left(self) -> tuple[int, int]:
        """How often a trial is still to be trained, and all their rounds, none failing."""
        steps, rounds, due = 0, 0, self.due
        for trial, rung in due.items():
            rounds += rung - int(self.rows[trial]["rounds"])
        standing = len(due)
        for place in range(self._rung, len(self.rungs)):
            steps += standing
            standing = math.ceil(standing / 2)
            if place + 1 < len(self.rungs):
                rounds += standing * (self.rungs[place + 1] - self.rungs[place])
        return steps, rounds

    def tell(self, scores: Mapping[int, float | None]) -> None:
        """The validation top-1 of every trial that was due; None of one that failed.

        Where all that were left fail, the better half of those stopped last takes their place: a
        rate that is too large leads until it diverges.
        """
        round, last = self.rungs[self._rung], self._rung == len(self.rungs) - 1
        known: dict[int, float] = {}
        for trial in self._standing:
            score = scores[trial]
            if score is None:
                self._end(trial, "failed")
            else:
                self.rows[trial] |= {"rounds": round, "top1": score}
                known[trial] = score
                if self.record:
                    self.record.reached(trial, round, score)
        if known:
            self._rung += 1
        if last:
            for trial in known:
                self._end(trial, "finished")
        self._standing = [] if known and last else better_half(known or self._stopped_last())
        if not self._standing:
            self._rung = len(self.rungs)
            for row in self.rows:
                if row["state"] == "stopped":
                    self._end(row["trial"], "stopped")

    def _stopped_last(self) -> dict[int, float]:
        """The trials that got furthest of those that did not fail, and their scores there."""
        stopped = [row for row in self.rows if row["state"] == "stopped" and row["rounds"]]
        most = max((row["rounds"] for row in stopped), default=0)
        return {row["trial"]: row["top1"] for row in stopped if row["rounds"] == most}

    @property
    def chosen(self) -> Values | None:
        """The values of the best trial that went to the end, the earliest of equals; the cell's
        own where no trial was drawn; None where all failed, or the search is not over."""
        if not self.designed:
            return dict(self.own)
        ended = [row for row in self.rows if row["state"] == "finished"]
        if not ended:
            return None
        best = max(ended, key=lambda row: (row["top1"], -row["trial"]))
        return dict(self.designed[best["trial"]])

    def _end(self, trial: int, state: str) -> None:
        self.rows[trial]["state"] = state
        if self.record:
            self.record.ended(trial, state)


def search_of(plan: Plan, cell: Cell, trials: int, folder: Path) -> Search | None:
    """The search of a cell, recorded in `folder`; None where it has nothing to tune."""
    ranges = plan.searched(cell)
    if not ranges:
        return None
    from fedsim.studies.trial_record import TrialRecord

    config = plan.config(cell, SEARCH_SEED)
    own, private = own_values(config, list(ranges)), selects_privately(config)
    told = [config.identity(), {key: [r.low, r.high] for key, r in ranges.items()}, trials]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    if private:
        designed = draws(ranges, trials, digest + _secret(config, folder))
    else:
        designed = design(own, ranges, trials)
    spans = {key: _span(r, own[key]) for key, r in ranges.items()}
    record = TrialRecord(folder / "tuning.db", f"{cell.name} {digest}", designed, spans)
    steps = (config.server.rounds,) if private else rungs(config.server.rounds)
    return Search(cell, ranges, designed, steps, own, trials if private else 0, record)


def _secret(config: Config, folder: Path) -> str:
    """What only whoever searches knows, kept beside the trials: under fresh noise nobody else may
    know how many there are. Seeded noise is a simulation, and so is the number."""
    if config.privacy.options.noise == "seeded":
        return ""
    path = folder / "selection.key"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, secrets.token_hex(16).encode(), 0o600)
    return path.read_text()


def _span(range: Range, own: float) -> tuple[float, float]:
    """The range, widened to the cell's own value, which need not lie in it."""
    return min(range.low, own), max(range.high, own)


def trial_config(plan: Plan, cell: Cell, values: Values, trial: int = 0) -> Config:
    """Of a trial's run: scored at every rung, and nothing measured that a choice does not need."""
    config = plan.config(cell, SEARCH_SEED, values)
    if selects_privately(config):  # trials are independent, though two draw the same values
        config = plan.config(cell, SEARCH_SEED + trial, values)
    rounds = config.server.rounds
    every = rounds if selects_privately(config) else rungs(rounds)[0]
    quiet = {"every": every, "trigram": False, "central": False}
    return replace(
        config,
        evaluation=config.evaluation.model_copy(update=quiet),
        audit=config.audit.model_copy(update={"measures": (), "every": 0}),
    )


def score_at(run: Run, round: int) -> float:
    """Validation top-1 after a round: a trial may have gone further in an earlier study."""
    return float(validation(run).set_index("round").top1.loc[round])
