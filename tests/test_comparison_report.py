"""The report of a comparison: what a reader sees of frames that were made up for it."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_report import EVIL, Page

from fedsim.privacy.claims import Claim
from fedsim.report.comparison import checklist, findings, latex, markdown, write_comparison
from fedsim.report.comparison_cells import Cells
from fedsim.report.comparison_latex import escaped
from fedsim.report.formats import MISSING, size
from fedsim.studies import contrasts
from fedsim.studies.comparison import Comparison

NAMES = ("fedavg", "fedsgd", "fedprox", "fedadam", "fedyogi", "scaffold", "fedadagrad", "fedavgm",
         "fednova", "qfedavg", "trimmed-mean", "geometric-median")  # fmt: skip
LEVELS = dict(zip(NAMES, (14.2, 11.5, 14.3, 15.4, 15.1, 14.0, 14.7, 14.9, 14.1, 13.6, 13.0, 12.1),
                  strict=True))  # fmt: skip
SPEED = dict(zip(NAMES, (14, 40, 14, 8, 9, 12, 11, 10, 13, 16, 18, 22), strict=True))
LEVEL_OF_AXIS = 0.4  # points that a step along an axis adds
MADE: dict[str, Any] = {
    "command": ["run_sim.py", "compare", "--strategies", "fedavg,fedsgd", "--seeds", "3"],
    "fedsim": "0.1.0", "git": {"commit": "a044c2a", "changed": False}, "python": "3.12.3",
    "platform": "Linux-6.1-x86_64", "cpus": 2, "packages": {"flwr": "1.41.0", "torch": "2.13.0"},
    "corpus": {"name": "chitchat", "digest": "sha256:12", "licence": "CC-BY-4.0"},
    "compute_seconds": 5400.0,
}  # fmt: skip


def made_up(
    count: int = 6, seeds: int = 3, axes: dict[str, list[Any]] | None = None, *,
    leakage: bool = False, tuned: bool = False, rounds: int = 60, spread: float = 0.12,
    target: float | None = 0.13,
) -> Comparison:  # fmt: skip
    """A comparison in which fedadam is best and fedsgd never gets to the target."""
    axes, names = axes or {}, NAMES[:count]
    rng = np.random.default_rng(5)
    luck = rng.normal(0, 0.1, seeds)  # of a seed, shared by all strategies
    runs, curves, chosen, trials = [], [], [], []
    evaluated = np.arange(0, rounds + 1, 3)
    for name, values in itertools.product(names, itertools.product(*axes.values())):
        where = {"strategy": name, **dict(zip(axes, values, strict=True))}
        shift = LEVEL_OF_AXIS * sum(v.index(x) for v, x in zip(axes.values(), values, strict=True))
        for seed in range(1, seeds + 1):
            end = LEVELS[name] + shift + luck[seed - 1] + rng.normal(0, spread)
            curve = (end * (1 - np.exp(-evaluated / SPEED[name]))
                     + rng.normal(0, 0.05, len(evaluated)).cumsum() * 0.3)  # fmt: skip
            curve = np.clip(curve, 0.01, None) / 100
            each = 1_270_000 * 10
            down = each * (2 if name == "scaffold" else 1)
            hit = np.flatnonzero(curve >= (target or 2))
            first = int(evaluated[hit[0]]) if len(hit) else None
            curves.append(pd.DataFrame({**where, "seed": seed, "round": evaluated, "top1": curve,
                                        "top3": curve * 1.7, "perplexity": 900 * np.exp(-curve * 9),
                                        "upload_bytes": evaluated * each,
                                        "tokens": evaluated * 11_000}))  # fmt: skip
            runs.append(
                where | {
                    "seed": seed, "state": "finished", "error": "", "run": f"{name}-{seed}",
                    "top1": end / 100, "top3": end / 58,
                    "perplexity": 420 - 12 * end + rng.normal(0, 3),
                    "keystrokes_saved": 0.3 + end / 300,
                    "worst_decile_top1": (end - 9 + rng.normal(0, 0.2)) / 100,
                    "validation_top1": curve[-1], "rounds": rounds, "tokens": rounds * 11_000,
                    "upload_bytes": rounds * each, "download_bytes": rounds * down,
                    "seconds": 41.0 + seed, "rounds_to_target": first,
                    "bytes_to_target": None if first is None else first * each,
                    "download_to_target": None if first is None else first * down,
                }
                | ({"exposure_bits": 1.4 + end / 5 + rng.normal(0, 0.2),
                    "canaries_extracted": max(0.0, end / 200 + rng.normal(0, 0.01))}
                   if leakage else {})
            )  # fmt: skip
        if tuned:
            chosen.append(where | {"key": "client.lr", "low": 0.1, "high": 10.0, "value": 1.5})
            chosen.append(where | {"key": "optimizer.lr", "low": 0.001, "high": 0.1,
                                   "value": 0.0985 if name == "fedadam" else 0.02})  # fmt: skip
            for trial in range(8):
                trials.append(where | {"trial": trial, "client.lr": 0.1 * 1.7**trial,
                                       "optimizer.lr": 0.001 * 1.6**trial,
                                       "rounds": 20 if trial % 2 else 60,
                                       "state": "stopped" if trial % 2 else "finished",
                                       "top1": 0.1 + trial / 300})  # fmt: skip
    frame = pd.DataFrame(runs)
    for column in ("rounds_to_target", "bytes_to_target", "download_to_target"):
        frame[column] = frame[column].astype("Int64")
    keys = ["strategy", *axes]
    heads = ([*keys, "key", "low", "high", "value"], [*keys, "trial", "rounds", "top1", "state"])
    return Comparison(
        tuple(axes), names, tuple(range(1, seeds + 1)), target, frame, pd.concat(curves),
        pd.DataFrame(chosen, columns=None if tuned else heads[0]),
        pd.DataFrame(trials, columns=None if tuned else heads[1]),
        MADE,
    )  # fmt: skip


def summarised(comparison: Comparison) -> pd.DataFrame:
    """The table as the contract of `contrasts.summary` says it, by a plain loop."""
    keys = ["strategy", *comparison.axes]
    known = {*keys, "seed", "state", "error", "run"}
    columns = [c for c in comparison.runs if c not in known]
    done = comparison.runs[comparison.runs["state"] == "finished"]
    rows = []
    for cell, _ in comparison.runs.groupby(keys, sort=False):
        own = done[(done[keys] == list(cell)).all(axis=1)].set_index("seed")
        base = done[(done[keys] == [comparison.strategies[0], *cell[1:]]).all(axis=1)]
        row = dict(zip(keys, cell, strict=True)) | {"n": len(own)}
        for column in columns:
            values = own[column].astype("Float64").to_numpy(float, na_value=np.nan)
            logs = mean_and_ends(np.log(values), column) if column == "perplexity" else None
            row |= (
                {name: np.exp(value) for name, value in logs.items()}
                if logs
                else mean_and_ends(values, column)
            )
        gain = (own["top1"] - base.set_index("seed")["top1"]).dropna().to_numpy(float)
        if cell[0] == comparison.strategies[0]:
            gain = gain[:0]
        row |= mean_and_ends(gain, "difference")
        row["pairs"] = len(gain)
        row["p"] = stats.ttest_1samp(gain, 0).pvalue if len(gain) > 1 else np.nan
        rows.append(row)
    table = pd.DataFrame(rows)
    tested = table["p"].notna()
    table.loc[tested, "p"] = holm(table.loc[tested, "p"].to_numpy())
    return table


def mean_and_ends(values: np.ndarray, name: str) -> dict[str, float]:
    mean = values.mean() if len(values) else np.nan
    half = np.nan
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def holm(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p)
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    out = np.empty_like(p)
    out[order] = np.minimum(steps, 1)
    return out


def failing(comparison: Comparison, name: str, seeds: tuple[int, ...], error: str) -> Comparison:
    """The comparison with failed runs of a strategy."""
    runs = comparison.runs.copy()
    lost = (runs["strategy"] == name) & runs["seed"].isin(seeds)
    runs.loc[lost, ["state", "error"]] = ["failed", error]
    known = {"strategy", "seed", "state", "error", "run", *comparison.axes}
    for column in [c for c in runs if c not in known]:
        if not pd.api.types.is_extension_array_dtype(runs[column]):
            runs[column] = runs[column].astype(float)
        runs.loc[lost, column] = pd.NA if column.endswith("_target") else np.nan
    curves = comparison.curves
    gone = (curves["strategy"] == name) & curves["seed"].isin(seeds)
    return dataclasses.replace(comparison, runs=runs, curves=curves[~gone])


def written(comparison: Comparison, folder: Path) -> tuple[Page, str]:
    """The page as a reader's browser takes it, and its source."""
    source = write_comparison(folder, comparison, summarised(comparison)).read_text("utf-8")
    return Page(source), source


