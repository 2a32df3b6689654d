"""`report RUN`: write a run's report anew, also for one that was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedsim.runs import Run


def report(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write report.html into the run's folder: one file with plots, to read or to send."""
    from fedsim.report import write_report

    path = write_report(Run.open(run))
    print(json.dumps({"report": str(path)}, indent=2) if as_json else path)
