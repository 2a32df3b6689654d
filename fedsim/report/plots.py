"""The plots of a report; each returns an <svg> for the page."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedsim.report.facts import NEVER_SEEN_BITS, Facts
from fedsim.report.formats import byte_unit, percent, size
from fedsim.report.svg import COLOURS, STEPS, Curves, house_style, label_ends, panel, series, to_svg

# Never by colour alone: every model has its line style too.
LINES = {"federated": "-", "trigram": (0, (5, 2)), "central": (0, (1.5, 1.5)), "other": "-."}
MOST_POINTS = 400  # an ECDF of a million users needs no more


def look(facts: Facts, model: str) -> str:
    """The name of a model's colour and line style."""
    if model == facts.federated:
        return "federated"
    return model if model in LINES else "other"


def learning(facts: Facts, score: str, name: str) -> Markup:
    """Recall on validation users by round; the final test recalls as marks at their height."""
    with house_style(score):
        figure, axes = panel(f"{name} recall on validation users, %", "round", right=98)
        rows = facts.validation
        colour = COLOURS["federated"]
        axes.plot(rows["round"], 100 * rows[score], "-o", color=colour, markersize=3)
        labels = []
        last = rows.iloc[-1] if len(rows) else None
        if last is not None:
            labels.append((100 * float(last[score]), f"{facts.federated}", colour))
        for model in facts.models:
            result, style = facts.result(model), look(facts, model)
            assert result is not None
            value = 100 * float(result[score])
            if style == "federated":
                axes.plot([facts.rounds_done], [value], "D", color=colour, mfc="none", ms=6)
            else:
                axes.axhline(value, color=COLOURS[style], linestyle=LINES[style], linewidth=1.4)
            labels.append((value, f"{model}, test", COLOURS[style]))
        _rounds_axis(axes, facts.rounds_done)
        label_ends(axes, labels)
        end = "" if last is None else f", {percent(last[score])} after round {last['round']}"
        curve = {facts.federated: series(rows["round"], rows[score])}
        curves = Curves(axes, curve, _round, lambda share: percent(share))
        return to_svg(figure, f"{name} recall on validation users by round{end}", curves)


def training_loss(facts: Facts) -> Markup:
    """Mean loss of the users of each round before the server averages them."""
    with house_style("loss"):
        figure, axes = panel("training loss, nats per token", "round", right=44)
        loss = facts.rounds["train_loss_nats_per_token"]
        axes.plot(facts.rounds["round"], loss, color=COLOURS["federated"], linewidth=1.4)
        _rounds_axis(axes, facts.rounds_done)
        end = float(loss.iloc[-1])
        label_ends(axes, [(end, f"{end:.2f}", COLOURS["federated"])])
        curve = {"loss": series(facts.rounds["round"], loss)}
        curves = Curves(axes, curve, _round, lambda nats: f"{nats:.3f}")
        return to_svg(
            figure, f"Training loss by round, {end:.2f} nats per token at the end", curves
        )


def user_distribution(facts: Facts) -> Markup:
    """Share of test users at or below each top-1 recall."""
    with house_style("users"):
        figure, axes = panel("share of test users at or below, %", "a user's top-1 recall, %")
        for model in facts.models:
            values, style = 100 * facts.user_recalls(model), look(facts, model)
            if not len(values):
                continue
            shares = np.linspace(0, 1, min(len(values), MOST_POINTS) + 1)
            points = np.quantile(values, shares, method="inverted_cdf")
            axes.plot(
                points,
                100 * shares,
                color=COLOURS[style],
                linestyle=LINES[style],
                drawstyle="steps-post",
                label=model,
            )
        axes.set_ylim(0, 101)
        axes.set_xlim(left=0)
        axes.legend(loc="lower right", handlelength=2.4)
        places = np.linspace(*axes.get_xlim(), 61)
        curves = {
            model: series(places, np.searchsorted(values, places, side="right") / len(values))
            for model in facts.models
            if len(values := 100 * facts.user_recalls(model))
        }
        read = Curves(axes, curves, lambda x: f"at most {x:.1f} %", lambda y: percent(y, 0))
        return to_svg(figure, "Distribution of top-1 recall over test users, by model", read)