def said(comparison: Comparison) -> str:
    return "\n".join(findings(comparison, summarised(comparison)))


def markdown_rows(comparison: Comparison, start: str = "| strategy") -> list[dict[str, str]]:
    """The first table of the Markdown."""
    lines = markdown(comparison, summarised(comparison)).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(start))
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines[first:]))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


# -- numbers ---------------------------------------------------------------------------------


def test_the_summary_has_the_numbers_of_the_frame() -> None:
    comparison = made_up(6, leakage=True)
    table = summarised(comparison).set_index("strategy")
    rows = markdown_rows(comparison)
    assert [row["strategy"] for row in rows] == list(comparison.strategies)
    for row in rows:
        numbers = table.loc[row["strategy"]]
        half = (numbers["top1_high"] - numbers["top1_low"]) / 2
        assert row["top-1, %"].strip("*") == f"{100 * numbers['top1']:.2f} ± {100 * half:.2f}"
        perplexity = [f"{numbers[f'perplexity{end}']:.1f}" for end in ("", "_low", "_high")]
        assert row["perplexity"].strip("*") == "{} ({} to {})".format(*perplexity)
        assert row["mean exposure of canaries, bits"].split()[0].strip("*") == (
            f"{numbers['exposure_bits']:.2f}"
        )
        if row["strategy"] == "fedavg":
            assert (row["against fedavg, points"], row["p (Holm)"]) == ("reference", MISSING)
            continue
        low, high = (100 * numbers[f"difference_{end}"] for end in ("low", "high"))
        shown = f"{100 * numbers['difference']:+.2f} ({low:+.2f} to {high:+.2f})"
        assert row["against fedavg, points"].replace("\N{MINUS SIGN}", "-") == shown
        assert row["p (Holm)"] == f"{numbers['p']:.3f}"


