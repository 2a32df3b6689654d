"""`compare`: strategies on the same data with the same budget, tuned alike, over several seeds."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fedsim.cli.studying import Jobs, Out, Preset, Seeds, resumable, told
from fedsim.consoles import new_console, print_report
from fedsim.errors import FedsimError

if TYPE_CHECKING:
    import pandas as pd

    from fedsim.studies.comparison import Comparison, Target


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
        str | None,
        typer.Option(
            help="count rounds and bytes to a top-1 recall on validation users: a share between 0 "
            "and 1, or 'all' for what all runs reach",
        ),
    ] = None,
    leakage: Annotated[
        bool, typer.Option("--leakage", help="attack each model for membership too")
    ] = False,
    checklist: Annotated[
        bool, typer.Option("--checklist", help="also print checklist.md, what conferences ask")
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
    from fedsim.files import write_atomically
    from fedsim.report.comparison import checklist as checklist_of
    from fedsim.report.comparison import findings, write_comparison
    from fedsim.runs import new_run_folder
    from fedsim.studies import cells, contrasts
    from fedsim.studies.compare import Study, run_study
    from fedsim.studies.server_optimizers import sentence, server_optimizers

    goal = _target(target)
    names = cells.parse_strategies(strategies)
    axes = cells.parse_axes(axis or [])
    plan = cells.Plan(names, preset, tuple(overrides or ()), axes, tuple(ranges or ()))
    study = Study(plan, tuple(range(1, seeds + 1)), tune, goal, leakage, retry)
    asked = study.checked()
    print(f"Compared are {study.cost(asked)}.", file=sys.stderr)
    print(sentence(server_optimizers(plan, asked)), file=sys.stderr, flush=True)
    folder = out or new_run_folder("compare")
    with resumable(out, folder):
        _say_replaced(folder)
        found = run_study(study, folder, jobs, told)
    _say_failures(found)
    table = contrasts.summary(found)
    page = write_comparison(folder, found, table)
    asked_by_conferences = checklist_of(found)
    write_atomically(folder / "checklist.md", asked_by_conferences.encode())
    if as_json:
        print(json.dumps(_as_json(found, table, findings(found, table), folder), indent=2))
        return
    _show(found, table, findings(found, table))
    print_report(page)
    if checklist:
        print(f"\n{asked_by_conferences}")


def _target(text: str | None) -> Target:
    """Of --target. Raises FedsimError for what is none."""
    from fedsim.studies.comparison import ALL_REACH

    if text is None or text == ALL_REACH:
        return ALL_REACH if text else None
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise FedsimError(
            f"--target {text} is not accepted: it is a share between 0 and 1, or 'all'; write 0.12 "
            "for 12 %."
        )
    return share


def _say_replaced(folder: Path) -> None:
    page = folder / "comparison.html"
    if page.exists():
        print(f"{page} is of an earlier call: page and tables are replaced by this one's, and "
              "finished runs stay.", file=sys.stderr, flush=True)  # fmt: skip


def _say_failures(found: Comparison) -> None:
    """Each failed run on stderr. Raises FedsimError where nothing else is left."""
    failed = found.runs[found.runs.state == "failed"]
    for row in failed.to_dict("records"):
        about = f"{_name(found, row)}, seed {row['seed']}"
        print(f"Failed: {about}: {row['error']}", file=sys.stderr)
    for said in found.made["not_measured"]:
        print(said, file=sys.stderr)
    if len(failed) == len(found.runs):
        raise FedsimError("No run finished, so there is nothing to compare; see above.")
    if len(failed):
        print("They are kept as they are; the same command with --retry trains them again.",
              file=sys.stderr)  # fmt: skip


def _as_json(
    found: Comparison, table: pd.DataFrame, findings: list[str], folder: Path
) -> dict[str, Any]:
    from fedsim.studies.comparison import GEOMETRIC

    tables = {"cells": table, "runs": found.runs, "chosen": found.chosen, "trials": found.trials,
              "privacy": found.privacy}  # fmt: skip
    return {
        "target_top1": found.target,
        "findings": findings,
        "geometric_means": list(GEOMETRIC),
        **{
            name: json.loads(rows.to_json(orient="records", double_precision=15))
            for name, rows in tables.items()
        },
        "made": found.made,
        "folder": str(folder),
    }


def _show(found: Comparison, table: pd.DataFrame, findings: list[str]) -> None:
    console = new_console()
    console.print(_recalls(found, table))
    console.print(_costs(found, table))
    for sentence in findings:
        console.print(sentence, soft_wrap=True)
    if len(found.chosen):
        console.print(_tuned(found))


def _recalls(found: Comparison, table: pd.DataFrame) -> Table:
    """On test users, a row a cell."""
    shown = Table(title="Top-1 recall on test users: means over seeds ± 95 %", title_justify="left")
    for heading in ("", "seeds", "top-1", f"to {found.strategies[0]}", "p", "worst tenth"):
        shown.add_column(heading, justify="right" if heading else "left")
    for row in table.to_dict("records"):
        shown.add_row(
            _name(found, row),
            str(row["n"]),
            _percent(row, "top1"),
            _percent(row, "difference", "+"),
            "" if math.isnan(row["p"]) else f"{row['p']:.3f}",
            _percent(row, "worst_decile_top1"),
        )
    return shown


def _costs(found: Comparison, table: pd.DataFrame) -> Table:
    """Up to the target where there is one, else of the whole run, a row a cell; and what leaked,
    where it was measured."""
    title = "What a run costs: means over seeds"
    if found.target is not None:
        title = f"To {found.target:.2%} top-1 recall on validation users: means over seeds"
    shown = Table(title=title, title_justify="left")
    leaked = {"exposure_bits": "exposure, bits", "membership_auc": "membership AUC"}
    leaked = {name: heading for name, heading in leaked.items() if name in table}
    fewer = [] if found.target is None else ["fewer by"]
    for heading in ("", "rounds", *fewer, "sent up", "sent down", "seconds", *leaked.values()):
        shown.add_column(heading, justify="right" if heading else "left")
    for row in table.to_dict("records"):
        last = [_figure(row["seconds"], 0), *(_figure(row[name], 2) for name in leaked)]
        shown.add_row(_name(found, row), *_cost(found, table, row), *last)
    return shown


def _cost(found: Comparison, table: pd.DataFrame, row: dict[str, Any]) -> list[str]:
    """Rounds and bytes of a cell."""
    from fedsim.report.formats import size

    if found.target is None:
        sent = (size(row[f"{way}_bytes"]) for way in ("upload", "download"))
        return [_figure(row["rounds"], 1), *sent]
    rounds = row["rounds_to_target"]
    if math.isnan(rounds):
        return ["not reached by all", "", "", ""]
    sent = (size(row[f"{way}_to_target"]) for way in ("bytes", "download"))
    return [f"{rounds:.1f}", f"{table.rounds_to_target.max() / rounds:.1f}x", *sent]


def _tuned(found: Comparison) -> Table:
    """What the searches chose of what."""
    from fedsim.report.comparison_findings import at_edge

    tuning = found.made["tuning"]
    drawn = ", a Poisson number of them with a mechanism" if tuning.get("private") else ""
    title = f"Chosen, from {tuning['trials']} trials each{drawn}"
    shown = Table(title=title, title_justify="left")
    for heading in ("", "key", "searched", "chosen"):
        shown.add_column(heading, justify="right" if heading == "chosen" else "left")
    for row in found.chosen.to_dict("records"):
        low, high, value = row["low"], row["high"], row["value"]
        edge = ", at the edge: widen --range" if at_edge(value, low, high) else ""
        searched = f"{low:g} to {high:g}, log"
        shown.add_row(_name(found, row), row["key"], searched, f"{value:g}{edge}")
    return shown


def _name(found: Comparison, row: dict[str, Any]) -> str:
    """A cell, for people."""
    from fedsim.report.comparison_cells import short

    at = (f"{short(axis)}={row[axis]}" for axis in found.axes)
    return ", ".join([str(row["strategy"]), *at])


def _figure(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def _percent(row: dict[str, Any], name: str, sign: str = "") -> str:
    value, half = row[name], row[f"{name}_high"] - row[name]
    if math.isnan(value):
        return ""
    return f"{value:{sign}.2%}" + ("" if math.isnan(half) else f" ± {half:.2%}")
