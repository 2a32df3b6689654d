"""`compare`: strategies on the same data with the same budget, tuned alike, over several seeds."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedsim.cli.studying import Jobs, Out, Preset, Seeds, resumable, told
from fedsim.errors import FedsimError

if TYPE_CHECKING:
    import pandas as pd

    from fedsim.studies.comparison import Comparison


def compare(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value for all, strategy:section.key=value for one"),
    ] = None,
    strategies: Annotated[
        str, typer.Option(help="comma-separated names; paired tests are against the first")
    ] = "fedavg,fedsgd",
    seeds: Seeds = 3,
    tune: Annotated[
        int, typer.Option(min=0, help="trials of the search for each cell; 0: none")
    ] = 0,
    axis: Annotated[
        list[str] | None, typer.Option(help="a config key and its values, as client.epochs=1,5")
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", help="where to search a key: client.lr=0.1,10, or fedsgd:optimizer.lr=1,30"
        ),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(help="top-1 recall on validation users to reach; default: what all reach"),
    ] = None,
    leakage: Annotated[
        bool, typer.Option("--leakage", help="attack each model for membership too")
    ] = False,
    checklist: Annotated[
        bool, typer.Option("--checklist", help="print what reproducibility checklists ask")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="train cells again that failed before")
    ] = False,
    preset: Preset = "compare",
    jobs: Jobs = 0,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Recall, cost and leakage of strategies, tuned alike: means over seeds, and paired tests."""
    from fedsim.report import comparison as report
    from fedsim.runs import new_run_folder
    from fedsim.studies import cells, contrasts
    from fedsim.studies.compare import Study, run_study

    names = cells.parse_strategies(strategies)
    axes = cells.parse_axes(axis or [])
    plan = cells.Plan(names, preset, tuple(overrides or ()), axes, tuple(ranges or ()))
    study = Study(plan, tuple(range(1, seeds + 1)), tune, target, leakage, retry)
    print(f"Compared are {study.cost(study.checked())}.", file=sys.stderr, flush=True)
    folder = out or new_run_folder("compare")
    with resumable(out, folder):
        found = run_study(study, folder, jobs, told)
    _say_failures(found)
    table = contrasts.summary(found)
    page = report.write_comparison(folder, found, table)
    if checklist:
        print(report.checklist(found))
    elif as_json:
        print(json.dumps(_as_json(found, table, report.findings(found, table), folder), indent=2))
    else:
        _show(found, table, report.findings(found, table))
        Console().print(f"report: {page}", highlight=False, soft_wrap=True)


def _say_failures(found: Comparison) -> None:
    """Each failed run on stderr. Raises FedsimError where nothing else is left."""
    failed = found.runs[found.runs.state == "failed"]
    for row in failed.to_dict("records"):
        at = [str(row["strategy"]), *(f"{axis}={row[axis]}" for axis in found.axes)]
        print(f"Failed: {', '.join(at)}, seed {row['seed']}: {row['error']}", file=sys.stderr)
    for said in found.made["not_measured"]:
        print(f"Not measured: {said}", file=sys.stderr)
    if len(failed) == len(found.runs):
        raise FedsimError("No run finished, so there is nothing to compare; see above.")
    if len(failed):
        print("They are kept as they are; the same command with --retry trains them again.",
              file=sys.stderr)  # fmt: skip


def _as_json(
    found: Comparison, table: pd.DataFrame, findings: list[str], folder: Path
) -> dict[str, Any]:
    tables = {"cells": table, "runs": found.runs, "chosen": found.chosen, "trials": found.trials}
    return {
        "target_top1": found.target,
        "findings": findings,
        **{
            name: json.loads(rows.to_json(orient="records", double_precision=15))
            for name, rows in tables.items()
        },
        "made": found.made,
        "folder": str(folder),
    }


def _show(found: Comparison, table: pd.DataFrame, findings: list[str]) -> None:
    console = Console()
    console.print(_results(found, table))
    for sentence in findings:
        console.print(sentence, highlight=False, soft_wrap=True)
    if len(found.chosen):
        console.print(_tuned(found))


def _results(found: Comparison, table: pd.DataFrame) -> Table:
    """A row a cell; costs up to the target, recall on test users."""
    shown = Table(
        title=f"Mean over seeds ± 95 %; target: {found.target:.2%} top-1 on validation users",
        title_justify="left",
    )
    for heading in ("strategy", *found.axes):
        shown.add_column(heading)
    last = [name for name in ("exposure_bits", "membership_auc") if name in table]
    headings = ["seeds", "top-1", f"to {found.strategies[0]}", "p", "worst tenth", "rounds",
                "fewer by", "uploaded", *(name.split("_")[0] for name in last)]  # fmt: skip
    for heading in headings:
        shown.add_column(heading, justify="right")
    slowest = table.rounds_to_target.max()
    for row in table.to_dict("records"):
        rounds = row["rounds_to_target"]
        shown.add_row(
            *(str(row[key]) for key in ("strategy", *found.axes)),
            str(row["n"]),
            _percent(row, "top1"),
            _percent(row, "difference", "+"),
            "" if math.isnan(row["p"]) else f"{row['p']:.3f}",
            _percent(row, "worst_decile_top1"),
            "not reached" if math.isnan(rounds) else f"{rounds:.0f}",
            "" if math.isnan(rounds) else f"{slowest / rounds:.1f}x",
            "" if math.isnan(rounds) else f"{row['bytes_to_target'] / 1e9:.2f} GB",
            *("" if math.isnan(row[name]) else f"{row[name]:.2f}" for name in last),
        )
    return shown


def _percent(row: dict[str, Any], name: str, sign: str = "") -> str:
    value, half = row[name], row[f"{name}_high"] - row[name]
    if math.isnan(value):
        return ""
    return f"{value:{sign}.2%}" + ("" if math.isnan(half) else f" ± {half:.2%}")


def _tuned(found: Comparison) -> Table:
    """What the searches chose of what."""
    from fedsim.studies.tuning import at_edge

    shown = Table(title=f"Chosen from {found.made['tuning']['trials']} trials each",
                  title_justify="left")  # fmt: skip
    for heading in ("strategy", *found.axes, "key", "searched", "chosen", ""):
        shown.add_column(heading, justify="right" if heading == "chosen" else "left")
    for row in found.chosen.to_dict("records"):
        low, high, value = row["low"], row["high"], row["value"]
        shown.add_row(
            *(str(row[key]) for key in ("strategy", *found.axes, "key")),
            f"{low:g} to {high:g}, log",
            f"{value:g}",
            "at the edge: widen --range" if at_edge(low, high, value) else "",
        )
    return shown