def test_the_page_has_the_table_of_the_markdown(tmp_path: Path) -> None:
    comparison = made_up(6)
    page, source = written(comparison, tmp_path)
    for row in markdown_rows(comparison):
        assert all(cell.strip("*") in page.text for cell in row.values())
    assert (tmp_path / "comparison.md").read_text("utf-8") == markdown(
        comparison, summarised(comparison)
    )
    assert "13.00 %" in page.text
    assert source.count("<svg") == 7  # scores, 2 curves, 3 costs, fairness


@pytest.mark.slow
def test_no_table_of_the_page_is_wider_than_the_window(tmp_path: Path) -> None:
    """Of six strategies in two axes with leakage: what Chromium needs at 1280 px, and on a phone
    the page itself stays where it is while a table is scrolled in its box."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no browser here")
    axes = {"client.epochs": [1, 5], "server.cohort": [10, 50]}
    comparison = made_up(6, axes=axes, leakage=True, tuned=True, rounds=12, target=0.02)
    source = written(comparison, tmp_path)[1]
    found_at = measured(chromium, source, (1280, 390), tmp_path)
    for width, found, boxes_fit in zip((1280, 390), found_at, (True, False), strict=True):
        assert found["page"] <= width
        assert {"Scores on test users", "Cost", "Leakage against utility"} <= set(found["boxes"])
        wide = [name for name, (needs, has) in found["boxes"].items() if needs > has]
        assert (wide == []) is boxes_fit


def measured(
    chromium: str, source: str, widths: tuple[int, ...], folder: Path
) -> list[dict[str, Any]]:
    """The widths in px of the page and of its tables' boxes (needed, given), in frames of these
    widths: a window of Chromium's own is never as narrow as a phone."""
    tell = """<script>onload = () => document.title = JSON.stringify({
      page: document.documentElement.scrollWidth,
      boxes: Object.fromEntries([...document.querySelectorAll(".scroll")].map(box => [
        box.closest("section").querySelector("h2").innerText,
        [box.scrollWidth, box.clientWidth]]))})</script>"""
    (folder / "told.html").write_text(source.replace("</body>", f"{tell}</body>"), "utf-8")
    frame = '<iframe src="told.html" width="{}" height="900" style="border: 0"></iframe>'
    (folder / "frame.html").write_text(
        "".join(map(frame.format, widths)) + "<p id=said></p><script>onload = () => said.innerText"
        " = `[${Array.from(frames, frame => frame.document.title)}]`</script>",
        "utf-8",
    )
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               "--allow-file-access-from-files", f"--user-data-dir={folder / 'chromium'}",
               "--window-size=1400,1000", (folder / "frame.html").as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    said = re.search(r'<p id="said">(.*?)</p>', done.stdout, re.DOTALL)
    assert said is not None, done.stdout[-500:]
    return list(json.loads(html.unescape(said[1])))


def test_frames_come_back_from_parquet(tmp_path: Path) -> None:
    comparison = failing(made_up(3, axes={"client.epochs": [1, "auto"]}), "fedsgd", (1,), "boom")
    written(comparison, tmp_path)
    runs = pd.read_parquet(tmp_path / "runs.parquet")
    assert runs["client.epochs"].unique().tolist() == ["1", "auto"]
    assert runs["top1"].tolist() == pytest.approx(comparison.runs["top1"].tolist(), nan_ok=True)
    assert runs["rounds_to_target"].isna().tolist() == (
        comparison.runs["rounds_to_target"].isna().tolist()
    )
    assert len(pd.read_parquet(tmp_path / "curves.parquet")) == len(comparison.curves)
    assert not list(tmp_path.glob(".*"))


# -- verdicts --------------------------------------------------------------------------------


