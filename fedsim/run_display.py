"""How a run shows itself: a line for `repr`, a small table for a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from fedsim.errors import FedsimError

if TYPE_CHECKING:
    import pandas as pd

    from fedsim.runs import Run

_COLUMNS = {"top1_recall": "top-1", "top3_recall": "top-3", "perplexity": "perplexity",
            "keystroke_savings": "keystrokes saved"}  # fmt: skip


def as_text(run: Run) -> str:
    """One line; of a folder that cannot be read it says why."""
    try:
        return f"<Run {run.path}: {_about(run)}>"
    except (FedsimError, OSError) as error:
        return f"<Run {run.path}: {error}>"


def as_html(run: Run) -> str:
    """What was trained, the scores on unseen users, and what the folder holds."""
    try:
        about, scores, exposure = _about(run), _scores(run), _exposure(run)
    except (FedsimError, OSError) as error:
        return f"<div><b>Run</b> <code>{escape(str(run.path))}</code>: {escape(str(error))}</div>"
    report = run.path / "report.html"
    page = f"; the report: <code>{escape(str(report))}</code>" if report.is_file() else ""
    parts = [
        f"<div><b>Run</b> <code>{escape(str(run.path))}</code>: {escape(about)}{page}</div>",
        scores,
        f"<div>{escape(exposure)}</div>" if exposure else "",
        "<div>Tables: <code>.rounds .clients .evaluations .results .exposure</code>; "
        "<code>.model() .privacy .status .config</code></div>",
    ]
    return "\n".join(part for part in parts if part)


def _about(run: Run) -> str:
    config, status = run.config, run.status
    said = (
        f"{config.strategy.name} on {config.data.name}, {config.model.name}, "
        f"{status['state']} after {status['round']} of {config.server.rounds} rounds"
    )
    latest = _latest(run)
    if latest is not None:
        who = "unseen" if latest["split"] == "test" else "validation"
        said += f", top-1 {latest['top1_recall']:.2%} on {latest['users']} {who} users"
    return said


def _latest(run: Run) -> pd.Series | None:
    """The final scores on test users, else the newest on validation users."""
    rows = run.results.assign(split="test") if len(run.results) else run.evaluations
    return rows.iloc[0 if len(run.results) else -1] if len(rows) else None


def _scores(run: Run) -> str:
    """The final table, else the scores so far."""
    rows = run.results
    first = "model"
    if not len(rows):
        rows, first = run.evaluations.tail(3), "round"
    if not len(rows):
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in (first, "users", *_COLUMNS.values()))
    lines = []
    for row in rows.to_dict("records"):
        shares = [f"{row[c]:.1f}" if c == "perplexity" else f"{row[c]:.2%}" for c in _COLUMNS]
        cells = [str(row[first]), str(row["users"]), *shares]
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _exposure(run: Run) -> str:
    """The canaries that were trained, in a sentence."""
    table = run.exposure
    last = table[table["round"] == table["round"].max()]
    seen = last[(last.kind == "planted") & (last.holder_participations > 0)]
    held_out = last[last.kind == "held_out"]
    if not len(seen):
        return ""
    control = ""
    if len(held_out):
        control = f", {held_out.exposure_bits.mean():.1f} of canaries that nobody held"
    out = int(np.sum(seen.extracted.to_numpy(bool)))
    return (
        f"Memorized: {seen.exposure_bits.mean():.1f} bits of mean exposure of {len(seen)} trained "
        f"canaries{control}; {out} of {len(seen)} come out from their first words."
    )
