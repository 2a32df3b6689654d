"""`compare`: the same federation under several strategies, rounds and bytes to a target."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def compare(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="section.key=value for all, strategy:section.key=value for one"),
    ] = None,
    strategies: Annotated[str, typer.Option(help="comma-separated names")] = "fedavg,fedsgd",
    preset: Annotated[str, typer.Option(help="a shipped preset, or a TOML file")] = "default",
    target: Annotated[
        float | None, typer.Option(help="top-1 recall to reach; default: what all reach")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder; the same command again continues what is in it")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Rounds, bytes and seconds that each strategy needs to reach the same recall."""
    from fedsim.runs import new_run_folder
    from fedsim.studies import compare as study

    names = [name.strip() for name in strategies.split(",") if name.strip()]
    configs = study.configs_for(names, preset, overrides or [])
    folder = out or new_run_folder("compare")
    try:
        runs = study.compare(configs, folder)
    except KeyboardInterrupt:
        _say_how_to_continue(folder, named=out is not None)
        raise typer.Exit(130) from None
    table = study.rounds_to_target(runs, target)
    if as_json:
        print(table.to_json(orient="records", indent=2, double_precision=15))
        return
    shown = Table(
        title=f"Rounds to {table.target_top1.iloc[0]:.2%} top-1 recall on validation users",
        title_justify="left",
    )
    for heading in ("strategy", "rounds", "fewer by", "uploaded", "seconds", "final top-1"):
        shown.add_column(heading, justify="left" if heading == "strategy" else "right")
    for row in table.itertuples():
        reached = str(row.rounds) != "<NA>"
        shown.add_row(
            row.strategy,
            str(row.rounds) if reached else "not reached",
            f"{row.speedup:.1f}x" if reached else "",
            f"{row.upload_bytes / 1e9:.2f} GB" if reached else "",
            f"{row.seconds:.0f}" if reached else "",
            f"{row.final_top1:.2%} (round {row.final_round})",
        )
    Console().print(shown)


def _say_how_to_continue(folder: Path, named: bool) -> None:
    """The same command again, with the folder if it was not named before."""
    again = [*sys.argv[1:], *([] if named else ["--out", str(folder)])]
    command = shlex.join(["python", "run_sim.py", *again])
    print(f"Interrupted; continue with: {command}", file=sys.stderr)