def test_a_difference_is_resolved_where_its_interval_and_p_say_so() -> None:
    comparison = made_up(3, seeds=5)
    table = summarised(comparison).set_index("strategy")
    text = said(comparison)
    assert table.loc["fedsgd", "difference_high"] < 0 < table.loc["fedprox", "difference_high"]
    assert table.loc["fedprox", "difference_low"] < 0
    assert "1 of 2 differences in test top-1 are resolved" in text
    assert re.search(r"^Worse than fedavg: fedsgd \N{MINUS SIGN}2\.\d\d \(", text, re.MULTILINE)
    assert re.search(r"^Not resolved against fedavg: fedprox \+0\.", text, re.MULTILINE)


def test_an_interval_above_zero_is_not_enough_where_holm_says_no() -> None:
    comparison = made_up(2)
    table = summarised(comparison)
    table.loc[1, ["difference", "difference_low", "difference_high", "p"]] = 0.01, 0.001, 0.02, 0.08
    text = "\n".join(findings(comparison, table))
    assert "Not resolved against fedavg: fedsgd +1.00 (+0.10 to +2.00)." in text
    table.loc[1, "p"] = 0.04
    assert "Better than fedavg: fedsgd" in "\n".join(findings(comparison, table))


@pytest.mark.parametrize(("spread", "bold"), [(0.01, True), (0.6, False)])
def test_the_best_is_bold_only_where_it_beats_each_other_beyond_chance(
    spread: float, bold: bool
) -> None:
    comparison = made_up(6, spread=spread)
    gains = comparison.runs.pivot(index="seed", columns="strategy", values="top1")
    p = [stats.ttest_rel(gains["fedadam"], gains[s]).pvalue for s in gains if s != "fedadam"]
    assert bool(max(p) * 5 < 0.05) is bold
    shown = {row["strategy"]: row["top-1, %"] for row in markdown_rows(comparison)}
    assert shown["fedadam"].startswith("**") is bold
    assert not any(text.startswith("**") for name, text in shown.items() if name != "fedadam")
    assert ("its lead over every other strategy is resolved" in said(comparison)) is bold
    assert (r"\textbf{" in latex(comparison, summarised(comparison))) is bold


def test_one_seed_gives_no_interval_and_no_verdict(tmp_path: Path) -> None:
    comparison = made_up(6, seeds=1)
    text = said(comparison)
    assert "One seed cannot say whether a difference is more than chance" in text
    assert "one seed gives no verdict on its lead" in text
    assert "with no verdict: fedsgd" in text
    for word in (" ± ", " to +", "Better than", "Worse than", "is resolved", "not resolved"):
        assert word not in text
    page, _ = written(comparison, tmp_path)
    assert "One seed, so no intervals and no tests." in page.text
    assert not any("±" in cell or "**" in cell
                   for row in markdown_rows(comparison) for cell in row.values())  # fmt: skip


def test_two_seeds_give_no_verdict() -> None:
    comparison = made_up(3, seeds=2, spread=0.0)
    table = summarised(comparison)
    table.loc[1, ["difference", "difference_low", "difference_high", "p"]] = -0.03, -0.04, -0.02, 0
    text = "\n".join(findings(comparison, table))
    assert "2 seeds resolve nothing: at least 3 are needed" in text
    assert "2 seeds give no verdict on its lead" in text
    for word in ("Better than", "Worse than", "is resolved", "not resolved", "are resolved"):
        assert word not in text
    assert not any("**" in cell for row in markdown_rows(comparison) for cell in row.values())


def test_a_lead_that_is_the_same_in_every_seed_is_not_bold() -> None:
    """Half of the canaries against a quarter, three times."""
    comparison = made_up(2, leakage=True)
    half = comparison.runs["strategy"] == "fedavg"
    runs = comparison.runs.assign(canaries_extracted=np.where(half, 0.5, 0.25))
    comparison = dataclasses.replace(comparison, runs=runs)
    shown = [row["canaries extracted, %"] for row in markdown_rows(comparison)]
    assert shown == ["50.0 ± 0.0", "25.0 ± 0.0"]
    assert "Lowest canaries extracted: fedsgd, 25.0 ± 0.0 %; its lead over the others is not" in (
        said(comparison)
    )


def test_an_interval_without_zero_that_holm_does_not_resolve_is_explained() -> None:
    comparison = made_up(2)
    table = summarised(comparison)
    table.loc[1, ["difference", "difference_low", "difference_high", "p"]] = 0.01, 0.001, 0.02, 0.08
    told = "intervals of differences are not adjusted for the number of comparisons"
    assert told in "\n".join(findings(comparison, table))
    table.loc[1, "difference_low"] = -0.001
    assert told not in "\n".join(findings(comparison, table))
    assert told in markdown(comparison, table), "in the caption, always"
    uncorrected = "leads are not corrected for the number of settings"
    assert uncorrected not in markdown(comparison, table)
    several = made_up(2, axes={"client.epochs": [1, 5]})
    assert uncorrected in markdown(several, summarised(several))


