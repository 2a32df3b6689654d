"""`privacy compose`: several runs against dp-accounting used directly, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import dp_accounting as dp
import pytest
from dp_accounting.pld import PLDAccountant

from fedsim.cli import main as cli
from fedsim.config import load
from fedsim.errors import FedsimError
from fedsim.privacy.accountants import exact_gaussian
from fedsim.privacy.composition import Composed, compose_runs
from fedsim.privacy.statement import GROUPS
from fedsim.runs import Run
from fedsim.simulation import simulate

KEYS = ["server.rounds=2", "canaries.per_cell=0", "evaluation.every=2"]
PRIVATE = ["privacy.noise=seeded", "privacy.delta=1e-3"]
RUNS = {
    "poisson": ["privacy=dp-fedavg", "server.sampler=poisson", "privacy.noise_multiplier=3"],
    "seed 2": ["privacy=dp-fedavg", "server.sampler=poisson", "privacy.noise_multiplier=3",
               "seed=2"],
    "truncated": ["privacy=adaptive", "server.sampler=truncated", "privacy.noise_multiplier=4",
                  "server.max_cohort=9", "privacy.bit_noise=5"],
    "blt": ["privacy=blt", "server.sampler=cyclic", "privacy.noise_multiplier=5"],
    "fixed": ["privacy=dp-fedavg", "server.sampler=fixed", "privacy.noise_multiplier=20"],
    "local": ["privacy=local", "privacy.noise_multiplier=30"],
    "dp-sgd": ["privacy=dp-sgd", "privacy.noise_multiplier=3", "privacy.delta=1e-4",
               "privacy.steps=2"],
    "reported": ["privacy=dp-fedavg", "server.sampler=poisson", "privacy.noise_multiplier=8",
                 "privacy.report_cohort=70", "privacy.delta=1e-4"],
    "none": ["privacy=none"],
    "bare": ["privacy=dp-fedavg", "server.sampler=poisson"],
}  # fmt: skip


@pytest.fixture(scope="session")
def runs(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One finished run of each kind; tests only read them."""
    folder = tmp_path_factory.mktemp("published")
    return {
        name: simulate(
            load(tiny, [*KEYS, *(PRIVATE if name != "none" else []), *keys]),
            folder / name,
            quiet=True,
        )
        for name, keys in RUNS.items()
    }


def composed(runs: dict[str, Run], *names: str, **more: Any) -> Composed:
    return compose_runs([runs[name] for name in names], **more)


def test_three_runs_are_what_dp_accounting_composes(runs: dict[str, Run]) -> None:
    whole = composed(runs, "poisson", "truncated", "blt").there
    users = 23
    sensitivity = (runs["blt"].privacy or {})["guarantee"]["sensitivity"]
    accountant = PLDAccountant(dp.NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(dp.PoissonSampledDpEvent(7 / users, dp.GaussianDpEvent(3.0)), 2)
    accountant.compose(dp.TruncatedSubsampledGaussianDpEvent(users, 7 / users, 9, 4.0), 2)
    accountant.compose(dp.GaussianDpEvent(5.0 / sensitivity))
    assert whole.epsilon == pytest.approx(accountant.get_epsilon(1e-3), rel=1e-3)
    assert max(whole.epsilons) < whole.epsilon < sum(whole.epsilons)
    assert whole.rho == pytest.approx(2 / 18 + 2 / 32 + sensitivity**2 / 50)
    assert (whole.delta, whole.users) == (1e-3, users)
    assert whole.adjacency == "zero out one user; the number of users is public"
    smaller = composed(runs, "poisson", "truncated", "blt", delta=1e-5).there
    assert smaller.epsilon == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-3)


