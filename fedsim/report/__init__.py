"""The report of a run: one HTML file that needs nothing from outside."""

from __future__ import annotations

from pathlib import Path

from fedsim.files import remove_temporaries, write_atomically
from fedsim.runs import Run
from fedsim.showing import shown


def write_report(run: Run, unmask: bool = False) -> Path:
    """Write `report.html` into the run's folder and return its path.

    Reads the folder only, so it works for a run that was interrupted or is still going; the same
    folder gives the same bytes. unmask: show what people typed and a leakage measure got out of
    the model, which is masked otherwise.
    """
    # matplotlib and jinja2 take a second to import, which only a report should pay.
    from fedsim.report.page import render

    path = run.path / "report.html"
    remove_temporaries(run.path, path.name)
    write_atomically(path, shown(render(run, unmask)).encode("utf-8"))
    return path