# -- who shares a place ----------------------------------------------------------------------


def tied(axes: dict[str, list[Any]] | None = None, **columns: Any) -> Comparison:
    """A comparison of three in which all are equal in these columns."""
    comparison = made_up(3, axes=axes, leakage=True)
    return dataclasses.replace(comparison, runs=comparison.runs.assign(**columns))


def test_equal_figures_have_no_winner() -> None:
    rounds = {"rounds_to_target": 5, "bytes_to_target": 10**9, "download_to_target": 10**9}
    text = said(tied(top1=0.1, canaries_extracted=0.0, **rounds))
    assert "Lowest canaries extracted: equal for all, 0.0 %." in text
    assert "The highest mean top-1 on the test users, 10.00 %, is that of all strategies" in text
    assert "All cells that always get to 13.00 % validation top-1 take 5.0 rounds on" in text
    assert "; all with the fewest uploaded bytes (1.0 GB) and the fewest downloaded bytes" in text
    assert "0.00 points above" not in text


def test_no_lowest_is_named_of_a_figure_that_not_all_have() -> None:
    comparison = made_up(3, leakage=True)
    runs = comparison.runs.copy()
    runs.loc[runs.strategy == "fedsgd", "exposure_bits"] = np.nan
    text = said(dataclasses.replace(comparison, runs=runs))
    assert "Lowest mean exposure of canaries: not told, since not every strategy that" in text
    assert "Lowest canaries extracted: fedsgd" in text


def test_of_how_many_canaries_an_exposure_is_stands_beside_it(tmp_path: Path) -> None:
    """9.97 bits of one canary are luck, and without any there is nothing to draw."""
    comparison = made_up(2, leakage=True)
    few = dataclasses.replace(
        comparison, runs=comparison.runs.assign(canaries_trained=[1, 9, 4, 2, 3, 5])
    )
    assert "Exposure is a mean over 1 to 9 canaries whose holders took part, by run." in said(few)
    assert "no canary's holder" not in said(few)
    assert not any("trained" in name for name in markdown_rows(few)[0]), "it is no leakage"
    with_all = written(few, tmp_path)[1].count("<svg")
    runs = few.runs.copy()
    runs.loc[runs.seed == 1, "canaries_trained"] = 0
    runs.loc[runs.seed == 1, ["exposure_bits", "canaries_extracted"]] = np.nan
    unlucky = dataclasses.replace(few, runs=runs)
    table = contrasts.summary(unlucky)
    assert table.exposure_bits.isna().all()
    told = "\n".join(findings(unlucky, table))
    assert "In 2 of 6 runs no canary's holder was drawn: such runs have no exposure" in told
    page = write_comparison(tmp_path, unlucky, table).read_text("utf-8")
    assert page.count("<svg") == with_all - 2, "of exposure and of extraction"


def test_two_that_share_the_first_place_are_both_named() -> None:
    comparison = made_up(3, leakage=True)
    pair = comparison.runs["strategy"].isin(["fedavg", "fedprox"])
    runs = comparison.runs.assign(
        top1=np.where(pair, 0.2, 0.1), canaries_extracted=np.where(pair, 0.0, 0.25),
        rounds_to_target=np.where(pair, 5, 9), bytes_to_target=np.where(pair, 10**9, 2 * 10**9),
        download_to_target=np.where(comparison.runs["strategy"] == "fedprox", 10**9, 2 * 10**9),
    )  # fmt: skip
    text = said(dataclasses.replace(comparison, runs=runs))
    assert "Lowest canaries extracted: fedavg and fedprox alike, 0.0 %." in text
    assert "top-1 on the test users, 20.00 %, is that of fedavg and fedprox alike." in text
    assert (
        "fedavg and fedprox get to 13.00 % validation top-1 in the fewest rounds on average (5.0) "
        "and the fewest uploaded bytes (1.0 GB), fedprox with the fewest downloaded bytes (1.0 GB)"
        in text
    )


def test_equal_figures_have_no_winner_in_any_setting() -> None:
    comparison = tied({"client.epochs": [1, 5]}, canaries_extracted=0.0)
    text = said(comparison)
    assert "Lowest canaries extracted: equal for all in 2 of 2 settings. Best of all: 0.0 %" in text
    assert "0.0 %, in 6 cells alike." in text
    first = comparison.runs["strategy"].eq("fedavg") & comparison.runs["client.epochs"].eq(1)
    runs = comparison.runs.assign(canaries_extracted=np.where(first, 0.0, 0.5))
    text = said(dataclasses.replace(comparison, runs=runs))
    assert "Lowest canaries extracted: fedavg in 1, equal for all in 1 of 2 settings; the" in text


