"""The fine-tuning study: what federated rounds on a second corpus leave of a first one.

Two arms a seed: a run that begins with a model pretrained on the first corpus, and a control, the
same run without pretraining, measured on the same sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.leakage.intervals import mean_interval
from fedsim.runs import Run
from fedsim.studies.grid import Told, run_all
from fedsim.studies.simulated import load_cell

PRETRAINED, CONTROL = "pretrained", "control"
KEYS = ["arm", "text", "quantity", "prefix_words", "round"]
MEMORY = "trained - held_out"  # of the same model: what is not common language
# The lines that are compared: arm and text.
LINES = ((PRETRAINED, "trained"), (PRETRAINED, "held_out"), (CONTROL, "trained"))
_NO_BASELINES = ("evaluation.trigram=false", "evaluation.central=false")


@dataclass(frozen=True)
class Study:
    """What a study asks for; `overrides` name the first corpus."""

    seeds: tuple[int, ...]
    preset: str
    overrides: tuple[str, ...]

    def config(self, arm: str, seed: int) -> Config:
        """One cell. The control differs in nothing but that it is not pretrained."""
        keys = [*_NO_BASELINES, *self.overrides, f"seed={seed}"]
        return load_cell(self.preset, [*keys, *(["pretrain.epochs=0"] if arm == CONTROL else [])])


def run_study(study: Study, folder: Path, jobs: int, told: Told) -> pd.DataFrame:
    """Run both arms of every seed; one row for each figure at each evaluation of each run.

    Raises FedsimError before anything is trained where there is no first corpus to forget.
    """
    for override in study.overrides:
        if override.partition("=")[0].strip() == "seed":
            raise FedsimError("The study sets seed itself: use --seeds.")
    asked = study.config(PRETRAINED, study.seeds[0]).pretrain
    if not asked.name or not asked.epochs:
        raise FedsimError("The study needs a first corpus and an epoch on it: give --pretrain.")
    cells = {(arm, seed): study.config(arm, seed)
             for seed in study.seeds for arm in (PRETRAINED, CONTROL)}  # fmt: skip
    names = {cell: f"{cell[0]} seed {cell[1]}" for cell in cells}
    runs = run_all({names[cell]: config for cell, config in cells.items()}, folder, jobs, told)
    return figures({cell: runs[names[cell]] for cell in cells})


def figures(runs: Mapping[tuple[str, int], Run]) -> pd.DataFrame:
    """The tables of the runs below each other, with the arm, the seed, recall on the second
    corpus, and for each figure the distance between trained and held-out sentences."""
    parts = []
    for (arm, seed), run in runs.items():
        table = run.table("first_corpus").drop(columns=["low", "high"])
        scores = run.evaluations
        scores = scores[scores["split"] == "validation"]
        recall = pd.DataFrame({"round": scores["round"], "text": "second corpus",
                               "quantity": "top1_recall", "n": scores["users"],
                               "estimate": scores["top1_recall"]})  # fmt: skip
        for part in (table, _memory(table), recall):
            parts.append(part.assign(arm=arm, seed=seed))
    return pd.concat(parts, ignore_index=True)


def _memory(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["round", "quantity", "prefix_words"]
    trained, held_out = (
        table[table.text == kind].set_index(keys) for kind in ("trained", "held_out")
    )
    out = trained[["n"]].assign(estimate=trained["estimate"] - held_out["estimate"], text=MEMORY)
    return out.reset_index()


def curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds with their 95 % intervals (Student's t), one row a figure and round."""
    out = []
    for key, group in rows.groupby(KEYS, dropna=False, sort=False):
        mean, low, high = mean_interval(group["estimate"].to_numpy(np.float64))
        row = dict(zip(KEYS, key, strict=True))
        out.append({**row, "seeds": len(group), "mean": mean, "low": low, "high": high})
    return pd.DataFrame(out)


def pick(
    points: pd.DataFrame, arm: str, text: str, quantity: str, prefix: int | None = None
) -> pd.DataFrame:
    """One line of the curve, by round."""
    mine = points[(points.arm == arm) & (points.text == text) & (points.quantity == quantity)]
    if prefix is not None:
        mine = mine[mine.prefix_words == prefix]
    return mine.sort_values("round")


def findings(points: pd.DataFrame, prefixes: Sequence[int]) -> list[str]:
    """What the study shows, in sentences that say too where it cannot tell."""
    seeds = int(points.seeds.max())
    out = [f"Means over {seeds} seeds" + (" with 95 % intervals." if seeds > 1 else ": one run.")]
    for prefix in prefixes:
        lines = [pick(points, *key, "extractable", prefix) for key in LINES]
        first, last = ([line.iloc[place]["mean"] for line in lines] for place in (0, -1))
        memory = pick(points, PRETRAINED, MEMORY, "extractable", prefix)
        out.append(
            f"From {prefix} words of a sentence of the first corpus the rest is extracted for "
            f"{_percent(first[0])} before federated training (held-out sentences "
            f"{_percent(first[1])}, the control model {_percent(first[2])}), and for "
            f"{_percent(last[0])} after round {int(memory['round'].iloc[-1])} (held-out "
            f"{_percent(last[1])}, control {_percent(last[2])}); the distance to held-out "
            f"sentences is then {_percent(memory['mean'].iloc[-1])}, "
            f"{_apart(memory.iloc[-1])}."
        )
    exposure = pick(points, PRETRAINED, "trained", "exposure_bits")
    if len(exposure):
        out.append(
            f"The first corpus' canaries have {exposure['mean'].iloc[0]:.1f} bits of exposure "
            f"before and {exposure['mean'].iloc[-1]:.1f} bits after; canaries that nobody typed "
            f"have {pick(points, PRETRAINED, 'held_out', 'exposure_bits')['mean'].iloc[-1]:.1f}."
        )
    return out


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _apart(row: pd.Series) -> str:
    if not np.isfinite(row["low"]):
        return "with one seed not known to differ from zero"
    if row["low"] > 0 or row["high"] < 0:
        return f"which differs from zero (95 %: {row['low']:.2%} to {row['high']:.2%})"
    return f"not distinguishable from zero (95 %: {row['low']:.2%} to {row['high']:.2%})"
