"""Rounds and bytes to a target recall, strategy by strategy (McMahan et al. 2017, table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.simulate import simulate


def configs_for(
    strategies: Sequence[str], preset: str, overrides: Sequence[str]
) -> dict[str, Config]:
    """One config a strategy. An override `fedsgd:optimizer.lr=4` goes to that strategy only."""
    out = {}
    for strategy in strategies:
        keys = [f"strategy={strategy}"]
        for override in overrides:
            target, colon, key = override.partition(":")
            if not colon or "=" in target:
                keys.append(override)
            elif target == strategy:
                keys.append(key)
            elif target not in strategies:
                raise FedsimError(
                    f"'{override}' is for strategy '{target}', which is not among --strategies."
                )
        out[strategy] = load(preset, keys)
    return out


def compare(configs: dict[str, Config], folder: Path, quiet: bool = False) -> dict[str, Run]:
    """Run every config into a folder of its own below `folder`; finished runs are kept."""
    runs = {}
    for name, config in configs.items():
        path = folder / name
        if (path / "status.json").is_file():
            run = Run.open(path)
            if run.config.identity() != config.identity():
                raise FedsimError(f"{path} holds a run of another config; choose another --out.")
            if run.status["state"] == "finished":
                runs[name] = run
                continue
            raise FedsimError(f"{path} is not finished; continue it with `resume {path}` first.")
        runs[name] = simulate(config, path, quiet)
    return runs


def rounds_to_target(
    runs: dict[str, Run], target: float | None = None, split: str = "validation"
) -> pd.DataFrame:
    """One row a strategy: first evaluated round with top-1 recall >= target, and what it cost.

    By default the target is the lowest of the strategies' final recalls, which all of them reach.
    `speedup` is the rounds of the slowest strategy over the row's own.
    """
    tables = {name: run.evaluations for name, run in runs.items()}
    curves = {name: table[table["split"] == split] for name, table in tables.items()}
    if target is None:
        target = min(float(curve.top1_recall.iloc[-1]) for curve in curves.values())
    rows = []
    for name, curve in curves.items():
        reached = curve[curve.top1_recall >= target]
        first = int(reached["round"].iloc[0]) if len(reached) else None
        rounds = runs[name].rounds
        spent = rounds[rounds["round"] <= first] if first is not None else rounds.iloc[:0]
        rows.append(
            {
                "strategy": name,
                "target_top1": target,
                "rounds": first,
                "tokens": int(spent.tokens.sum()),
                "upload_bytes": int(spent.upload_bytes.sum()),
                "seconds": float(spent.seconds.sum()),
                "final_top1": float(curve.top1_recall.iloc[-1]),
                "final_round": int(curve["round"].iloc[-1]),
            }
        )
    table = pd.DataFrame(rows)
    table["rounds"] = table["rounds"].astype("Int64")
    slowest = table["rounds"].max()
    table["speedup"] = (slowest / table["rounds"]).astype("Float64")
    return table
