"""`study`: several runs that answer one question, with intervals over seeds and a report."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from fedsim.cli.studying import Jobs, Out, Preset, Seeds, resumable, told
from fedsim.cli.train import Json, Overrides, pretrain_key
from fedsim.consoles import print_report

app = typer.Typer(help="Several runs that answer one question, with intervals over seeds.")


@app.callback()
def root() -> None:
    """Keeps the commands' names even while there is only one."""


@app.command()
def finetuning(
    pretrain: Annotated[str, typer.Option(help="the first corpus: a data set, or your file")],
    overrides: Overrides = None,
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
    asked = study.Study(tuple(range(1, seeds + 1)), preset, keys)
    with resumable(out, folder):
        rows = study.run_study(asked, folder, jobs, told)
    points = study.curve(rows)
    said = study.findings(points, PREFIXES)
    page = write_finetuning(folder, rows, points, said)
    if as_json:
        found = json.loads(points.to_json(orient="records", double_precision=15))
        print(json.dumps({"findings": said, "points": found, "folder": str(folder)}, indent=2))
        return
    for sentence in said:
        print(sentence)
    print_report(page)


@app.command("memorization")
def memorization(
    overrides: Overrides = None,
    seeds: Seeds = 3,
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
    preset: Preset = "memorization",
    jobs: Jobs = 0,
    out: Out = None,
    as_json: Json = False,
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
    with resumable(out, folder):
        canaries, runs = study.run_study(asked, folder, jobs, told)
    found = study.Outcome.of(canaries, runs)
    page = write_memorization(folder, found, asked.private)
    if as_json:
        tables = {"settings": found.settings, "grid": found.grid}
        print(
            json.dumps(
                {
                    "verdict": found.verdict(),
                    "findings": findings(found, asked.private),
                    "geometric_means": list(study.GEOMETRIC),
                    "differences": [asdict(d) | {"verdict": d.verdict} for d in found.differences],
                    **{name: json.loads(t.to_json(orient="records")) for name, t in tables.items()},
                    "folder": str(folder),
                },
                indent=2,
            )
        )
        return
    print(as_text(found, asked.private))
    print_report(page)