def test_replacements_are_twice_as_large_and_stay_replacements(runs: dict[str, Run]) -> None:
    """`local` alone is one Gaussian; beside it `fixed` is a replacement too, `blt` is not."""
    local, fixed = ((runs[name].privacy or {})["guarantee"] for name in ("local", "fixed"))
    with_fixed = composed(runs, "local", "fixed").there
    assert with_fixed.adjacency == "replace one user; the number of users is public"
    assert with_fixed.rho == pytest.approx(local["rho"] + 2 * 2 / 20**2)
    assert max(local["epsilon"], fixed["epsilon"]) < with_fixed.epsilon
    assert with_fixed.epsilon_rdp is not None
    assert with_fixed.epsilon <= with_fixed.epsilon_rdp
    with_blt = composed(runs, "local", "blt").there
    assert with_blt.adjacency == "zero out one user; the number of users is public"
    assert with_blt.mu is not None
    assert with_blt.epsilon == pytest.approx(exact_gaussian(1 / with_blt.mu, 1e-3))


def test_a_run_without_a_guarantee_makes_the_whole_infinite_and_is_named(
    runs: dict[str, Run],
) -> None:
    whole = composed(runs, "poisson", "none", "bare", "seed 2").there
    assert whole.epsilon == float("inf")
    assert [Path(name).name for name in whole.exposed] == ["none", "bare"]
    assert json.loads(json.dumps(whole.as_dict(), allow_nan=False))["epsilon"] == "inf"
    with pytest.raises(FedsimError, match="guarantees anything"):
        composed(runs, "none", "bare")


def test_the_same_run_again_tells_nothing_new(runs: dict[str, Run], tmp_path: Path) -> None:
    copy = shutil.copytree(runs["poisson"].path, tmp_path / "copy")
    again = compose_runs([runs["poisson"], runs["seed 2"], Run.open(copy)]).there
    once = composed(runs, "poisson", "seed 2").there
    assert again.repeated == (str(copy),)
    assert again.epsilon == once.epsilon
    assert once.epsilon > max(once.epsilons)


def changed(run: Run, folder: Path, name: str, change: Any) -> Run:
    """A copy of the run whose JSON file `name` was changed by `change`."""
    copy = shutil.copytree(run.path, folder / run.path.name)
    tree = json.loads((copy / name).read_text())
    change(tree)
    (copy / name).write_text(json.dumps(tree))
    (copy / "checksums.json").unlink()
    return Run.open(copy)


def test_runs_that_share_their_noise_are_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    """Noise of one key under another rate cancels in the difference of the two models."""
    key = (runs["poisson"].privacy or {})["noise"]["id"]
    assert key != (runs["seed 2"].privacy or {})["noise"]["id"]
    shared = changed(runs["seed 2"], tmp_path, "privacy.json",
                     lambda told: told["noise"].update(id=key))  # fmt: skip
    with pytest.raises(FedsimError, match="it cancels"):
        compose_runs([runs["poisson"], shared])


def test_the_words_of_a_corpus_are_released_once(runs: dict[str, Run], tmp_path: Path) -> None:
    words = {"kind": "threshold", "noise_multiplier": 6.0, "count": 1, "chance": 1e-4}
    both = [
        changed(runs[name], tmp_path, "privacy.json",
                lambda told: told["guarantee"]["events"].append(words))
        for name in ("blt", "poisson")
    ]  # fmt: skip
    accountant = PLDAccountant(dp.NeighboringRelation.REPLACE_SPECIAL)
    for name in ("blt", "poisson"):
        (event,) = (runs[name].privacy or {})["guarantee"]["events"]
        accountant.compose(
            dp.PoissonSampledDpEvent(event.get("rate", 1.0),
                                     dp.GaussianDpEvent(event["noise_multiplier"])),
            event["count"],
        )  # fmt: skip
    accountant.compose(dp.GaussianDpEvent(6.0))
    whole = compose_runs(both).there
    assert whole.epsilon == pytest.approx(accountant.get_epsilon(1e-3 - 1e-4), rel=2e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda told: told.pop("noise"), "which key its noise"),
     (lambda told: told["guarantee"].pop("events"), "what its guarantee is made of")],
)  # fmt: skip
def test_runs_of_earlier_versions_are_refused(
    runs: dict[str, Run], tmp_path: Path, change: Any, said: str
) -> None:
    old = changed(runs["seed 2"], tmp_path, "privacy.json", change)
    with pytest.raises(FedsimError, match=said):
        compose_runs([runs["poisson"], old])


