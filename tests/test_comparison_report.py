"""The report of a comparison: what a reader sees of frames that were made up for it."""

from __future__ import annotations

import dataclasses
import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_report import EVIL, Page

from fedsim.report.comparison import checklist, findings, latex, markdown, write_comparison
from fedsim.report.comparison_cells import Cells
from fedsim.report.comparison_latex import escaped
from fedsim.studies.comparison import Comparison

NAMES = ("fedavg", "fedsgd", "fedprox", "fedadam", "fedyogi", "scaffold", "fedadagrad", "fedavgm",
         "fednova", "qfedavg", "trimmed-mean", "geometric-median")  # fmt: skip
LEVELS = dict(zip(NAMES, (14.2, 11.5, 14.3, 15.4, 15.1, 14.0, 14.7, 14.9, 14.1, 13.6, 13.0, 12.1),
                  strict=True))  # fmt: skip
SPEED = dict(zip(NAMES, (14, 40, 14, 8, 9, 12, 11, 10, 13, 16, 18, 22), strict=True))
LEVEL_OF_AXIS = 0.4  # points that a step along an axis adds
MADE: dict[str, Any] = {
    "command": ["run_sim.py", "compare", "--strategies", "fedavg,fedsgd", "--seeds", "3"],
    "fedsim": "0.1.0", "git": {"commit": "a044c2a", "changed": False}, "python": "3.12.3",
    "platform": "Linux-6.1-x86_64", "cpus": 2, "packages": {"flwr": "1.41.0", "torch": "2.13.0"},
    "corpus": {"name": "chitchat", "digest": "sha256:12", "licence": "CC-BY-4.0"},
    "compute_seconds": 5400.0,
}  # fmt: skip


def made_up(
    count: int = 6, seeds: int = 3, axes: dict[str, list[Any]] | None = None, *,
    leakage: bool = False, tuned: bool = False, rounds: int = 60, spread: float = 0.12,
    target: float | None = 0.13,
) -> Comparison:  # fmt: skip
    """A comparison in which fedadam is best and fedsgd never gets to the target."""
    axes, names = axes or {}, NAMES[:count]
    rng = np.random.default_rng(5)
    luck = rng.normal(0, 0.1, seeds)  # of a seed, shared by all strategies
    runs, curves, chosen, trials = [], [], [], []
    evaluated = np.arange(0, rounds + 1, 3)
    for name, values in itertools.product(names, itertools.product(*axes.values())):
        where = {"strategy": name, **dict(zip(axes, values, strict=True))}
        shift = LEVEL_OF_AXIS * sum(v.index(x) for v, x in zip(axes.values(), values, strict=True))
        for seed in range(1, seeds + 1):
            end = LEVELS[name] + shift + luck[seed - 1] + rng.normal(0, spread)
            curve = (end * (1 - np.exp(-evaluated / SPEED[name]))
                     + rng.normal(0, 0.05, len(evaluated)).cumsum() * 0.3)  # fmt: skip
            curve = np.clip(curve, 0.01, None) / 100
            each = 1_270_000 * 10 * (2 if name == "scaffold" else 1)
            hit = np.flatnonzero(curve >= (target or 2))
            first = int(evaluated[hit[0]]) if len(hit) else None
            curves.append(pd.DataFrame({**where, "seed": seed, "round": evaluated, "top1": curve,
                                        "top3": curve * 1.7, "perplexity": 900 * np.exp(-curve * 9),
                                        "upload_bytes": evaluated * each,
                                        "tokens": evaluated * 11_000}))  # fmt: skip
            runs.append(
                where | {
                    "seed": seed, "state": "finished", "error": "", "run": f"{name}-{seed}",
                    "top1": end / 100, "top3": end / 58,
                    "perplexity": 420 - 12 * end + rng.normal(0, 3),
                    "keystrokes_saved": 0.3 + end / 300,
                    "worst_decile_top1": (end - 9 + rng.normal(0, 0.2)) / 100,
                    "validation_top1": curve[-1], "rounds": rounds, "tokens": rounds * 11_000,
                    "upload_bytes": rounds * each, "download_bytes": rounds * each,
                    "seconds": 41.0 + seed, "rounds_to_target": first,
                    "bytes_to_target": None if first is None else first * each,
                }
                | ({"exposure_bits": 1.4 + end / 5 + rng.normal(0, 0.2),
                    "canaries_extracted": max(0.0, end / 200 + rng.normal(0, 0.01))}
                   if leakage else {})
            )  # fmt: skip
        if tuned:
            chosen.append(where | {"key": "client.lr", "low": 0.1, "high": 10.0, "value": 1.5})
            chosen.append(where | {"key": "optimizer.lr", "low": 0.001, "high": 0.1,
                                   "value": 0.0985 if name == "fedadam" else 0.02})  # fmt: skip
            for trial in range(8):
                trials.append(where | {"trial": trial, "client.lr": 0.1 * 1.7**trial,
                                       "optimizer.lr": 0.001 * 1.6**trial,
                                       "rounds": 20 if trial % 2 else 60, "top1": 0.1 + trial / 300,
                                       "state": "stopped" if trial % 2 else "finished"})  # fmt: skip
    frame = pd.DataFrame(runs)
    for column in ("rounds_to_target", "bytes_to_target"):
        frame[column] = frame[column].astype("Int64")
    keys = ["strategy", *axes]
    return Comparison(
        tuple(axes), names, tuple(range(1, seeds + 1)), target, frame, pd.concat(curves),
        pd.DataFrame(chosen, columns=None if tuned else [*keys, "key", "low", "high", "value"]),
        pd.DataFrame(trials, columns=None if tuned else [*keys, "trial", "rounds", "top1", "state"]),
        MADE,
    )  # fmt: skip


