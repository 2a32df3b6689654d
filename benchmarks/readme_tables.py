"""The tables of the README's first page, from a run of the default preset.

python run_sim.py train --out runs/readme && python benchmarks/readme_tables.py runs/readme
"""

from __future__ import annotations

import sys

from fedsim.leakage.unseen import chance_of
from fedsim.report.formats import chance
from fedsim.runs import Run


def scores(run: Run) -> list[str]:
    """The final table in Markdown."""
    heads = ("model", "top-1", "top-3", "perplexity", "keystrokes saved, 1 / 3 / 5 suggestions")
    lines = [" | ".join(heads), "|".join(["---"] * len(heads))]
    for row in run.results.itertuples():
        saved = (row.keystroke_savings_top1, row.keystroke_savings, row.keystroke_savings_top5)
        cells = (
            row.model,
            f"{100 * row.top1_recall:.2f} %",
            f"{100 * row.top3_recall:.2f} %",
            f"{row.perplexity:,.1f}",
            " / ".join(f"{100 * share:.1f}" for share in saved) + " %",
        )
        lines.append(" | ".join(cells))
    return [f"| {line} |" for line in lines]


def canaries(run: Run) -> list[str]:
    """All cells of the canaries after the last round, and the controls."""
    heads = ("held by", "copies each", "canaries", "sampled exposure", "by chance", "extracted")
    lines = [" | ".join(heads), "|".join(["---"] * len(heads))]
    table = run.exposure
    last = table[table["round"] == table["round"].max()]
    for (kind, users, copies), rows in last.groupby(["kind", "users", "repeats"]):
        planted = kind == "planted"
        seen = rows[rows.holder_participations > 0] if planted else rows
        bits = seen.exposure_bits.to_numpy()
        held = f"{users} user{'s' * (users > 1)}" if planted else "nobody"
        cells = (
            held,
            str(copies),
            str(len(seen)),
            f"{bits.mean():.2f} bits" if len(bits) else "never trained on",
            chance(chance_of(bits)) if planted else "",
            f"{int(seen.extracted.sum())} of {len(seen)}",
        )
        lines.append(" | ".join(cells))
    return [f"| {line} |" for line in lines]


if __name__ == "__main__":
    opened = Run.open(sys.argv[1])
    print("\n".join([*scores(opened), "", *canaries(opened), ""]))
    parts = opened.profile["parts"]
    print(
        "seconds:", ", ".join(f"{name} {value:.0f}" for name, value in parts.items() if value > 1)
    )
