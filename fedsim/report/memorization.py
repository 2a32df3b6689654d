"""The memorization study as a page, as Markdown for a paper, and as CSV."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from fedsim.files import write_atomically
from fedsim.report.formats import MISSING, count, missing, number, percent, with_ends
from fedsim.report.study_page import Section, study_page
from fedsim.report.svg import COLOURS, house_style, label_ends, panel, to_svg
from fedsim.studies.memorization import NEVER_SEEN_BITS, ORDER, Outcome, Private, promised
from fedsim.studies.ordering import LEAST_SEEDS, Difference

# Never by colour alone: every setting has its mark and its line style too.
LOOKS: dict[str, tuple[str, Any, str]] = dict(
    zip(
        ORDER,
        (
            ("central", "-", "^"),
            ("trigram", (0, (5, 2)), "s"),
            ("federated", "-", "o"),
            ("other", "-.", "D"),
        ),
        strict=True,
    )
)
SCORES = {
    "exposure_bits": "sampled exposure",
    "exact_bits": "exact exposure",
    "margin_bits": "likelihood",
}
CAPTION = (
    "Exposure is in bits, measured on the final model by an adversary who holds it; a canary that "
    "nobody trained on has 1.44 bits on average. Sampled exposure, which leads, is among random "
    "sentences and has a low ceiling; exact exposure is among all pairs of words in the place of "
    "the canary's last two. Likelihood is how many bits likelier "
    "a canary is than the mean held-out one; it has no ceiling. Intervals are 95 %, Student's t "
    "over the means of seeds, since all canaries of a seed share one model; of perplexity the "
    "geometric mean is given with its interval (low to high), made on logarithms. A difference is "
    "paired by seed and canary; it is as in the literature where its interval is above zero, "
    f"reversed where it is below, and never resolved by fewer than {LEAST_SEEDS} seeds. Canaries "
    "that no holder brought into training are left out. The central setting trains by AdamW with "
    "cosine decay, the federated ones by SGD with server momentum, so that step also contains the "
    "optimizer. Iterates are averaged in all settings or in none (server.average), over as much "
    "text."
)
Rows = list[list[str]]


def write_memorization(folder: Path, found: Outcome, private: Private) -> Path:
    """Write `canaries.csv`, `runs.csv`, `grid.csv`, `settings.csv`, `differences.csv`,
    `memorization.md` and `memorization.html`; returns the last."""
    steps = pd.DataFrame([asdict(d) | {"verdict": d.verdict} for d in found.differences])
    tables = {
        "canaries": found.canaries,
        "runs": found.runs,
        "grid": found.grid,
        "settings": found.settings,
        "differences": steps,
    }
    for name, table in tables.items():
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False).encode())
    write_atomically(folder / "memorization.md", as_text(found, private).encode())
    path = folder / "memorization.html"
    write_atomically(path, _page(found, private).encode())
    return path


def findings(found: Outcome, private: Private) -> list[str]:
    """What the study shows, in sentences, honest about what it cannot show."""
    seeds = found.canaries.seed.nunique()
    order = " >= ".join(ORDER)
    out = [
        f"{order}, over {count(seeds, 'seed')}: "
        + "; ".join(f"{found.verdict(score)}, by {name}" for score, name in SCORES.items())
        + "."
    ]
    out += [_told(d) for d in found.differences if d.score != "margin_bits"]
    for growth in found.growths:
        does = "grows" if growth.grows else "does not clearly grow"
        out.append(
            f"{growth.setting}: exact exposure {does} with users x copies, by "
            f"{growth.slope:.2f} bits ({growth.low:.2f} to {growth.high:.2f}) for each doubling."
        )
    leaking = [
        row.setting
        for row in found.settings.itertuples()
        if row.control_low > NEVER_SEEN_BITS or row.control_extracted
    ]
    if leaking:
        out.append(f"The controls of {', '.join(leaking)} are above chance: something is wrong.")
    elif seeds > 1:
        out.append("Held-out canaries are at chance in every setting, and none is extracted.")
    else:
        out.append(
            "No held-out canary is extracted; one seed cannot say whether they are at chance."
        )
    out.append(
        f"User-level DP is DP-FedAvg with clip norm {private.clip_norm:g} and server learning rate "
        f"{private.server_lr:g}. {promised(found.runs)}".strip()
    )
    return out


def _told(step: Difference) -> str:
    rest = count(step.pairs, "pair")
    if step.score == "exposure_bits":
        rest += f", {percent(step.ceiling, 0)} of them at the ceiling in both"
    return (
        f"{step.more} over {step.less}, {SCORES[step.score]}: {step.mean:+.2f} bits "
        f"({step.low:.2f} to {step.high:.2f}, {count(len(step.seeds), 'seed')}; {rest}): "
        f"{step.verdict}."
    )


def as_text(found: Outcome, private: Private) -> str:
    """All tables as Markdown, with what a reader must know of them."""
    tables = (_settings(found), _differences(found), _grid(found))
    parts = ["\n".join(f"- {sentence}" for sentence in findings(found, private))]
    for header, rows in tables:
        lines = [header, ["---"] * len(header), *rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, CAPTION]) + "\n"


def _settings(found: Outcome) -> tuple[list[str], Rows]:
    header = ["setting", "passes", "validation top-1, %", "validation perplexity", "test top-1, %",
              "sampled exposure", "exact exposure", "likelihood", "extracted",
              "held-out exposure, sampled", "held-out extracted", "never trained on"]  # fmt: skip
    rows = []
    for row in found.settings.to_dict("records"):
        rows.append(
            [
                row["setting"],
                number(row["passes"], 1),
                _interval(row, "validation_top1", 100, 2),
                with_ends(*_mean_and_ends(row, "validation_perplexity")),
                _interval(row, "test_top1", 100, 2),
                _between(row["exposure"], row["low"], row["high"]),
                number(row["exact"], 1),
                number(row["margin"], 1),
                f"{row['extracted']} of {row['n']}",
                _between(row["control_exposure"], row["control_low"], row["control_high"]),
                f"{row['control_extracted']} of {row['control_n']}",
                str(row["never_trained"]),
            ]
        )
    return header, rows


def _differences(found: Outcome) -> tuple[list[str], Rows]:
    header = ["difference", "by", "mean, bits", "of each seed", "pairs", "at the ceiling",
              "verdict"]  # fmt: skip
    rows = []
    for step in found.differences:
        rows.append(
            [
                f"{step.more} \u2212 {step.less}",
                SCORES[step.score],
                _between(step.mean, step.low, step.high),
                ", ".join(f"{value:+.2f}" for value in step.seeds),
                str(step.pairs),
                percent(step.ceiling, 0),
                step.verdict,
            ]
        )
    return header, rows


def _grid(found: Outcome) -> tuple[list[str], Rows]:
    """Exposure and extraction by users and copies, one column a setting."""
    grid = found.grid.set_index(["setting", "users", "repeats"])
    cells = sorted({(users, copies) for _, users, copies in grid.index})
    rows = []
    for users, copies in cells:
        line = [str(users), str(copies)]
        for setting in ORDER:
            if (setting, users, copies) not in grid.index:
                line.append(MISSING)
                continue
            row = grid.loc[(setting, users, copies)]
            bits = _between(row.exposure, row.exposure_low, row.exposure_high)
            line.append(f"{bits}; {int(row.extracted)}/{int(row.n)}")
        rows.append(line)
    return [
        "users",
        "copies each",
        *(f"{name}: sampled exposure; extracted" for name in ORDER),
    ], rows


def _interval(row: dict[str, Any], name: str, scale: float, digits: int) -> str:
    value, low, high = (scale * value for value in _mean_and_ends(row, name))
    return _between(value, low, high, digits)


def _mean_and_ends(row: dict[str, Any], name: str) -> tuple[float, float, float]:
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


def _between(value: float, low: float, high: float, digits: int = 1) -> str:
    text = number(value, digits)
    return text if missing(low) else f"{text} ± {(high - low) / 2:.{digits}f}"


def _curves(found: Outcome) -> list[Markup]:
    """Exposure over copies, a panel for each number of users and a line for each setting."""
    return [_curve(found, users) for users in sorted(found.grid.users.unique())]


def _curve(found: Outcome, users: int) -> Markup:
    ceiling = float(found.canaries.ceiling_bits.max())
    rows = found.grid[found.grid.users == users]
    copies = sorted(rows.repeats.unique())
    held = f"held by {count(int(users), 'user')}"
    with house_style(f"memorization-{users}"):
        figure, axes = panel(f"{held}: sampled exposure, bits", "copies each", right=112)
        axes.axhline(NEVER_SEEN_BITS, color=COLOURS["muted"], linestyle=":", linewidth=1.2)
        axes.axhline(ceiling, color=COLOURS["muted"], linewidth=0.8)
        labels = []
        for place, setting in enumerate(ORDER):
            line = rows[rows.setting == setting].set_index("repeats").reindex(copies)
            colour, style, mark = LOOKS[setting]
            x = np.arange(len(copies)) + 0.06 * (place - (len(ORDER) - 1) / 2)
            half = ((line.exposure_high - line.exposure_low) / 2).fillna(0.0)
            axes.errorbar(x, line.exposure, half, color=COLOURS[colour], linestyle=style,
                          marker=mark, capsize=2)  # fmt: skip
            labels.append((float(line.exposure.iloc[-1]), setting, COLOURS[colour]))
        axes.set_ylim(0, ceiling * 1.06)
        axes.set_xticks(range(len(copies)), [str(c) for c in copies])
        label_ends(axes, labels)
        return to_svg(figure, f"Exposure by copies of canaries {held}, one line a setting")


def _usefulness(found: Outcome) -> Markup:
    """Mean exposure over recall: how much was memorized for how much was learnt."""
    with house_style("usefulness"):
        figure, axes = panel("mean sampled exposure, bits", "top-1 recall on validation users, %",
                             right=112)  # fmt: skip
        labels = []
        for row in found.settings.to_dict("records"):
            colour, _, mark = LOOKS[row["setting"]]
            half = 0.0 if missing(row["low"]) else (row["high"] - row["low"]) / 2
            axes.errorbar(100 * row["validation_top1"], row["exposure"], half,
                          color=COLOURS[colour], marker=mark, capsize=2)  # fmt: skip
            labels.append((row["exposure"], row["setting"], COLOURS[colour]))
        label_ends(axes, labels)
        return to_svg(figure, "Mean exposure over validation recall, one mark a setting")


def _page(found: Outcome, private: Private) -> str:
    sections = [
        Section("Every setting", *_settings(found)),
        Section("The order, step by step", *_differences(found)),
        Section("By users and copies", *_grid(found)),
    ]
    plots = [*_curves(found), _usefulness(found)]
    told = findings(found, private)
    return study_page(
        "What federated training memorizes", told, plots, f"{CAPTION} {_ON}", sections
    )


_ON = (
    "All settings train the same network on the same sentences: central training makes as many "
    "passes, rounded, as a federated user takes part; IID deals the sentences out to as many users "
    "of the same sizes. In the plots the full line is the ceiling and the dotted one what was "
    "never seen."
)