def exposure_by_round(facts: Facts, users: int) -> Markup:
    """Mean sampled exposure of canaries that `users` users hold, a line a number of copies."""
    rows = facts.exposures
    rows = rows[(rows["kind"] == "planted") & (rows["users"] == users)]
    copies = sorted(rows["repeats"].unique())
    means = (
        rows[rows["holder_participations"] > 0]
        .groupby(["repeats", "round"])["exposure_bits"]
        .mean()
    )
    holders = f"held by {users} user{'s' if users > 1 else ''}"
    with house_style(f"exposure-{users}"):
        figure, axes = panel(f"{holders}: sampled exposure, bits", "round", 280, 210, right=66)
        axes.axhline(NEVER_SEEN_BITS, color=COLOURS["muted"], linestyle=":", linewidth=1.2)
        axes.axhline(facts.ceiling_bits, color=COLOURS["muted"], linewidth=0.8)
        axes.set_ylim(0, facts.ceiling_bits * 1.04)
        labels, curves = [], {}
        for i, repeats in enumerate(copies):
            shade = COLOURS[f"seq-{_step(i, len(copies))}"]
            if repeats not in means.index.get_level_values("repeats"):
                continue
            line = means.loc[repeats]
            marker = "o" if len(line) == 1 else None
            axes.plot(line.index, line.to_numpy(), color=shade, marker=marker)
            text = f"{repeats} cop{'y' if repeats == 1 else 'ies'}"
            labels.append((float(line.iloc[-1]), text, shade))
            curves[text] = series(line.index, line)
        if not labels:
            axes.text(0.5, 0.5, "no holder took part", ha="center", transform=axes.transAxes)
        _rounds_axis(axes, facts.rounds_done)
        label_ends(axes, labels)
        read = Curves(axes, curves, _round, lambda bits: f"{bits:.2f} bits")
        return to_svg(figure, f"Exposure by round of canaries {holders}, by copies each", read)


def controls(facts: Facts) -> Markup:
    """Exposure of the held-out canaries beside what chance alone would give."""
    bits = facts.controls["exposure_bits"]
    bins = int(np.ceil(facts.ceiling_bits))
    counts, _ = np.histogram(bits, bins=np.arange(bins + 1))
    shown = max(6, int(np.flatnonzero(counts).max(initial=0)) + 1)
    places = np.arange(min(shown, bins))
    expected = len(bits) * (2.0**-places - 2.0 ** -(places + 1))
    with house_style("controls"):
        figure, axes = panel("held-out canaries", "sampled exposure, bits")
        middle = places + 0.5
        axes.bar(middle, counts[places], width=0.86, color=COLOURS["bar"])
        axes.plot(middle, expected, "_", color=COLOURS["ink"], ms=26, mew=2, linestyle="none")
        axes.annotate(
            "expected by chance",
            (middle[1] + 0.42, expected[1]),
            xytext=(22, 16),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.8},
            va="center",
        )
        axes.set_xticks(np.arange(len(places) + 1))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        mean = float(bits.mean())
        return to_svg(figure, f"Exposure of {len(bits)} held-out canaries, mean {mean:.2f} bits")


def traffic(facts: Facts) -> Markup:
    """Bytes since the first round."""
    down = facts.rounds["download_bytes"].cumsum()
    up = facts.rounds["upload_bytes"].cumsum()
    divisor, unit = byte_unit(float(max(down.iloc[-1], up.iloc[-1])))
    with house_style("traffic"):
        figure, axes = panel(f"{unit} moved so far, all clients together", "round", right=72)
        axes.plot(facts.rounds["round"], down / divisor, color=COLOURS["federated"])
        if not up.equals(down):
            axes.plot(facts.rounds["round"], up / divisor, "--", color=COLOURS["trigram"])
        axes.set_ylim(bottom=0)
        _rounds_axis(axes, facts.rounds_done, first=0)
        ends = [("download", down, "federated"), ("upload", up, "trigram")]
        if up.equals(down):
            ends = [("each way", down, "federated")]
        label_ends(axes, [(float(y.iloc[-1]) / divisor, t, COLOURS[c]) for t, y, c in ends])
        text = f"{size(down.iloc[-1])} downloaded, {size(up.iloc[-1])} uploaded"
        moved = {t: series(facts.rounds["round"], y) for t, y, _ in ends}
        return to_svg(figure, f"Bytes moved by round: {text}", Curves(axes, moved, _round, size))


def speed(facts: Facts) -> Markup:
    """Training tokens a second in each round."""
    rate = facts.rounds["tokens_per_second"]
    with house_style("speed"):
        figure, axes = panel("training tokens per second", "round", right=16)
        axes.plot(facts.rounds["round"], rate, color=COLOURS["federated"], linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _rounds_axis(axes, facts.rounds_done)
        curve = {"tokens a second": series(facts.rounds["round"], rate)}
        curves = Curves(axes, curve, _round, lambda tokens: f"{tokens:,.0f}")
        text = f"Training tokens per second by round, median {rate.median():,.0f}"
        return to_svg(figure, text, curves)


def _round(place: float) -> str:
    return f"round {place:,.0f}"


def _rounds_axis(axes: Axes, last: int, first: int = 1) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(first - 0.02 * last, max(last, first + 1) * 1.02)


def _step(index: int, count: int) -> int:
    """Which of the shades, from the lightest to the strongest, a line takes."""
    return STEPS - 1 if count < 2 else round(index * (STEPS - 1) / (count - 1))


def holders(exposures: pd.DataFrame) -> list[int]:
    """The numbers of users that hold planted canaries."""
    return sorted(int(u) for u in exposures[exposures["kind"] == "planted"]["users"].unique())
