"""The fine-tuning study as a page, as a Markdown table for a paper, and as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from fedsim.files import write_atomically
from fedsim.leakage.forgetting import PREFIXES
from fedsim.report.formats import missing, number
from fedsim.report.study_page import Section, study_page
from fedsim.report.svg import COLOURS, house_style, label_ends, panel, to_svg
from fedsim.studies.finetuning import CONTROL, PRETRAINED, pick

CAPTION = (
    "The adversary holds the global model. A sentence is extracted where greedy decoding from its "
    "first words gives all others. Intervals are 95 %, over seeds, Student's t; the control is the "
    "same federated run without pretraining."
)
# Never by colour alone: (arm, text) -> its name, colour, line style and mark.
LINES = {
    (PRETRAINED, "trained"): ("pretrained on them", "federated", "-", "o"),
    (PRETRAINED, "held_out"): ("held out", "trigram", (0, (5, 2)), "s"),
    (CONTROL, "trained"): ("control model", "other", "-.", "D"),
}
FIGURES = (
    *((f"extracted from {k} words, % of sentences", "extractable", k, 100) for k in PREFIXES),
    ("nats per word", "nats_per_word", None, 1),
    ("mean exposure of its canaries, bits", "exposure_bits", None, 1),
    ("canaries extracted, %", "canaries_extracted", None, 100),
)


def write_finetuning(
    folder: Path, rows: pd.DataFrame, points: pd.DataFrame, findings: Sequence[str]
) -> Path:
    """Write `runs.csv`, `finetuning.csv`, `finetuning.md` and `finetuning.html`."""
    write_atomically(folder / "runs.csv", rows.to_csv(index=False).encode())
    write_atomically(folder / "finetuning.csv", points.to_csv(index=False).encode())
    write_atomically(folder / "finetuning.md", markdown(points, findings).encode())
    path = folder / "finetuning.html"
    write_atomically(path, _page(points, findings).encode())
    return path


def markdown(points: pd.DataFrame, findings: Sequence[str]) -> str:
    """One row a round with the three lines of each figure, and what a reader must know."""
    header, cells = table(points)
    lines = [header, ["---"] * len(header), *cells]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{CAPTION} {' '.join(findings)}\n"


def table(points: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """(header, rows): for each round the lines of every figure that was measured."""
    columns, header = [], ["round"]
    for title, quantity, prefix, scale in FIGURES:
        for (arm, text), (name, *_) in LINES.items():
            line = pick(points, arm, text, quantity, prefix).set_index("round")
            if len(line):
                header.append(f"{title}: {name}")
                columns.append((line, scale))
    rounds = sorted(set(points["round"]) & set(columns[0][0].index)) if columns else []
    return header, [[str(r), *(_cell(line.loc[r], s) for line, s in columns)] for r in rounds]


def _cell(row: pd.Series, scale: float) -> str:
    half = (row["high"] - row["low"]) / 2
    text = number(scale * row["mean"], 2)
    return text if missing(half) else f"{text} ± {scale * half:.2f}"


def _plot(
    points: pd.DataFrame, title: str, quantity: str, prefix: int | None, scale: float
) -> Markup:
    with house_style(f"{quantity}-{prefix}"):
        figure, axes = panel(title, "federated round", right=120)
        labels = []
        for (arm, text), (name, colour, style, mark) in LINES.items():
            line = pick(points, arm, text, quantity, prefix)
            x, y = line["round"].to_numpy(), scale * line["mean"].to_numpy()
            low = scale * line["low"].fillna(line["mean"])
            high = scale * line["high"].fillna(line["mean"])
            ink = COLOURS[colour]
            axes.plot(x, y, color=ink, linestyle=style, marker=mark)
            axes.fill_between(x, low, high, color=ink, alpha=0.12, linewidth=0)
            labels.append((float(y[-1]), name, ink))
        label_ends(axes, labels)
        return to_svg(figure, f"{title} by federated round, for three lines")


def _page(points: pd.DataFrame, findings: Sequence[str]) -> str:
    measured = set(points["quantity"])
    plots = [_plot(points, *figure) for figure in FIGURES if figure[1] in measured]
    title = "What fine-tuning leaves of a first corpus"
    return study_page(title, findings, plots, CAPTION, [Section("In numbers", *table(points))])