def test_a_target_of_zero_is_no_target_and_one_never_reached_says_what_was() -> None:
    assert "validation top-1 in" not in said(made_up(2, target=0.0))
    comparison = made_up(2, target=0.9)
    highest = comparison.curves["top1"].max()
    text = said(comparison)
    assert (
        f"No run gets to 90.00 % validation top-1; the highest that any reaches is "
        f"{100 * highest:.2f} % (fedavg, seed "
    ) in text
    assert "Not always at" not in text


# -- what is missing is said -----------------------------------------------------------------


def test_failed_runs_are_shown_with_their_error(tmp_path: Path) -> None:
    error = "the loss of user 31 is not finite | lower client.lr"
    comparison = failing(made_up(3), "fedsgd", (2,), error)
    comparison = failing(comparison, "fedprox", (1, 2, 3), "out of memory")
    text = said(comparison)
    assert "5 of 9 runs finished" in text
    assert "4 runs failed (fedsgd; fedprox)" in text
    rows = {row["strategy"]: row for row in markdown_rows(comparison)}
    assert rows["fedsgd"]["seeds"] == "2 of 3"
    assert rows["fedprox"]["seeds"] == "0 of 3"
    assert rows["fedprox"]["top-1, %"] == MISSING
    page, source = written(comparison, tmp_path)
    assert error in page.text
    assert page.text.count("out of memory") == 3
    assert "fedprox: failed" in source
    assert not re.search(r"\bnan\b|&lt;NA&gt;", source)


def test_a_comparison_in_which_all_failed_is_still_a_page(tmp_path: Path) -> None:
    rows = [{"strategy": s, "seed": 1, "state": "failed", "error": "boom", "run": ""}
            for s in ("fedavg", "fedsgd")]  # fmt: skip
    nothing = pd.DataFrame()
    comparison = Comparison(("fedavg", "fedsgd"), ("fedavg", "fedsgd"), (1,), None, nothing,
                            nothing, nothing, nothing, MADE)  # fmt: skip
    comparison = dataclasses.replace(comparison, axes=(), runs=pd.DataFrame(rows))
    table = pd.DataFrame({"strategy": ["fedavg", "fedsgd"], "n": [0, 0], "p": [np.nan, np.nan]})
    page = Page(write_comparison(tmp_path, comparison, table).read_text("utf-8"))
    assert "No run finished, so there is nothing to compare." in page.text
    assert page.text.count("boom") == 2
    assert "2 failed" in checklist(comparison)


def test_a_target_that_is_not_reached_is_said_and_has_no_mean(tmp_path: Path) -> None:
    comparison = made_up(3)
    runs = comparison.runs.copy()
    lost = (runs["strategy"] == "fedprox") & (runs["seed"] == 1)
    runs.loc[lost, ["rounds_to_target", "bytes_to_target", "download_to_target"]] = pd.NA
    comparison = dataclasses.replace(comparison, runs=runs)
    text = said(comparison)
    assert "at 13.00 % validation top-1: fedsgd in 0 of 3 runs; fedprox in 2 of 3" in text
    assert "fedavg gets to 13.00 % validation top-1 in the fewest rounds on average" in text
    page, source = written(comparison, tmp_path)
    assert "fedprox 3 of 3" not in page.text
    assert "fedprox 2 of 3 not always not always not always" in page.text
    assert "fedsgd 0 of 3 never never never" in page.text
    assert ">2 of 3 runs<" in source
    mean = summarised(comparison).set_index("strategy").loc["fedavg", "rounds_to_target"]
    assert f"fedavg 3 of 3 {mean:.1f} ± " in page.text


def test_a_single_evaluation_tells_no_rounds_to_the_target_apart() -> None:
    comparison = made_up(2)
    last = comparison.curves["round"] == 60
    once = dataclasses.replace(comparison, curves=comparison.curves[last])
    told = "Rounds to the target cannot be told apart: each run was evaluated in one round only"
    assert told in said(once)
    assert told not in said(comparison)
    assert told not in said(dataclasses.replace(once, target=None))


def test_what_was_downloaded_until_the_target_stands_beside_what_was_uploaded() -> None:
    """SCAFFOLD sends its clients two models a round: as much up, twice as much down."""
    comparison = made_up(6)
    means = summarised(comparison).set_index("strategy")
    rows = {r["strategy"]: r for r in markdown_rows(comparison, "| strategy | reached by")}
    assert rows["scaffold"]["upload to target"] == size(means.loc["scaffold", "bytes_to_target"])
    assert rows["scaffold"]["download to target"] == size(
        2 * means.loc["scaffold", "bytes_to_target"]
    )
    assert rows["fedavg"]["download to target"] == rows["fedavg"]["upload to target"]
    assert rows["fedsgd"]["download to target"] == "never"


