"""The memorization study: the rule of its verdict on made-up tables, its cells, its page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fedsim.config import load
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.report.memorization import as_text, findings, write_memorization
from fedsim.runs import Run
from fedsim.seeding import stream
from fedsim.studies import cell_store, memorization, ordering, pooled
from fedsim.studies.memorization import CENTRAL, DP, IID, ORDER, USER, Outcome, Private, Study
from fedsim.studies.ordering import AS_FOUND, REVERSED, UNRESOLVED, difference, growth, verdict

CEILING = math.log2(1001)
PRIVATE = Private(8.0, 0.5, 1.0, 2000)


def table(means: dict[str, Any], seeds: int = 3, canaries: int = 6) -> pd.DataFrame:
    """Rows of planted canaries; the exposure of a setting is its mean, or a function of
    (seed, canary), beside what all settings of a canary share."""
    rows = []
    for setting, mean in means.items():
        for seed in range(1, seeds + 1):
            for canary in range(canaries):
                rng = stream(seed, "canary", user=canary)
                own = stream(seed, setting, user=canary).normal(0, 0.3)
                bits = mean(seed, canary) if callable(mean) else mean + rng.normal(0, 2) + own
                rows.append(
                    {"setting": setting, "seed": seed, "canary": canary, "kind": "planted",
                     "users": 2 ** (canary % 3), "repeats": 1, "holder_participations": 3,
                     "nats": 50 - bits, "exposure_bits": min(bits, CEILING),
                     "ceiling_bits": CEILING, "extracted": False, "margin_bits": bits,
                     "copies_trained": 3, "exact_bits": bits}
                )  # fmt: skip
    return pd.DataFrame(rows)


# -- the rule -------------------------------------------------------------------------------------


def test_a_difference_is_students_t_over_the_means_of_seeds() -> None:
    rows = table({"a": 5.0, "b": 4.0}, seeds=5)
    found = difference(rows, "a", "b", "exposure_bits")
    one, other = (rows[rows.setting == s].groupby("seed").exposure_bits.mean() for s in "ab")
    interval = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.pairs, len(found.seeds)) == (30, 5)
    assert found.mean == pytest.approx(np.mean(found.seeds))


def test_equal_settings_are_told_apart_as_seldom_as_said() -> None:
    """All canaries of a seed share a model: 2.5 % on each side, however many canaries there are."""
    draw = stream(0, "nothing between the settings")
    said = []
    for _ in range(400):
        shared = draw.normal(0, 1, (2, 4))
        rows = table({name: lambda seed, c, own=own: 5 + own[seed] + 0.01 * c
                      for name, own in zip("ab", shared, strict=True)})  # fmt: skip
        said.append(difference(rows, "a", "b", "margin_bits").verdict)
    for wrong in (AS_FOUND, REVERSED):
        assert stats.binomtest(said.count(wrong), 400, 0.025).pvalue > 0.01


def test_canaries_differ_more_than_settings_do_and_pairs_still_tell() -> None:
    rows = table({"a": 5.6, "b": 5.0})
    assert difference(rows, "a", "b", "margin_bits").verdict == AS_FOUND
    assert difference(rows, "b", "a", "margin_bits").verdict == REVERSED


def test_equal_settings_are_not_resolved() -> None:
    assert difference(table({"a": 5.0, "b": 5.0}), "a", "b", "margin_bits").verdict == UNRESOLVED


def test_one_seed_that_disagrees_leaves_it_open() -> None:
    mixed = table({"a": lambda seed, _: 5.0 if seed == 1 else 9.0, "b": lambda *_: 5.5})
    found = difference(mixed, "a", "b", "exposure_bits")
    assert min(found.seeds) < 0 < found.mean
    assert found.verdict == UNRESOLVED


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_resolve_nothing(seeds: int) -> None:
    clear = table({"a": 9.0, "b": 2.0}, seeds)
    assert difference(clear, "a", "b", "margin_bits").verdict == UNRESOLVED


def test_what_is_at_the_ceiling_in_both_is_counted() -> None:
    rows = table({"a": lambda _, c: 30.0 if c < 3 else 6.0, "b": lambda _, c: 25.0 if c < 2 else 5})
    assert difference(rows, "a", "b", "exposure_bits").ceiling == pytest.approx(1 / 3)


def test_canaries_that_were_never_trained_on_are_left_out() -> None:
    rows = table({"a": 5.0, "b": 4.0})
    never = (rows.setting == "b") & (rows.canary == 0)
    rows.loc[never, ["holder_participations", "exposure_bits"]] = 0, 100.0
    found = difference(rows, "a", "b", "exposure_bits")
    assert found.pairs == 15
    assert found.verdict == AS_FOUND


@pytest.mark.parametrize(
    ("means", "said"),
    [((9.0, 7.0, 5.0, 2.0), AS_FOUND), ((9.0, 7.0, 7.0, 2.0), UNRESOLVED),
     ((9.0, 7.0, 2.0, 5.0), REVERSED), ((7.0, 9.0, 9.0, 2.0), REVERSED)],
)  # fmt: skip
def test_the_order_is_that_of_all_its_steps(means: tuple[float, ...], said: str) -> None:
    rows = table(dict(zip(ORDER, means, strict=True)))
    assert verdict(ordering.differences(rows, ORDER, ["margin_bits"])) == said


def test_growth_is_over_the_slopes_of_seeds() -> None:
    slopes = (0.5, 1.0, 2.5)
    found = growth(table({"a": lambda seed, c: 3.0 + slopes[seed - 1] * (c % 3)}), "a")
    interval = stats.ttest_1samp(slopes, 0).confidence_interval(0.95)
    assert found.slope == pytest.approx(np.mean(slopes))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert not growth(table({"a": 5.0}, seeds=1), "a").grows


def test_means_of_cells_are_over_seeds() -> None:
    rows = table({USER: lambda seed, c: float(seed + c)})
    cell = memorization.grid(rows).iloc[0]  # one user: canaries 0 and 3
    seeds = stats.ttest_1samp([2.5, 3.5, 4.5], 0).confidence_interval(0.95)
    assert (cell.exposure_low, cell.exposure_high) == pytest.approx((seeds.low, seeds.high))
    assert cell.n == 6


def test_perplexity_of_a_setting_is_averaged_on_logarithms() -> None:
    """Of 100, 1,000 and 10,000 an interval of the mean itself would begin at -9,899."""
    canaries = table(dict.fromkeys(ORDER, 5.0))
    runs = pd.DataFrame(
        {"setting": setting, "seed": seed, "passes": 3.0, "validation_top1": 0.1,
         "validation_perplexity": 10.0 ** (seed + 1), "test_top1": 0.1}
        for setting in ORDER for seed in (1, 2, 3)
    )  # fmt: skip
    low, high = 10 ** np.array(stats.t.interval(0.95, 2, 3, 1 / math.sqrt(3)))  # of the decades
    found = Outcome.of(canaries, runs)
    row = found.settings.iloc[0]
    assert row.validation_perplexity == pytest.approx(1_000)
    ends = row.validation_perplexity_low, row.validation_perplexity_high
    assert ends == pytest.approx((low, high))
    assert f"| 1,000.0 ({low:,.1f} to {high:,.1f}) |" in as_text(found, PRIVATE)


def test_growth_is_bits_a_doubling() -> None:
    rows = table({"a": lambda seed, c: 3.0 + 1.5 * (c % 3) + 0.01 * seed, "b": lambda *_: 4.0})
    found = growth(rows, "a")
    assert found.slope == pytest.approx(1.5)
    assert found.grows
    assert not growth(rows, "b").grows


# -- what is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [("seed=3", "--seeds"), ("server.rounds=9", "--rounds"), ("privacy=blt", "--epsilon"),
     ("federation.partition=iid", "leave it out"), ("evaluation.central_epochs=2", "--rounds")],
)  # fmt: skip
def test_what_the_study_varies_cannot_be_overridden(override: str, said: str) -> None:
    memorization.check_overrides(["client.lr=1", "evaluation.central_lr=0.01"])
    with pytest.raises(FedsimError, match=said):
        memorization.check_overrides([override])


def test_cells_differ_in_their_setting_only(tiny: str) -> None:
    study = Study((1,), PRIVATE, tiny, ("evaluation.central_lr=0.01", "server.rounds=12"))
    cells = {setting: study.config(setting, 1) for setting in ORDER}
    assert cells[IID].federation.partition == "iid"
    for setting, section in ((IID, "federation"), (CENTRAL, "evaluation")):
        mine, user = cells[setting].as_dict(), cells[USER].as_dict()
        assert {k for k in mine if mine[k] != user[k]} == {section}
    # 12 rounds of 7 among 29: everybody takes part about three times.
    assert cells[CENTRAL].evaluation.central_epochs == 3
    assert cells[CENTRAL].evaluation.central_lr == 0.01
    private = cells[DP].privacy.options
    assert (private.epsilon, private.report_users) == (8.0, 2000)


def test_shipped_canary_users_are_no_crowd() -> None:
    """Beyond a quarter of the population a run says that scores describe mostly them."""
    canaries = load("memorization").canaries
    users = sum(canaries.users) * len(canaries.repeats) * canaries.per_cell
    assert users / (748 + users) < 0.25


# -- the whole ------------------------------------------------------------------------------------


def test_a_central_cell_memorizes_what_it_is_shown_often(tiny: str, tmp_path: Path) -> None:
    """An independent truth: a sentence repeated a hundred times is learnt by heart."""
    config = load(tiny, ["evaluation.central=true", "evaluation.central_epochs=12",
                         "evaluation.central_lr=0.02", "evaluation.central_batch_size=8",
                         "canaries.users=[1]",
                         "canaries.repeats=[100]", "canaries.sentences=100"])  # fmt: skip
    pooled.train_pooled(config, tmp_path / "cell")
    run = Run.open(tmp_path / "cell")
    planted = run.exposure[run.exposure.kind == "planted"].iloc[0]
    assert planted.exposure_bits == planted.ceiling_bits
    assert planted.extracted
    assert not run.exposure[run.exposure.kind == "held_out"].extracted.any()
    assert planted.holder_participations == 12
    assert run.profile["parts"]["baselines"] > 0, "what it took is counted in a study's cost"
    assert run.digest
    assert run.model().n_parameters == run.results.parameters.iloc[0]
    assert set(run.evaluations["split"]) == {"validation", "test"}


def test_a_central_cell_is_trained_on_the_text_of_the_whole_population(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(tiny, ["evaluation.central=true", "evaluation.central_epochs=1"])
    given = []
    train = pooled.train_centrally

    def spy(config: Any, text: Any, *rest: Any) -> Any:
        given.append(text)
        return train(config, text, *rest)

    monkeypatch.setattr(pooled, "train_centrally", spy)
    pooled.train_pooled(config, tmp_path / "cell")
    federation = open_federation(config)
    assert len(given[0]) == federation.sizes(federation.population)[:, 0].sum()


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_and_tells_what_it_found(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study((1, 2, 3), PRIVATE, tiny, ("server.rounds=3",))

    class Killed(Exception):
        pass

    seen: list[str] = []

    def stop(name: str, done: int, of: int) -> None:
        seen.append(name)
        if len(seen) == 4:
            raise Killed

    with pytest.raises(Killed):
        memorization.run_study(study, tmp_path, 1, stop)
    # Those that were running end and stay, told or not.
    made = cell_store.cells_folder().glob("*/model.safetensors")
    before = {path: path.stat().st_mtime_ns for path in made}
    told: list[str] = []
    canaries, runs = memorization.run_study(study, tmp_path, 1, lambda name, *_: told.append(name))
    assert 4 <= len(before) < 12
    assert len(told) == 12 - len(before), "what was finished is not trained again"
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    assert len(runs) == 12
    assert set(canaries.setting) == set(ORDER)
    # The same canaries in every setting of a seed, and other ones in every seed.
    trained = canaries[canaries.kind == "planted"]
    assert len(trained) == 4 * 3 * 4

    found = Outcome.of(canaries, runs)
    said = " ".join(findings(found, PRIVATE))
    assert f"{' >= '.join(ORDER)}, over 3 seeds: {found.verdict()}, by sampled exposure" in said
    page = write_memorization(tmp_path, found, PRIVATE)
    assert page.read_text().count("<svg") == 3  # two numbers of users, and usefulness
    paper = (tmp_path / "memorization.md").read_text()
    for needed in (*ORDER, "±", "held-out exposure, sampled", "validation top-1"):
        assert needed in paper
    assert len(pd.read_csv(tmp_path / "canaries.csv")) == len(canaries)
