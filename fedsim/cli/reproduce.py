"""`reproduce`: a published finding on data that is here, judged by a rule said beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from fedsim.cli.studying import Jobs, Out, resumable, told
from fedsim.cli.train import Json
from fedsim.consoles import new_console, print_report
from fedsim.errors import FedsimError
from fedsim.program import quoted

if TYPE_CHECKING:
    from fedsim.studies.findings.base import Finding

LIST, ALL = "list", "all"
Seeds = Annotated[
    int | None, typer.Option(min=1, help="runs of each cell; by default what the finding needs")
]


def reproduce(
    name: Annotated[str, typer.Argument(help="a finding; `list` says which there are; or `all`")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="section.key=value for every cell")
    ] = None,
    seeds: Seeds = None,
    jobs: Jobs = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Repeat a published finding in shape, beside the paper's figures, with an honest verdict."""
    from fedsim.runs import new_run_folder
    from fedsim.studies.findings import FINDINGS

    if name == LIST:
        if overrides or seeds or out:
            raise FedsimError("`reproduce list` trains nothing: leave keys, --seeds, --out out.")
        _list(as_json)
        return
    findings = {key: FINDINGS[key]() for key in (FINDINGS if name == ALL else [name])}
    if name == ALL and overrides:
        raise FedsimError("Overrides are for one finding: name it instead of `all`.")
    for finding in findings.values():
        finding.check(overrides or [])
    folder = out or new_run_folder(f"reproduce-{name}")
    found = []
    with resumable(out, folder):
        for key, finding in findings.items():
            place = folder / key if name == ALL else folder
            found.append(_one(key, finding, tuple(overrides or ()), seeds, jobs, place, as_json))
    if as_json:
        print(json.dumps(found if name == ALL else found[0], indent=2))
    elif name == ALL:
        for one in found:
            print(f"{one['finding']:<12} {one['verdict']}")


def _one(
    name: str,
    finding: Finding,
    overrides: tuple[str, ...],
    seeds: int | None,
    jobs: int,
    folder: Path,
    quiet: bool,
) -> dict[str, Any]:
    """Say the rule, train, judge, write; quiet prints nothing on stdout."""
    from fedsim.report.reproduction import table, write_reproduction
    from fedsim.studies.findings.base import Asked
    from fedsim.studies.origin import origin_of_all

    asked = Asked(tuple(range(1, (seeds or finding.seeds) + 1)), overrides)
    finding.cells(asked)  # what is wrong with a key is said before the rule
    if not quiet:
        _announce(name, finding)
    measured = finding.measure(asked, folder, jobs, told)
    outcome = finding.judge_asked(measured.rows, asked)
    many = f"Seeds 1 to {len(asked.seeds)}" if len(asked.seeds) > 1 else "Seed 1"
    own = (
        f", with {' '.join(map(quoted, overrides))}: not the settings that the finding is about"
        if overrides
        else ", at the finding's own settings"
    )
    made = origin_of_all(measured.runs, measured.trials, jobs) | {
        "preset": finding.preset,
        "seeds": list(asked.seeds),
        "overrides": list(overrides),
    }
    page = write_reproduction(folder, name, finding, measured, outcome, f"{many}{own}.", made)
    if not quiet:
        print(f"\n{table(outcome.table)}\n")
        if outcome.note:
            print(f"{outcome.note}\n")
        for sentence in outcome.sentences:
            print(sentence)
        print(f"\nVerdict: {outcome.verdict}")
        print_report(page)
    return {
        "finding": name,
        "verdict": outcome.verdict,
        "findings": list(outcome.sentences),
        "table": outcome.table.to_dict("records"),
        "note": outcome.note,
        "folder": str(folder),
        "made": made,
    }


def _announce(name: str, finding: Finding) -> None:
    print(f"{name}: {finding.title}")
    print(f"Claim: {finding.claim}")
    print(f"Source: {finding.citation}")
    for figure in finding.published:
        print(f"  the paper: {figure.what}: {figure.value} ({figure.source})")
    print(f"Rule: {finding.rule}")
    print(
        f"Took {finding.cost} with version 0.1.0; what is trained already takes none.", flush=True
    )


def _list(as_json: bool) -> None:
    from fedsim.studies.findings import FINDINGS

    if as_json:
        print(json.dumps([_described(name, FINDINGS[name]) for name in FINDINGS], indent=2))
        return
    console = new_console()
    for name in FINDINGS:
        finding = FINDINGS[name]
        console.print(f"{name}: {finding.title}", style="bold")
        for text in (
            finding.claim,
            f"Rule: {finding.rule}",
            f"Took {finding.cost} with version 0.1.0.",
        ):
            console.print(Padding(Text(text), (0, 0, 0, 2)))


def _described(name: str, finding: type[Finding]) -> dict[str, Any]:
    keys = ("title", "citation", "claim", "rule", "cost", "seeds")
    figures = [vars(figure) for figure in finding.published]
    return {"finding": name, **{key: getattr(finding, key) for key in keys}, "published": figures}
