"""From measurements to a table: medians, ratios within a repetition, Markdown.

The first round of a process is its warm-up: it counts as start-up and in no median. A ratio is the
median over rounds of the ratio to the other contender's same round of the same repetition, so
that a machine that is slower for a while is slower for both.
"""

from __future__ import annotations

import pandas as pd

from speed.entries import ENTRIES, OURS, REFERENCE

ROUNDS = ("model", "contender", "repeat", "round", "seconds", "tokens")
STARTS = ("model", "contender", "repeat", "ready_s", "first_round_s", "memory_bytes")


def summary(
    rounds: pd.DataFrame,
    starts: pd.DataFrame,
    flops_per_token: dict[str, float],
    gemm_flops: dict[str, float],
    differences: dict[tuple[str, str], float],
    problems: dict[tuple[str, str], str],
) -> pd.DataFrame:
    """One row for each (model, contender) of `differences` or `problems`, in their order.

    rounds and starts have the columns above; differences: of the first update from the bare
    loop's, relative; numbers that were not measured are missing.
    """
    measured = rounds[rounds["round"] > 1]
    rows = []
    for model, name in dict.fromkeys([*differences, *problems]):
        mine = _of(measured, model, name)
        began = _of(starts, model, name)
        speed = float((mine.tokens / mine.seconds).median())
        useful = speed * flops_per_token[model]
        rows.append(
            {
                "model": model,
                "contender": name,
                "title": ENTRIES[name].title,
                "rounds": len(mine),
                "seconds_per_round": float(mine.seconds.median()),
                "tokens_per_second": speed,
                "speed_of_bare": _ratio(_of(measured, model, REFERENCE), mine),
                "fedsim_is_faster": _ratio(mine, _of(measured, model, OURS)),
                "gemm_share": useful / gemm_flops.get(model, float("nan")),
                "memory_bytes": float(began.memory_bytes.max()),
                "ready_s": float(began.ready_s.median()),
                "first_round_s": float(began.first_round_s.median()),
                "difference": differences.get((model, name), float("nan")),
                "problem": problems.get((model, name), ""),
            }
        )
    return pd.DataFrame(rows)


def _of(table: pd.DataFrame, model: str, name: str) -> pd.DataFrame:
    return table[(table.model == model) & (table.contender == name)]


def _ratio(above: pd.DataFrame, below: pd.DataFrame) -> float:
    """Median ratio of the seconds of the same rounds; NaN where none was measured of both."""
    both = above.merge(below, on=["repeat", "round"], suffixes=("", "_below"))
    return float((both.seconds / both.seconds_below).median())


_COLUMNS = {
    "seconds_per_round": ("s a round", "{:.2f}"),
    "tokens_per_second": ("real tokens/s", "{:,.0f}"),
    "speed_of_bare": ("speed, bare loop = 1", "{:.2f}"),
    "fedsim_is_faster": ("fedsim is faster, times", "{:.2f}"),
    "gemm_share": ("of the machine's sgemm", "{:.0%}"),
    "memory_bytes": ("peak memory, MB", "{:,.0f}"),
    "ready_s": ("ready, s", "{:.1f}"),
    "first_round_s": ("first round's end, s", "{:.1f}"),
    "difference": ("first update differs by", "{:.0e}"),
}


def markdown(table: pd.DataFrame) -> str:
    """A table for each model; whoever could not take part is a line below it."""
    parts = []
    for model, rows in table.groupby("model", sort=False):
        titles = ["contender", *(title for title, _ in _COLUMNS.values())]
        lines = [f"**{model}**", "", f"| {' | '.join(titles)} |"]
        lines.append("|---|" + "---:|" * len(_COLUMNS))
        for row in rows[rows.problem == ""].to_dict("records"):
            lines.append(f"| {' | '.join([row['title'], *_cells(row)])} |")
        absent = rows[rows.problem != ""].to_dict("records")
        lines += ["", *(f"- {row['title']}: {row['problem']}" for row in absent)]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, object]) -> list[str]:
    cells = []
    for name, (_, form) in _COLUMNS.items():
        value = float(row[name])
        value /= 1e6 if name == "memory_bytes" else 1
        cells.append("" if value != value else form.format(value))
    return cells
