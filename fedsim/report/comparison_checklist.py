"""What reproducibility checklists of conferences ask, filled in from a comparison."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from fedsim.report.comparison_cells import Cells, shown
from fedsim.report.comparison_rows import BOLD, as_markdown, chosen
from fedsim.report.formats import count, duration, missing, size

AUTHOR = "**For the author:** "
UNKNOWN = AUTHOR + "not recorded; say it here."


def as_checklist(cells: Cells) -> str:
    """Markdown, a section a question; what a comparison cannot know is left to the author."""
    made = cells.comparison.made
    parts = (
        ("Claims", _claims(cells)),
        ("Data, splits and preprocessing", _data(made)),
        ("What was compared", _compared(cells)),
        ("Hyper-parameters", _search(cells)),
        ("Statistics", _statistics(cells)),
        ("Compute", _compute(cells)),
        ("Software, code and command", _software(made)),
        ("Left to the author", _author()),
    )
    text = "# Reproducibility checklist\n\nAfter the NeurIPS paper checklist and the machine "
    text += "learning reproducibility checklist (Pineau et al. 2021).\n"
    for title, lines in parts:
        text += f"\n## {title}\n\n" + "\n".join(lines) + "\n"
    return text


def _claims(cells: Cells) -> Iterator[str]:
    yield "- The findings are the sentences under *In short* of comparison.html and comparison.md."
    yield f"- {AUTHOR}do the claims of the paper say no more than those sentences?"


def _data(made: dict[str, Any]) -> Iterator[str]:
    corpus = _of(made, "corpus")
    yield f"- Data set: {_told(corpus)}"
    if isinstance(corpus, dict) and any(key in corpus for key in ("licence", "license")):
        yield f"- Licence of the data: {corpus.get('licence') or corpus.get('license')}"
    else:
        yield f"- Licence of the data: {UNKNOWN} `run_sim.py data show NAME` prints it."
    config = _of(made, "config")
    held = {k: v for k, v in config.items() if k == "data"} if isinstance(config, dict) else {}
    yield f"- Splits and preprocessing: {_told(held.get('data'))}"
    yield "- Users of the training, validation and test splits are different people; tuning and "
    yield "  the target use validation users, the scores test users."
    yield f"- {AUTHOR}how were the people who wrote the data asked, and what identifies them?"


def _compared(cells: Cells) -> Iterator[str]:
    compared, runs = cells.comparison, cells.comparison.runs
    yield f"- Strategies: {', '.join(compared.strategies)}; reference: {cells.reference}"
    for axis in compared.axes:
        yield f"- {axis}: {', '.join(dict.fromkeys(map(shown, runs[axis])))}"
    rounds = sorted({int(n) for n in runs["rounds"].dropna()})
    yield f"- Rounds of a run: {', '.join(f'{n:,}' for n in rounds) or UNKNOWN}"
    failed = len(cells.failed)
    yield f"- Runs: {len(runs)}, of which {failed} failed" + (
        "; they are listed in the report and in no mean" if failed else ""
    )


def _search(cells: Cells) -> Iterator[str]:
    compared = cells.comparison
    if compared.chosen.empty:
        yield "- No hyper-parameter was searched: all values are those of the config."
        return
    trials = compared.trials.groupby(["strategy", *compared.axes]).size()
    low, high = int(trials.min()), int(trials.max())
    told = count(low, "trial") if low == high else f"{low} to {high} trials"
    stopped = int((compared.trials["state"] != "finished").sum())
    yield f"- {told} a strategy{' and setting' if compared.axes else ''}, {len(compared.trials)} "
    yield f"  in all, of which {stopped} were stopped early or failed"
    yield "- Chosen: the trial with the highest top-1 on validation users; test users had no say"
    yield "- Ranges, on logarithmic axes, and final values:"
    yield ""
    yield as_markdown(chosen(cells))


def _statistics(cells: Cells) -> Iterator[str]:
    seeds = cells.comparison.seeds
    yield f"- Seeds: {', '.join(map(str, seeds))} ({len(seeds)})"
    if len(seeds) < 2:
        yield "- Error bars: none, since one seed shows no spread"
        return
    yield "- Error bars: 95 % interval of the mean over seeds, Student's t; a seed draws anew what "
    yield "  training leaves to chance (weights, users of each round), on the same data"
    yield f"- Test: paired t-test by seed against {cells.reference} at the same axes; p adjusted "
    yield "  by Holm over the comparisons of the table"
    yield f"- {BOLD}"


def _compute(cells: Cells) -> Iterator[str]:
    made, runs = cells.comparison.made, cells.comparison.runs
    seconds = _of(made, "compute_seconds")
    if not missing(seconds):
        yield f"- Compute in all, tuning included: {duration(float(seconds))}"
    known = runs["seconds"].dropna()
    if len(known):
        yield f"- The runs of the table: {duration(float(known.sum()))} in all, "
        yield f"  {duration(float(known.mean()))} each on average"
    for key, name in (("platform", "Machine"), ("machine", "Machine"), ("cpus", "Cores")):
        if _of(made, key) is not None:
            yield f"- {name}: {_told(_of(made, key))}"
    upload = runs["upload_bytes"].dropna()
    if len(upload):
        yield f"- Uploaded by all simulated clients of a run: {size(upload.mean())} on average"
    yield f"- {AUTHOR}compute of experiments that the paper does not report."


def _software(made: dict[str, Any]) -> Iterator[str]:
    git = _of(made, "git") or {}
    commit = _of(made, "commit") or git.get("commit")
    changed = ", with changes that are not committed" if git.get("changed") else ""
    yield f"- Code: commit {commit}{changed}" if commit else f"- Code: {UNKNOWN}"
    command = _of(made, "command")
    if isinstance(command, list | tuple):
        command = shlex.join(map(str, command))
    yield f"- Command: `{command}`" if command else f"- Command: {UNKNOWN}"
    for key in ("fedsim", "python"):
        if _of(made, key):
            yield f"- {key} {_of(made, key)}"
    packages = _of(made, "packages") or _of(made, "versions") or {}
    yield f"- Versions: {_told(packages)}"
    yield "- All measured values: runs.parquet and curves.parquet beside the report"


def _author() -> Iterator[str]:
    yield f"- {AUTHOR}limitations of the work, and of this data set for the question."
    yield f"- {AUTHOR}where code and data can be had, and under which licence the code is."
    yield f"- {AUTHOR}risks of what is published, and what was done about them."


def _of(made: dict[str, Any], key: str) -> Any:
    return made.get(key)


def _told(value: Any) -> str:
    """A nested record in one line."""
    if value is None or value == {} or value == "":
        return UNKNOWN
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_inner(v)}" for k, v in value.items())
    return str(value)


def _inner(value: Any) -> str:
    return f"({_told(value)})" if isinstance(value, dict) and value else str(value)
