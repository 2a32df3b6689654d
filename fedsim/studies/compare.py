"""Rounds and bytes to a target recall, strategy by strategy (McMahan et al. 2017, table 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.runs import Run
from fedsim.simulation import resume, simulate


def configs_for(
    strategies: Sequence[str], preset: str, overrides: Sequence[str]
) -> dict[str, Config]:
    """One config a strategy. An override `fedsgd:optimizer.lr=4` goes to that strategy only."""
    if not strategies:
        raise FedsimError("--strategies names none; give at least one, such as fedavg,fedsgd.")
    out: dict[str, Config] = {}
    for strategy in strategies:
        if strategy in out:
            raise FedsimError(f"--strategies names '{strategy}' twice; leave one out.")
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
    """Run every config into a folder of its own below `folder`.

    Finished runs of the same config are kept and unfinished ones are continued, so the same call
    again goes on with a comparison that was interrupted.
    """
    for name, config in configs.items():  # all of them, before any is trained
        path = folder / name
        if _exists(path) and Run.open(path).config.identity() != config.identity():
            raise FedsimError(f"{path} holds a run of another config; choose another --out.")
    return {name: _run(config, folder / name, quiet) for name, config in configs.items()}


def _run(config: Config, path: Path, quiet: bool) -> Run:
    if not _exists(path):
        return simulate(config, path, quiet)
    run = Run.open(path)
    return run if run.status["state"] == "finished" else resume(path, quiet, config.engine)


def _exists(path: Path) -> bool:
    return (path / "status.json").is_file()


def rounds_to_target(
    runs: dict[str, Run], target: float | None = None, split: str = "validation"
) -> pd.DataFrame:
    """One row a strategy: first evaluated round with top-1 recall >= target, and what it cost.

    By default the target is the lowest of the strategies' final recalls, which all of them reach.
    `speedup` is the rounds of the slowest strategy over the row's own.
    """
    tables = {name: run.evaluations for name, run in runs.items()}
    curves = {name: table[table["split"] == split] for name, table in tables.items()}
    if not curves:
        raise FedsimError("There is no run to compare; give at least one.")
    for name, curve in curves.items():
        if curve.empty:
            raise FedsimError(
                f"{runs[name].path} was never scored on {split} users, so it cannot be compared; "
                f"continue it with `resume {runs[name].path}`."
            )
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