def test_other_people_are_refused_unless_they_are_declared_the_same(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    other = changed(runs["seed 2"], tmp_path, "provenance.json",
                    lambda told: told["corpus"].update(digest="0" * 64))  # fmt: skip
    with pytest.raises(FedsimError, match="--same-people"):
        compose_runs([runs["poisson"], other])
    declared = compose_runs([runs["poisson"], other], same_people=True).there
    assert declared.epsilon == composed(runs, "poisson", "seed 2").there.epsilon


def test_what_does_not_compose_is_one_sentence(runs: dict[str, Run]) -> None:
    with pytest.raises(FedsimError, match="sequence of one client: such guarantees do not"):
        composed(runs, "poisson", "dp-sgd")
    with pytest.raises(FedsimError, match="two runs or more"):
        composed(runs, "poisson")
    with pytest.raises(FedsimError, match=r"--delta 0\.5 must be"):
        composed(runs, "poisson", "blt", delta=0.5)


def test_the_people_that_were_there_pay_more_than_those_who_are_simulated(
    runs: dict[str, Run],
) -> None:
    mixed = composed(runs, "reported", "poisson")
    assert mixed.reported is None, "one of the runs simulates nobody"
    alone = runs["reported"].privacy or {}
    assert mixed.there.epsilons[0] == alone["own"]["epsilon"] > 2 * alone["guarantee"]["epsilon"]
    assert mixed.there.epsilon > mixed.there.epsilons[0]


def test_the_command_says_it_in_words_and_in_json(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(runs[name].path) for name in ("poisson", "seed 2", "none")]

    def said(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["run_sim.py", "privacy", "compose", *paths, *more])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        return capfd.readouterr().out

    words = said()
    for word in ("epsilon     ∞ (no guarantee) at delta = 0.001", "all models together",
                 "each of the 23 users", "zero out one user", "sampler     poisson",
                 "every global model", "seed 2: epsilon", "none guarantees nothing"):  # fmt: skip
        assert word in words
    for title in ("MUST STAY SECRET", "NOT COVERED", "COMPOSES WITH", "EXACT, WITHOUT NOISE"):
        assert title in words
    assert words.startswith("SIMULATION")
    told = json.loads(said("--json"), parse_constant=pytest.fail)
    assert told["there"]["epsilon"] == "inf"
    assert told["reported"] is None


def test_the_whole_says_what_each_statement_says(runs: dict[str, Run]) -> None:
    """Once where all say the same, else with the run that says it."""
    whole = composed(runs, "poisson", "truncated", "local")
    for group in GROUPS:
        for name in ("poisson", "truncated", "local"):
            for label, sentence in (runs[name].privacy or {})[group].items():
                if label != "other runs":
                    assert sentence in whole.groups[group][label]
    hidden, names = whole.groups["not_covered"], [str(run.path) for run in runs.values()]
    assert hidden["the server"].startswith(str(runs["poisson"].path))
    assert not any(name in hidden["validation"] for name in names)
    assert "not counted here" in whole.groups["composes_with"]["other runs"]


def test_who_knows_who_took_part_has_another_epsilon_of_the_whole(runs: dict[str, Run]) -> None:
    whole = composed(runs, "poisson", "truncated", "blt").there
    told = [(runs[name].privacy or {})["guarantee"] for name in ("poisson", "truncated", "blt")]
    precision = told[0]["draws"] / 9 + told[1]["draws"] / 16 + told[2]["mu"] ** 2
    assert whole.epsilon_names_known == pytest.approx(exact_gaussian(precision**-0.5, 1e-3))
    assert whole.epsilon_names_known > whole.epsilon
    assert composed(runs, "blt", "local").there.epsilon_names_known is None
