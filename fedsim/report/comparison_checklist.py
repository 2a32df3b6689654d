"""What reproducibility checklists of conferences ask, filled in from a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedsim.program import command_for_pages, quoted
from fedsim.report.comparison_cells import Cells, shown
from fedsim.report.comparison_findings import privacy, selected_privately
from fedsim.report.comparison_rows import BOLD, as_markdown, chosen
from fedsim.report.formats import count, duration, missing, size
from fedsim.studies.comparison import Comparison
from fedsim.studies.origin import SECONDS, reservations

AUTHOR = "**For the author:** "
MACHINE = {
    "platform": "Machine",
    "machine": "Machine",
    "cpus": "Cores of the machine",
    "cores": "Cores that were allowed",
    "jobs": "Processes at a time",
    "kernel": "Training kernel",
}
UNKNOWN = AUTHOR + "not recorded; say it here."


def as_checklist(cells: Cells) -> str:
    """Markdown, a section a question; what a comparison cannot know is left to the author."""
    made = cells.comparison.made
    parts = (
        ("Claims", _claims(cells)),
        ("Data, splits and preprocessing", _data(made)),
        ("What was compared", _compared(cells)),
        ("Hyper-parameters", _search(cells)),
        ("Privacy", _privacy(cells)),
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
    corpus = made.get("corpus") or {}
    about = {key: value for key, value in corpus.items() if key not in ("licence", "citation")}
    yield f"- Data set: {_told(about)}"
    licence = (
        corpus.get("licence")
        or f"{UNKNOWN} `{command_for_pages('data', 'show', 'NAME')}` prints it."
    )
    yield f"- Licence of the data: {licence}"
    if corpus.get("citation"):
        yield f"- Citation of the data: {corpus['citation']}"
    yield f"- Splits and preprocessing: {_told(made.get('data'))}"
    yield (
        "- Users of the training, validation and test splits are different people; tuning and the "
        "target use validation users, the scores test users."
    )
    yield f"- {AUTHOR}how were the people who wrote the data asked, and what identifies them?"


def _compared(cells: Cells) -> Iterator[str]:
    compared, runs = cells.comparison, cells.comparison.runs
    yield f"- Strategies: {', '.join(compared.strategies)}; reference: {cells.reference}"
    for axis in compared.axes:
        yield f"- {axis}: {', '.join(dict.fromkeys(map(shown, runs[axis])))}"
    rounds = sorted({int(n) for n in cells.all_values("rounds")})
    yield f"- Rounds of a run: {', '.join(f'{n:,}' for n in rounds) or UNKNOWN}"
    failed = len(cells.failed)
    yield f"- Runs: {len(runs)}, of which {failed} failed" + (
        "; they are listed in the report and in no mean" if failed else ""
    )


def _search(cells: Cells) -> Iterator[str]:
    compared = cells.comparison
    if private := selected_privately(compared):
        yield f"- {private}"
    elif compared.trials.empty:
        yield "- No hyper-parameter was searched: all values are those of the config."
        return
    if not compared.trials.empty:
        yield from _open_search(compared)
    yield "- Chosen: the trial with the highest top-1 on validation users; test users had no say"
    yield "- Ranges, on logarithmic axes, and final values:"
    yield ""
    yield as_markdown(chosen(cells)) if len(compared.chosen) else "No trial finished."


def _open_search(compared: Comparison) -> Iterator[str]:
    trials = compared.trials.groupby(["strategy", *compared.axes]).size()
    low, high = int(trials.min()), int(trials.max())
    told = count(low, "trial") if low == high else f"{low} to {high} trials"
    states = compared.trials["state"]
    stopped, failed = (int((states == state).sum()) for state in ("stopped", "failed"))
    yield (
        f"- {told} a strategy{' and setting' if compared.axes else ''}, {len(compared.trials)} in "
        f"all, of which {stopped} were stopped early and {failed} failed"
    )
    tuning = compared.made.get("tuning")
    if tuning:
        yield f"- How the search went: {_told(tuning)}"


def _privacy(cells: Cells) -> Iterator[str]:
    told = list(privacy(cells))
    if not told:
        yield "- No cell has a privacy mechanism, so nothing is guaranteed to anybody."
    for sentence in told:
        yield f"- {sentence}"


def _statistics(cells: Cells) -> Iterator[str]:
    seeds = cells.comparison.seeds
    yield f"- Seeds: {', '.join(map(str, seeds))} ({len(seeds)})"
    if len(seeds) < 2:
        yield "- Error bars: none, since one seed shows no spread"
        return
    yield (
        "- Error bars: 95 % interval of the mean over seeds, Student's t, of perplexity on its "
        "logarithm; a seed draws anew what training leaves to chance (first weights, users of each "
        "round), on the same data, and is the same draw for every strategy"
    )
    yield (
        f"- Test: paired t-test by seed against {cells.reference} at the same axes; p adjusted by "
        "Holm over the comparisons of the table"
    )
    yield f"- {BOLD}"


def _compute(cells: Cells) -> Iterator[str]:
    made = cells.comparison.made
    for key, name in (("compute_seconds", "Compute in all, tuning included"),
                      ("tuning_seconds", "Of that for tuning")):  # fmt: skip
        if not missing(made.get(key)):
            hours = float(made[key]) / 3600
            yield f"- {name}: {hours:,.2f} hours"
    yield f"- {SECONDS}"
    known = cells.all_values("seconds")
    if len(known):
        yield (
            f"- Training of the runs in the table: {duration(float(known.sum()))} in all, "
            f"{duration(float(known.mean()))} each on average"
        )
    for key, name in MACHINE.items():
        if made.get(key) is not None:
            yield f"- {name}: {_told(made[key])}"
    upload = cells.all_values("upload_bytes")
    if len(upload):
        yield f"- Uploaded by all simulated clients of a run: {size(upload.mean())} on average"
    yield f"- {AUTHOR}compute of experiments that the paper does not report."


def _software(made: dict[str, Any]) -> Iterator[str]:
    git = made.get("git") or {}
    commit = made.get("commit") or git.get("commit")
    changed = ", with changes that are not committed" if git.get("changed") else ""
    yield f"- Code: commit {commit}{changed}" if commit else f"- Code: {UNKNOWN}"
    command = made.get("command")
    if isinstance(command, list | tuple):
        command = " ".join(quoted(str(word)) for word in command)
    yield f"- Command: `{command}`" if command else f"- Command: {UNKNOWN}"
    for key in ("preset", "overrides", "fedsim", "python"):
        if made.get(key):
            yield f"- {key}: {_told(made[key])}"
    packages = made.get("packages") or made.get("versions") or {}
    yield f"- Versions: {_told(packages)}"
    yield from (f"- {said}" for said in reservations(made))
    yield "- All measured values: runs.parquet and curves.parquet beside the report"


def _author() -> Iterator[str]:
    yield f"- {AUTHOR}limitations of the work, and of this data set for the question."
    yield f"- {AUTHOR}where code and data can be had, and under which licence the code is."
    yield f"- {AUTHOR}risks of what is published, and what was done about them."


def _told(value: Any) -> str:
    """A nested record in one line."""
    if value is None or value == {} or value == "":
        return UNKNOWN
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_inner(v)}" for k, v in value.items())
    return str(value)


def _inner(value: Any) -> str:
    return f"({_told(value)})" if isinstance(value, dict) and value else str(value)
