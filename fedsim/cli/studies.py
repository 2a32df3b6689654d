"""`study`: several runs that answer one question, with intervals over seeds and a report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedsim.cli.train import Json, Overrides, pretrain_key

app = typer.Typer(help="Several runs that answer one question, with intervals over seeds.")

Seeds = Annotated[int, typer.Option(min=1, help="runs of each cell")]
Jobs = Annotated[int, typer.Option(min=0, help="cells at a time; 0: one a core")]
Out = Annotated[Path | None, typer.Option(help="folder; cells in it are not trained again")]
Preset = Annotated[str, typer.Option(help="a shipped preset, or a TOML file")]


@app.callback()
def root() -> None:
    """Keeps the commands' names even while there is only one."""


@app.command()
def finetuning(
    overrides: Overrides = None,
    pretrain: Annotated[
        str, typer.Option(help="the first corpus: a data set, or your file")
    ] = "synthetic",
    seeds: Seeds = 3,
    preset: Preset = "default",
    jobs: Jobs = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """How much of a first corpus can be extracted while federated rounds train on a second."""
    from fedsim.leakage.forgetting import PREFIXES
    from fedsim.report.finetuning import write_finetuning
    from fedsim.runs import new_run_folder
    from fedsim.studies import finetuning as study

    folder = out or new_run_folder("finetuning")
    keys = (pretrain_key(pretrain), *(overrides or ()))
    rows = study.run_study(
        study.Study(tuple(range(1, seeds + 1)), preset, keys), folder, jobs, told
    )
    points = study.curve(rows)
    said = study.findings(points, PREFIXES)
    page = write_finetuning(folder, rows, points, said)
    if as_json:
        found = json.loads(points.to_json(orient="records", double_precision=15))
        print(json.dumps({"findings": said, "points": found, "folder": str(folder)}, indent=2))
        return
    for sentence in said:
        print(sentence)
    Console().print(f"report: {page}", highlight=False, soft_wrap=True)


def told(name: str, done: int, of: int) -> None:
    """Says which cell is done."""
    print(f"{done}/{of}  {name}", file=sys.stderr, flush=True)