def test_caveats_name_tuning_edges_and_what_was_not_measured() -> None:
    assert "Nothing was tuned" in said(made_up(2))
    tuned = made_up(4, tuned=True)
    text = said(tuned)
    assert "Tuned alike, with 8 trials a strategy" in text
    assert "where a wider one may do better: optimizer.lr = 0.0985 of fedadam." in text
    assert text.count("optimizer.lr") == 1
    uneven = dataclasses.replace(tuned, trials=tuned.trials.iloc[:-3])
    assert "The tuning was not equal: 5 to 8 trials" in said(uneven)
    missed = dataclasses.replace(tuned, made={**MADE, "not_measured": ["Too few took part."]})
    assert "Too few took part." in said(missed).splitlines()


NO_COMPOSITION = "no composition with the search is computable"


@pytest.mark.parametrize("computable", [True, False])
def test_the_search_is_a_part_of_what_privacy_costs(computable: bool, tmp_path: Path) -> None:
    claim = Claim(epsilon=4.0, delta=1e-5, unit="user", adjacency="zero out one user",
                  sampler="cyclic", accountant="exact Gaussian", adversary="sees every model",
                  own_users=31, simulated_users=5000)  # fmt: skip
    row = {"mechanism": "dp-fedavg", **claim.columns(), "trials": 8,
           "epsilon_with_search": 13.25 if computable else np.nan,
           "epsilon_of_all": 21.5 if computable else np.nan, "private": False,
           "theorem": "some theorem", "theorem_of_all": "another theorem",
           "note": "" if computable else NO_COMPOSITION}  # fmt: skip
    rows = pd.DataFrame([{"strategy": name, **row} for name in ("fedavg", "fedsgd")])
    comparison = dataclasses.replace(made_up(2, tuned=True), privacy=rows)
    whose = "for 5,000 simulated users; of the run's own 31 users: none that means anything"
    sentence = (
        "Privacy of fedavg; fedsgd: epsilon of one run is 4 at delta = 1e-05 for each user "
        "(adjacency: zero out one user; sampler: cyclic; accountant: exact Gaussian), against an "
        f"adversary that sees every model. It holds {whose}. "
    )
    sentence += (
        f"With its search, whose 8 trials saw the same users: epsilon at most 13.25 {whose}, at "
        "the same delta, by some theorem. All that is published, every seed: epsilon at most 21.5 "
        f"{whose}, at the same delta, by another theorem."
        if computable
        else f"{NO_COMPOSITION}."
    )
    page, _ = written(comparison, tmp_path)
    for text in (said(comparison), markdown(comparison, summarised(comparison)),
                 checklist(comparison), page.text):  # fmt: skip
        assert sentence in text
    table = markdown_rows(comparison, "| strategy | mechanism")
    assert {r["epsilon of one run"] for r in table} == {f"4 {whose}"}
    searched = {r["epsilon, search included"] for r in table}
    assert searched == {f"13.25 {whose}" if computable else MISSING}
    assert {r["epsilon, all seeds"] for r in table} == {f"21.5 {whose}" if computable else MISSING}
    by = "fedavg, fedsgd: search included: some theorem; all seeds: another theorem."
    assert by in page.text
    below = "Every epsilon is at delta = 1e-05 for each user (adjacency: zero out one user;"
    for text in (markdown(comparison, summarised(comparison)), page.text):
        assert below in text, "the table is followed by what its figures depend on"
    in_latex = latex(comparison, summarised(comparison))
    assert escaped(sentence) in in_latex
    assert "Privacy of" not in said(made_up(2, tuned=True))
    assert "No cell has a privacy mechanism" in checklist(made_up(2))


# -- the page --------------------------------------------------------------------------------


AXES = {"client.epochs": [1, 5, 2], "server.cohort": [10, 50]}


@pytest.mark.parametrize(
    ("count", "axes"),
    [(1, 0), (6, 0), (12, 0), (6, 1), (2, 2), *(pytest.param(n, 2, marks=pytest.mark.slow)
                                                for n in (6, 12))],
)  # fmt: skip
def test_every_strategy_and_setting_is_on_the_page(count: int, axes: int, tmp_path: Path) -> None:
    chosen = dict(list(AXES.items())[:axes])
    comparison = made_up(count, seeds=2, axes=chosen, leakage=True, rounds=12, target=0.05)
    page, source = written(comparison, tmp_path)
    settings = (1, 3, 6)[axes]
    panels = -(-count // 8)
    assert source.count("<svg") == settings * (5 + 2 * panels + 2 * panels)
    drawn = " ".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert all(f">{name}<" in drawn for name in comparison.strategies)
    assert "#010" not in drawn
    assert not set(page.tags) & {"script", "link", "iframe", "img", "object", "embed", "base"}
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"https?://(?!www\.w3\.org/)|url\((?!#)|@import", source)
    assert len(markdown_rows(comparison)) == count * settings
    if axes == 2:
        cells = Cells(comparison, summarised(comparison))
        assert cells.settings == [(1, 10), (1, 50), (2, 10), (2, 50), (5, 10), (5, 50)]
        assert ">epochs=5, cohort=50<" in drawn


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    comparison = made_up(3, leakage=True)
    first = {p.name: p.read_bytes() for p in (written(comparison, tmp_path), tmp_path)[1].iterdir()}
    written(comparison, tmp_path)
    assert first == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_other_peoples_text_is_escaped(tmp_path: Path) -> None:
    comparison = failing(made_up(2, axes={"client.x": [EVIL]}), "fedsgd", (1,), EVIL)
    comparison = dataclasses.replace(comparison, made={"command": EVIL})
    page, _ = written(comparison, tmp_path)
    assert "script" not in page.tags
    assert page.text.count("<script>alert('x')</script>") >= 5


