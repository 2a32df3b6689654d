"""`report RUN`: write a run's report and its Parquet tables, also for an interrupted one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fedsim.cli.show import how_to_continue

UNMASK = "show people's sentences that came out of the model in words: give nobody such a report"


def report(
    run: Annotated[Path, typer.Argument(help="the run's folder")],
    unmask: Annotated[bool, typer.Option("--unmask", help=UNMASK)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Write report.html into the run's folder: one file with plots, to read or to send.

    The tables are written as Parquet too, as at the end of a run.
    """
    from fedsim.report import write_report
    from fedsim.runs import Run

    opened = Run.open(run)
    path = write_report(opened, unmask)
    opened.export_tables()
    print(json.dumps({"report": str(path)}, indent=2) if as_json else path)
    if opened.status["state"] != "finished":
        print(how_to_continue(opened), file=sys.stderr)