def summarised(comparison: Comparison) -> pd.DataFrame:
    """The table as the contract of `contrasts.summary` says it, by a plain loop."""
    keys = ["strategy", *comparison.axes]
    known = {*keys, "seed", "state", "error", "run"}
    columns = [c for c in comparison.runs if c not in known]
    done = comparison.runs[comparison.runs["state"] == "finished"]
    rows = []
    for cell, _ in comparison.runs.groupby(keys, sort=False):
        own = done[(done[keys] == list(cell)).all(axis=1)].set_index("seed")
        base = done[(done[keys] == [comparison.strategies[0], *cell[1:]]).all(axis=1)]
        row = dict(zip(keys, cell, strict=True)) | {"n": len(own)}
        for column in columns:
            values = own[column].astype("Float64").to_numpy(float, na_value=np.nan)
            row |= mean_and_ends(values, column)
        gain = (own["top1"] - base.set_index("seed")["top1"]).dropna().to_numpy(float)
        if cell[0] == comparison.strategies[0]:
            gain = gain[:0]
        row |= mean_and_ends(gain, "difference")
        row["p"] = stats.ttest_1samp(gain, 0).pvalue if len(gain) > 1 else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    tested = table["p"].notna()
    table.loc[tested, "p"] = holm(table.loc[tested, "p"].to_numpy())
    return table


def mean_and_ends(values: np.ndarray, name: str) -> dict[str, float]:
    mean = values.mean() if len(values) else np.nan
    half = np.nan
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def holm(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p)
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    out = np.empty_like(p)
    out[order] = np.minimum(steps, 1)
    return out


def failing(comparison: Comparison, name: str, seeds: tuple[int, ...], error: str) -> Comparison:
    """The comparison with failed runs of a strategy."""
    runs = comparison.runs.copy()
    lost = (runs["strategy"] == name) & runs["seed"].isin(seeds)
    runs.loc[lost, ["state", "error"]] = ["failed", error]
    known = {"strategy", "seed", "state", "error", "run", *comparison.axes}
    for column in [c for c in runs if c not in known]:
        if not pd.api.types.is_extension_array_dtype(runs[column]):
            runs[column] = runs[column].astype(float)
        runs.loc[lost, column] = pd.NA if column.endswith("_target") else np.nan
    curves = comparison.curves
    gone = (curves["strategy"] == name) & curves["seed"].isin(seeds)
    return dataclasses.replace(comparison, runs=runs, curves=curves[~gone])