# -- LaTeX -----------------------------------------------------------------------------------


def test_latex_escapes_what_it_would_take_for_commands() -> None:
    assert escaped(r"a_b & 5 % of $x^2$ #1 {~}\n") == (
        r"a\_b \& 5 \% of \$x\textasciicircum{}2\$ \#1 \{\textasciitilde{}\}\textbackslash{}n"
    )
    assert escaped(f"\N{MINUS SIGN}1.2 ± 0.3 {MISSING} < ∞") == r"$-$1.2 $\pm$ 0.3 -- $<$ $\infty$"


@pytest.mark.parametrize(("count", "axes"), [(6, {}), (6, AXES), (12, AXES), (1, {})])
def test_latex_is_balanced_and_has_every_row(count: int, axes: dict[str, list[Any]]) -> None:
    comparison = made_up(count, seeds=2, axes=axes, leakage=True, rounds=6)
    text = latex(comparison, summarised(comparison))
    assert text.isascii()
    rows = [line for line in text.splitlines() if line.startswith(comparison.strategies)]
    cells = len(summarised(comparison))
    assert len(rows) == cells
    columns = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", text)
    assert {row.count(" & ") + 1 for row in rows} == {len(c) for c in columns}
    for begin in ("table", "tabular"):
        assert text.count(rf"\begin{{{begin}}}") == text.count(rf"\end{{{begin}}}")
    assert text.count("{") == text.count("}")
    assert text.count(r"\caption") == text.count(r"\toprule") == text.count(r"\bottomrule")
    assert "Student's t over seeds" in text
    assert text.count(r"\begin{table}") == -(-cells // 36)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no TeX here")
@pytest.mark.parametrize("axes", [{}, AXES])
def test_latex_compiles(axes: dict[str, list[Any]], tmp_path: Path) -> None:
    comparison = made_up(6, seeds=2, axes={**axes, "data.x_y%": [r"a&b\_{$"]}, rounds=6)
    text = latex(comparison, summarised(comparison))
    packages = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "paper.tex").write_text(f"{packages}\n{text}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log


# -- the checklist ---------------------------------------------------------------------------


def test_the_checklist_is_filled_in() -> None:
    text = checklist(made_up(4, tuned=True))
    for fact in ("fedavg, fedsgd, fedprox, fedadam; reference: fedavg", "Seeds: 1, 2, 3 (3)",
                 "chitchat", "CC-BY-4.0", "commit a044c2a", "run_sim.py compare --strategies",
                 "torch: 2.13.0", "1.50 hours", "8 trials a strategy, 32 in all, of which",
                 "16 were stopped early and 0 failed",
                 "| fedadam | optimizer.lr | 0.0985 | 0.001 to 0.1 | yes |",
                 "95 % interval of the mean over seeds", "Holm"):  # fmt: skip
        assert fact in text, fact
    assert text.count("**For the author:**") >= 5


def test_the_checklist_tells_the_data_and_how_it_was_cut() -> None:
    corpus = {**MADE["corpus"], "citation": "Somebody 2020"}
    data = {"splits": {"train": {"users": 23}, "test": {"users": 4}}, "options": {"max_words": 30}}
    made = {**MADE, "corpus": corpus, "data": data}
    text = checklist(dataclasses.replace(made_up(2), made=made))
    for line in ("Data set: name: chitchat, digest: sha256:12", "Licence of the data: CC-BY-4.0",
                 "Citation of the data: Somebody 2020",
                 "Splits and preprocessing: splits: (train: (users: 23), test: (users: 4)), "
                 "options: (max_words: 30)"):  # fmt: skip
        assert f"- {line}\n" in text


def test_the_checklist_says_what_it_cannot_know() -> None:
    comparison = dataclasses.replace(made_up(2, seeds=1), made={})
    text = checklist(comparison)
    for line in ("Data set", "Licence of the data", "Code", "Command", "Versions"):
        assert f"- {line}: **For the author:** not recorded" in text
    assert "Error bars: none" in text
    assert "No hyper-parameter was searched" in text
