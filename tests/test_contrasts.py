"""What a comparison says of its runs: intervals, paired tests, Holm, targets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fedsim.studies.comparison import Comparison, common_target, reached
from fedsim.studies.contrasts import holm, is_significant, paired_p, summary

# Top-1 by strategy and seed, made up.
TOP1 = {
    "a": {1: 0.10, 2: 0.12, 3: 0.11},
    "b": {1: 0.13, 2: 0.16, 3: 0.14},
    "c": {1: 0.10, 2: 0.13, 3: 0.10},
}


def comparison(rows: list[dict[str, Any]], axes: tuple[str, ...] = ()) -> Comparison:
    """Of these runs alone."""
    runs, nothing = pd.DataFrame(rows), pd.DataFrame()
    names = tuple(dict.fromkeys(runs.strategy))
    return Comparison(axes, names, (1, 2, 3), 0.1, runs, nothing, nothing, nothing, {})


def row(strategy: str, seed: int, **more: Any) -> dict[str, Any]:
    """A finished run."""
    return {"strategy": strategy, "seed": seed, "state": "finished", "error": "", "run": "",
            "top1": TOP1.get(strategy, {}).get(seed, math.nan), **more}  # fmt: skip


def every(**more: Any) -> list[dict[str, Any]]:
    """A run for each figure above."""
    return [row(name, seed, **more) for name, by_seed in TOP1.items() for seed in by_seed]


def test_means_and_paired_tests_are_those_of_scipy() -> None:
    table = summary(comparison(every())).set_index("strategy")
    a, b, c = (np.array(list(TOP1[name].values())) for name in "abc")
    for name, values in zip("abc", (a, b, c), strict=True):
        low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        found = table.loc[name, ["top1", "top1_low", "top1_high"]].tolist()
        assert found == pytest.approx([values.mean(), low, high])
    raw = [stats.ttest_rel(x, a).pvalue for x in (b, c)]
    assert raw[0] < raw[1]
    assert table.loc["b", "p"] == pytest.approx(2 * raw[0])
    assert table.loc["c", "p"] == pytest.approx(max(2 * raw[0], raw[1]))
    assert table.loc["b", "difference"] == pytest.approx((b - a).mean())
    low, high = stats.t.interval(0.95, 2, (b - a).mean(), stats.sem(b - a))
    assert table.loc["b", ["difference_low", "difference_high"]].tolist() == pytest.approx(
        [low, high]
    )
    assert table.loc["a", ["difference", "difference_low", "difference_high", "p"]].isna().all()


def test_perplexity_is_averaged_on_logarithms() -> None:
    """Of 100, 1,000 and 10,000 an interval of the mean itself would begin at -9,899."""
    values = [100.0, 1_000.0, 10_000.0]
    runs = [row("a", seed, perplexity=value) for seed, value in enumerate(values, 1)]
    found = summary(comparison(runs)).iloc[0]
    low, high = stats.t.interval(0.95, 2, 3, 1 / math.sqrt(3))  # of the decades 2, 3 and 4
    assert found.perplexity == pytest.approx(1_000)
    assert found.perplexity_low == pytest.approx(10**low)
    assert found.perplexity_high == pytest.approx(10**high)
    runs[0]["perplexity"] = math.inf  # that model diverged
    assert summary(comparison(runs)).iloc[0].perplexity == math.inf


def test_holm_by_hand() -> None:
    """Holm 1979: the smallest p times 4, the next times 3, ...; never falling, at most one."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, math.nan, 0.9])[::2] == [1.0, 1.0]
    assert math.isnan(holm([0.6, math.nan, 0.9])[1])


@pytest.mark.parametrize("step", [0.0, 0.25, 0.1 + 0.2])
def test_equal_changes_resolve_nothing(step: float) -> None:
    """0.5 against 0.25 of the canaries in every seed is no certainty: it comes in few steps."""
    before = np.array([0.1, 0.3, 0.7])
    for n in (2, 3):
        p = paired_p((before + step - before)[:n])
        assert math.isnan(p)
        assert not is_significant(p, n)


def test_two_seeds_resolve_nothing() -> None:
    changes = np.array([0.1, 0.1001])
    assert paired_p(changes) == pytest.approx(stats.ttest_1samp(changes, 0).pvalue)
    assert paired_p(changes) < 0.001
    assert not is_significant(paired_p(changes), 2)
    assert is_significant(0.049, 3)
    assert not is_significant(0.051, 3)


def test_a_pair_is_of_the_same_seed_and_the_same_axes() -> None:
    rows = [r | {"client.epochs": 1} for r in every()]
    rows += [r | {"client.epochs": 5, "top1": r["top1"] + 0.2} for r in every()]
    rows[0] |= {"state": "failed", "top1": math.nan}  # a, seed 1, one epoch
    table = summary(comparison(rows, ("client.epochs",))).set_index(["strategy", "client.epochs"])
    assert table.n.tolist() == [2, 3, 3, 3, 3, 3]
    two = np.array([0.16 - 0.12, 0.14 - 0.11])
    assert table.pairs.tolist() == [0, 2, 2, 0, 3, 3]
    assert table.loc[("b", 1), "difference"] == pytest.approx(two.mean())
    assert table.loc[("b", 5), "difference"] == pytest.approx(np.mean([0.03, 0.04, 0.03]))


def test_one_seed_has_a_mean_and_nothing_else() -> None:
    table = summary(comparison([row("a", 1), row("b", 1)]))
    assert table.top1.tolist() == [0.10, 0.13]
    assert table[["top1_low", "top1_high", "difference", "p"]].isna().all(axis=None)


def test_a_mean_over_some_of_the_seeds_would_flatter() -> None:
    rounds = pd.array([10, 20, None], "Int64")
    rows = [row("a", seed, rounds_to_target=r) for seed, r in zip((1, 2, 3), rounds, strict=True)]
    assert math.isnan(summary(comparison(rows)).rounds_to_target[0])
    assert summary(comparison(rows[:2])).rounds_to_target[0] == 15


def test_a_cell_of_failures_keeps_its_row() -> None:
    rows = [*every(), *(row("d", seed, state="failed") for seed in (1, 2))]
    last = summary(comparison(rows)).iloc[-1]
    assert (last.strategy, last.n) == ("d", 0)
    assert math.isnan(last.top1)


def test_the_target_is_reached_at_the_first_evaluation_above_it() -> None:
    curve = pd.DataFrame({"round": [5, 10, 15], "top1": [0.05, 0.12, 0.08],
                          "upload_bytes": [500, 1000, 1500],
                          "download_bytes": [900, 1800, 2700]})  # fmt: skip
    assert reached(curve, 0.08) == {"rounds_to_target": 10, "bytes_to_target": 1000,
                                    "download_to_target": 1800}  # fmt: skip
    assert all(math.isnan(value) for value in reached(curve, 0.2).values())
    assert reached(curve, 0.05)["rounds_to_target"] == 5


def test_the_common_target_is_what_every_run_ends_with() -> None:
    curves = pd.DataFrame(
        {"strategy": ["a", "a", "b", "b"], "seed": 1, "round": [5, 10, 10, 5],
         "top1": [0.3, 0.2, 0.15, 0.4]}
    )  # fmt: skip
    assert common_target(curves, ["strategy", "seed"]) == 0.15
