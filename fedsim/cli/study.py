"""`privacy statement` and `privacy study`: what a run guarantees, and what privacy costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedsim.cli.studying import Jobs, Out, Preset, Seeds, resumable, told
from fedsim.consoles import print_report
from fedsim.errors import FedsimError
from fedsim.program import command

MANY_USERS = 5_000  # that are simulated where fewer are there


def statement(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """What a run guarantees to whom, against whom, and what it does not."""
    from fedsim.privacy.statement import as_text
    from fedsim.runs import Run

    said = Run.open(run).privacy
    if said is None:
        raise FedsimError(
            f"{run} ran without a privacy mechanism, so there is nothing to state; see `privacy` "
            f"among the keys of `{command('keys')}`."
        )
    print(json.dumps(said, indent=2) if as_json else as_text(said))


def study(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value for every cell")
    ] = None,
    epsilons: Annotated[str, typer.Option(help="budgets; inf is without noise")] = "inf,18,8,4,2,1",
    mechanisms: Annotated[
        str, typer.Option(help="dp-fedavg, adaptive, tree, sqrt, banded, blt")
    ] = "dp-fedavg,tree,banded,blt",
    seeds: Seeds = 3,
    clip_norms: Annotated[str, typer.Option(help="more than one are searched")] = "0.5",
    server_lrs: Annotated[str, typer.Option(help="more than one are searched")] = "0.7,2",
    report_users: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="simulate the noise of so many users; 0: of those there are. By default "
            f"{MANY_USERS:,} where fewer are there",
        ),
    ] = None,
    preset: Preset = "privacy",
    jobs: Jobs = 0,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Recall, perplexity and memorization against epsilon, mechanism by mechanism."""
    from fedsim.report.frontier import markdown, write_frontier
    from fedsim.runs import new_run_folder
    from fedsim.studies import frontier, frontier_results
    from fedsim.studies.comparison import GEOMETRIC

    folder = out or new_run_folder("privacy")
    frontier.check_overrides(overrides or [])
    points = frontier.parse_points(mechanisms, epsilons)
    tuning = frontier.Tuning(
        frontier.numbers(clip_norms, "--clip-norms"), frontier.numbers(server_lrs, "--server-lrs")
    )
    scale = frontier.reported(preset, tuple(overrides or ()), report_users, MANY_USERS)
    asked = frontier.Study(
        points, tuple(range(1, seeds + 1)), tuning, preset, (*(overrides or ()), *scale)
    )
    with resumable(out, folder):
        rows = frontier.run_study(asked, folder, jobs, told)
    table = frontier_results.summary(rows)
    said = frontier_results.findings(table, rows, bool(scale))
    needed = frontier_results.users_needed(table, frontier_results.noises_needed(rows))
    page = write_frontier(folder, rows, table, needed, said)
    if as_json:
        found = json.loads(table.to_json(orient="records", double_precision=15))
        made = {"findings": said, "geometric_means": list(GEOMETRIC), "points": found}
        print(json.dumps({**made, "folder": str(folder)}, indent=2))
        return
    for sentence in said:
        print(sentence)
    print(markdown(table, []))
    print_report(page)
