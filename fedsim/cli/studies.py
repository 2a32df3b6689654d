"""`study`: several runs that answer one question, with intervals over seeds and a report."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
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


@app.command("memorization")
def memorization(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value for every cell")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs of each setting")] = 3,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="of each federated run; by default the preset's")
    ] = None,
    epsilon: Annotated[float, typer.Option(help="budget of the private setting")] = 8.0,
    clip_norm: Annotated[float, typer.Option(help="of the private setting")] = 0.5,
    private_lr: Annotated[float, typer.Option(help="server's, in the private setting")] = 2.0,
    report_users: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="simulate the noise of so many users; 0: of those there are. By default 20,000 "
            "where fewer are there",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="a shipped preset, or a TOML file")] = "memorization",
    jobs: Annotated[int, typer.Option(min=0, help="cells at a time; 0: one a core")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="folder; cells in it are not trained again, tables are those of the last command"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Exposure by users and copies: central training, FedAvg IID, FedAvg by user, user-level DP."""
    from fedsim.report.memorization import as_text, findings, write_memorization
    from fedsim.runs import new_run_folder
    from fedsim.studies import memorization as study

    folder = out or new_run_folder("memorization")
    study.check_overrides(overrides or [])
    own = (*(overrides or ()), *([f"server.rounds={rounds}"] if rounds else []))
    private = study.Private(epsilon, clip_norm, private_lr, report_users)
    asked = study.Study(tuple(range(1, seeds + 1)), private, preset, own)
    try:
        canaries, runs = study.run_study(asked, folder, jobs, told)
    except KeyboardInterrupt:
        again = [*sys.argv[1:], *([] if out else ["--out", str(folder)])]
        command = shlex.join(["python", "run_sim.py", *again])
        print(f"Interrupted; continue with: {command}", file=sys.stderr)
        raise typer.Exit(130) from None
    found = study.Outcome.of(canaries, runs)
    page = write_memorization(folder, found, asked.private)
    if as_json:
        tables = {"settings": found.settings, "grid": found.grid}
        print(
            json.dumps(
                {
                    "verdict": found.verdict(),
                    "findings": findings(found, asked.private),
                    "differences": [asdict(d) | {"verdict": d.verdict} for d in found.differences],
                    **{name: json.loads(t.to_json(orient="records")) for name, t in tables.items()},
                    "folder": str(folder),
                },
                indent=2,
            )
        )
        return
    print(as_text(found, asked.private))
    Console().print(f"report: {page}", highlight=False, soft_wrap=True)


def told(name: str, done: int, of: int) -> None:
    """Says which cell is done."""
    print(f"{done}/{of}  {name}", file=sys.stderr, flush=True)
