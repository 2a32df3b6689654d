"""The privacy study: cells that are cached, composed epsilons, findings that intervals allow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from scipy import stats

from fedsim.config import load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.privacy.accountants import exact_gaussian
from fedsim.privacy.accounting import ZERO_OUT
from fedsim.privacy.claims import Claim
from fedsim.privacy.selection import PRIVATE_SELECTION
from fedsim.report.frontier import write_frontier
from fedsim.simulation import simulate
from fedsim.studies import frontier, frontier_results
from fedsim.studies.cells import Cell
from fedsim.studies.guarantees import guarantees, together
from server.privacy import mechanism_of, resolved


def points(**recalls: dict[float, tuple[float, float]]) -> pd.DataFrame:
    """Rows of a mean and its interval, from (mean, half width) by mechanism and budget."""
    rows = [
        {"mechanism": name.replace("_", "-"), "epsilon": epsilon, "top1_recall": mean,
         "top1_recall_low": mean - half, "top1_recall_high": mean + half}
        for name, by_epsilon in recalls.items()
        for epsilon, (mean, half) in by_epsilon.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def runs(**perplexities: tuple[float, ...]) -> pd.DataFrame:
    """Rows of runs at epsilon 8 that differ in nothing but the perplexity of each seed."""
    claim = Claim(epsilon=8.0, delta=1e-4, unit="user", adjacency=ZERO_OUT,
                  sampler="cyclic", accountant="exact Gaussian", adversary="sees every model",
                  own_users=31, simulated_users=5000, own_epsilon=634.02)  # fmt: skip
    same = {"top1_recall": 0.1, "top3_recall": 0.2, "exposure_max": 4.0, "exposure_mean": 3.0,
            "extracted": 0.0, "clip_norm": 0.5, "server_lr": 1.0, "noise_multiplier": 1.0,
            "noise_deviation": 0.1, "reported_users": 5000, "epsilon_with_search": 9.25,
            "epsilon_of_all": 12.5, "own_epsilon_with_search": 702.5, "own_epsilon_of_all": 933.25,
            "theorem": "composition of all trials (some theorem; PLD, h = 0.001)",
            "theorem_of_all": "composition of all seeds (another)", **claim.columns()}  # fmt: skip
    return pd.DataFrame(
        {"mechanism": name.replace("_", "-"), "epsilon": 8.0, "seed": seed, "perplexity": value}
        | same
        for name, values in perplexities.items()
        for seed, value in enumerate(values, 1)
    )


def written(rows: pd.DataFrame, folder: Path) -> Path:
    """The page of these runs, with its tables beside it."""
    table = frontier_results.summary(rows)
    said = frontier_results.findings(table, rows, simulated=False)
    needed = frontier_results.users_needed(table, frontier_results.noises_needed(rows))
    return write_frontier(folder, rows, table, needed, said)


# -- findings -------------------------------------------------------------------------------------


def test_a_crossing_is_one_that_the_intervals_show() -> None:
    clear = points(a={1: (0.09, 0.002), 8: (0.11, 0.002)}, b={1: (0.07, 0.002), 8: (0.14, 0.002)})
    assert frontier_results.crossings(clear, "a", "b") == [(1.0, 8.0)]
    vague = points(a={1: (0.09, 0.03), 8: (0.11, 0.03)}, b={1: (0.07, 0.03), 8: (0.14, 0.03)})
    assert frontier_results.crossings(vague, "a", "b") == []
    unknown = points(a={1: (0.09, math.nan), 8: (0.1, 0.0)}, b={1: (0.07, 0.0), 8: (0.2, 0.0)})
    assert frontier_results.crossings(unknown, "a", "b") == []
    no_change = points(a={1: (0.09, 0.0), 8: (0.2, 0.0)}, b={1: (0.07, 0.0), 8: (0.1, 0.0)})
    assert frontier_results.crossings(no_change, "a", "b") == []


def test_a_curve_is_monotone_up_to_its_intervals() -> None:
    falling = points(a={1: (0.12, 0.001), 8: (0.10, 0.001), math.inf: (0.13, 0.001)})
    assert not frontier_results.is_monotone(falling)
    assert frontier_results.is_monotone(points(a={1: (0.12, 0.011), 8: (0.10, 0.011)}))
    assert frontier_results.is_monotone(points(a={1: (0.10, 0.0), 8: (0.12, 0.0)}))


def test_perplexity_is_averaged_on_logarithms(tmp_path: Path) -> None:
    """Of 100, 1,000 and 10,000 an interval of the mean itself would begin at -9,899."""
    page = written(runs(blt=(100.0, 1_000.0, 10_000.0)), tmp_path)
    low, high = 10 ** np.array(stats.t.interval(0.95, 2, 3, 1 / math.sqrt(3)))  # of the decades
    found = pd.read_csv(tmp_path / "frontier.csv").iloc[0]
    assert found.perplexity == pytest.approx(1_000)
    assert (found.perplexity_low, found.perplexity_high) == pytest.approx((low, high))
    assert f"| 1,000.0 ({low:,.1f} to {high:,.1f}) |" in (tmp_path / "frontier.md").read_text()
    assert "made on logarithms" in page.read_text()


def test_every_budget_says_for_whom_it_holds(tmp_path: Path) -> None:
    page = written(runs(dp_fedavg=(100.0, 101.0), blt=(110.0, 111.0)), tmp_path)
    paper = (tmp_path / "frontier.md").read_text()
    assert paper.count("| 8 for 5,000 simulated users; of the run's own 31 users: 634.1 |") == 2
    for told in ("9.25 for 5,000 simulated users; of the run's own 31 users: 702.5",
                 "12.5 for 5,000 simulated users; of the run's own 31 users: 933.3"):  # fmt: skip
        assert paper.count(f"| {told} |") == 2
    told = "Every epsilon is at delta = 0.0001 for each user (adjacency: zero out one user; "
    assert paper.count(told) == 1
    assert page.read_text().count(told) == 3, "below the plots and both tables"
    kept = pd.read_csv(tmp_path / "frontier.csv").iloc[0]
    assert Claim.of_row(kept) == Claim.of_row(runs(blt=(1.0,)).iloc[0])


def test_a_bar_of_perplexity_reaches_further_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = []
    draw = Axes.errorbar

    def spy(axes: Axes, x: Any, y: Any, yerr: Any, **looks: Any) -> Any:
        bars.append((axes.get_title("left"), yerr))
        return draw(axes, x, y, yerr, **looks)

    monkeypatch.setattr(Axes, "errorbar", spy)
    written(runs(blt=(100.0, 1_000.0, 10_000.0)), tmp_path)
    ((below,), (above,)) = dict(bars)["perplexity"]
    assert 0 < below < 1_000, "no bar goes below 0"
    low, high = 1_000 - below, 1_000 + above
    assert low * high == pytest.approx(1_000**2), "as far down as up, on logarithms"


def test_a_lead_by_perplexity_is_one_on_logarithms(tmp_path: Path) -> None:
    """The interval of blt begins at 33,000, far above the other's; that of its plain mean, 3.7e7
    with half a width of 1.4e8, would hide the lead."""
    rows = runs(dp_fedavg=(100.0, 101.0, 102.0), blt=(1e6, 1e7, 1e8))
    written(rows, tmp_path)
    paper = (tmp_path / "frontier.md").read_text()
    assert "By perplexity: of dp-fedavg and blt, dp-fedavg is better at budget 8." in paper
    assert "By top-1 recall: between blt and dp-fedavg these seeds settle nothing" in paper
    diverged = runs(dp_fedavg=(100.0, 101.0, 102.0), blt=(1e6, 1e7, math.inf))
    written(diverged, tmp_path)
    paper = (tmp_path / "frontier.md").read_text()
    assert "| ∞ |" in paper
    assert "By perplexity: between blt and dp-fedavg these seeds settle nothing" in paper


def test_users_needed_by_hand() -> None:
    """Half the noise multiplier keeps another budget with half the users; delta sets a limit."""
    row = {"mechanism": "a", "epsilon": 2.0, "top1_recall": 0.1, "noise_multiplier": 1.0,
           "reported_users": 5000, "delta": 1e-4}  # fmt: skip
    needed = {("a", 8.0): 0.5, ("a", 2.0): 1.0, ("a", 0.5): 3.0}
    (found,) = frontier_results.users_needed(pd.DataFrame([row]), needed).to_dict("records")
    assert found["8"] == 2500
    assert found["2"] == 5000
    assert math.isnan(found["0.5"]), "15,000 users at a delta of 1e-4 have no guarantee"


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=3", "--seeds"),
        ("privacy.epsilon=9", "--epsilons"),
        ("optimizer.lr=1", "--server-lrs"),
        ("privacy.clip_norm=1", "--clip-norms"),
        ("privacy=blt", "--mechanisms"),
    ],
)
def test_what_the_study_varies_cannot_be_overridden(override: str, said: str) -> None:
    frontier.check_overrides(["server.rounds=3"])
    with pytest.raises(FedsimError, match=said):
        frontier.check_overrides([override])


@pytest.mark.parametrize(
    ("mechanisms", "epsilons", "said"),
    [
        ("dp-fedavg", "inf,-1", "no budget"),
        ("dp-fedavg", "eight", "no budget"),
        ("dp-fedavg", "nan", "no budget"),
        ("", "8", "names none"),
        ("local", "8", "no guarantee for users"),
        ("foo", "8", "There is no privacy mechanism"),
        ("blt,blt", "8", "once"),
        ("blt", "8,8.0", "once"),
    ],
)
def test_lists_that_mean_nothing_are_refused(mechanisms: str, epsilons: str, said: str) -> None:
    with pytest.raises(FedsimError, match=said):
        frontier.parse_points(mechanisms, epsilons)


@pytest.mark.parametrize("text", ["0", "a,b", "", "1,inf", "-1"])
def test_settings_to_search_are_positive_numbers(text: str) -> None:
    with pytest.raises(FedsimError, match="--clip-norms"):
        frontier.numbers(text, "--clip-norms")


# -- composition ----------------------------------------------------------------------------------


def test_runs_of_a_search_compose_for_both_populations(tiny: str, tmp_path: Path) -> None:
    """Cyclic: everybody takes part once in each of five runs of two rounds, five times in all."""
    config = load(tiny, ["privacy=dp-fedavg", "server.sampler=cyclic", "server.rounds=2",
                         "privacy.noise_multiplier=5", "privacy.delta=1e-3",
                         "privacy.report_cohort=14", "privacy.noise=seeded"])  # fmt: skip
    run = simulate(config, tmp_path / "run", quiet=True)
    found = together([run, run], [run, run, run])
    for prefix, noise in (("", 5.0), ("own_", 2.5)):
        for name, times in (("epsilon_with_search", 4), ("epsilon_of_all", 5)):
            exact = exact_gaussian(noise / math.sqrt(times), 1e-3)
            assert found[f"{prefix}{name}"] == pytest.approx(exact)
    assert "Dong, Roth & Su 2022" in found["theorem"]
    alone = together([run], [])
    assert alone["epsilon_with_search"] == alone["epsilon_of_all"] == exact_gaussian(5.0, 1e-3)
    assert (alone["theorem"], alone["theorem_of_all"]) == ("", "")


def test_nothing_tells_how_many_trials_a_private_selection_had(tiny: str, tmp_path: Path) -> None:
    """One Gaussian a run: with its search a run costs less by selection, two runs by composition.

    Printed side by side, the second figure told the number that the first must keep secret.
    """
    config = load(tiny, ["privacy=dp-fedavg", "server.sampler=cyclic", "server.rounds=2",
                         "privacy.noise_multiplier=1", "privacy.delta=1e-5",
                         "privacy.noise=seeded"])  # fmt: skip
    run, cell = simulate(config, tmp_path / "run", quiet=True), Cell("fedavg", (), (), frozenset())
    rows = []
    for drawn in (0, 1, 5):
        (row,) = guarantees(
            {(cell, 1): run, (cell, 2): run}, {cell: [run] * drawn}, {cell: 2}, {}
        ).to_dict("records")
        assert row["theorem_of_all"] == row["theorem"] == PRIVATE_SELECTION
        assert row["epsilon"] < row["epsilon_with_search"] < row["epsilon_of_all"]
        rows.append(row)
    assert rows[0] == rows[1] == rows[2]


def test_the_page_names_the_theorems_and_for_whom_each_figure_holds(tmp_path: Path) -> None:
    page = written(runs(blt=(100.0, 101.0), dp_fedavg=(100.0, 101.0)), tmp_path).read_text()
    for text in (page, (tmp_path / "frontier.md").read_text()):
        assert text.count("9.25 for 5,000 simulated users; of the run") == 2
        for figure in ("702.5", "12.5", "933.3"):
            assert figure in text
        assert "not computed" not in text
        assert "of blt, dp-fedavg by composition of all trials (some theorem; PLD)." in text
        assert "of blt, dp-fedavg by composition of all seeds (another)." in text


@pytest.mark.parametrize("name", ["dp-fedavg", "adaptive", "tree", "banded", "blt"])
def test_the_users_that_were_there_get_less_than_those_reported(name: str, tiny: str) -> None:
    sampler = "poisson" if name in ("dp-fedavg", "adaptive") else "cyclic"
    config = load(tiny, [f"privacy={name}", f"server.sampler={sampler}", "server.rounds=12",
                         "privacy.noise_multiplier=8", "privacy.report_cohort=70",
                         *(["privacy.bit_noise=20"] if name == "adaptive" else [])])  # fmt: skip
    federation = open_federation(config)
    mechanism = mechanism_of(resolved(config, federation), federation)
    guarantee = mechanism.guarantee(8.0, 12)
    own = mechanism.beside(federation.population)["own"]
    assert guarantee is not None
    assert own["reported_users"] == 290
    assert own["epsilon"] > 5 * guarantee.epsilon


# -- the whole ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_runs_is_cached_and_tells_what_it_found(tiny: str, tmp_path: Path) -> None:
    study = frontier.Study(
        frontier.parse_points("dp-fedavg,blt", "inf,8"),
        (1, 2),
        frontier.Tuning((0.5,), (0.5, 1.0)),
        tiny,
        ("server.rounds=2", "evaluation.every=2"),
    )
    told: list[str] = []
    rows = frontier.run_study(study, tmp_path, 2, lambda name, done, of: told.append(name))
    assert len(rows) == 8
    assert len(told) == 16, "two trials for each of four points, then two seeds each"
    private = rows[rows.epsilon == 8]
    assert (private.epsilon_with_search > 8).all(), "three runs have seen the same users"
    assert (private.epsilon_of_all > private.epsilon_with_search).all(), "and four"
    assert private.theorem.str.startswith("composition of all trials").all()
    assert set(private.adjacency) == {ZERO_OUT}
    again = frontier.run_study(study, tmp_path, 2, lambda name, done, of: told.append(name))
    assert len(told) == 16, "nothing is trained twice"
    pd.testing.assert_frame_equal(rows, again)

    page = written(rows, tmp_path)
    assert len(pd.read_csv(tmp_path / "frontier.csv")) == 4
    paper = (tmp_path / "frontier.md").read_text()
    for needed_word in ("dp-fedavg", "zero out one user", "sees every global model", "±"):
        assert needed_word in paper
    assert page.read_text().count("<svg") == 4
