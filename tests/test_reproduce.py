"""Published findings: every verdict can be reached, cells differ in what is compared, one runs."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from federations import cached_cells
from typer.testing import CliRunner

from fedsim import __version__
from fedsim.cli.main import app
from fedsim.config import Config, load
from fedsim.errors import FedsimError
from fedsim.privacy.claims import rounded_up
from fedsim.report.reproduction import write_reproduction
from fedsim.runs import Run
from fedsim.studies.findings import FINDINGS, andrew2021, hard2018, kairouz2021, mcmahan2017
from fedsim.studies.findings.arms import run_those_that_can
from fedsim.studies.findings.base import DOES_NOT_SHOW, SHOWS, UNRESOLVED, Asked
from fedsim.studies.findings.pairing import paired
from fedsim.studies.memorization import ORDER

SEEDS = (1, 2, 3)


def rows(arms: dict[str, Sequence[float]], **more: object) -> pd.DataFrame:
    """A row an arm and seed with its top-1 recall in percent."""
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "top1": value / 100, "chosen": "", **more}
        for arm, values in arms.items()
        for seed, value in enumerate(values, 1)
    )


def test_pairing_by_seed_by_hand() -> None:
    """Differences 1, 2 and 3 points: mean 2, deviation 1, t(0.975, 2) = 4.303."""
    found = paired(rows({"a": (11, 13, 15), "b": (10, 11, 12)}), "a", "b")
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(0.01 * 4.302653 / math.sqrt(3))


# -- the rules ------------------------------------------------------------------------------------


def reddi(fedavg: Sequence[float], adagrad: Sequence[float]) -> pd.DataFrame:
    """FedAdam and FedYogi are clearly better; FedAdagrad decides."""
    best = [v + 3 for v in fedavg]
    return rows({"FedAvg": fedavg, "FedAdagrad": adagrad, "FedAdam": best, "FedYogi": best})


def andrew(adaptive: Sequence[float], best: Sequence[float], bad: Sequence[float]) -> pd.DataFrame:
    """Two fixed norms beside the adaptive one."""
    return rows({andrew2021.ADAPTIVE: adaptive, "fixed, 0.3": best, "fixed, 5": bad})


def kairouz(tree: Sequence[float], amplified: Sequence[float]) -> pd.DataFrame:
    """At epsilon 18 as given, at 2 with a tree that is far worse."""
    more = {"epsilon_with_search": 20.0, "adjacency": "", "noise_deviation": 0.0, "server_lr": 1.0}
    low = rows({"dp-fedavg": [8.0] * len(tree), "tree": [1.0] * len(tree)}, epsilon=2.0, **more)
    high = rows({"dp-fedavg": amplified, "tree": tree}, epsilon=18.0, **more)
    return pd.concat([low, high])


def mcmahan(sgd: Sequence[float], avg: Sequence[float], chat: Sequence[float]) -> pd.DataFrame:
    """Rounds to the target on roles, and of FedAvg on chat, where FedSGD takes 100."""
    name = mcmahan2017.SGD
    rounds = {f"Shakespeare: {name}": sgd, "Shakespeare: FedAvg": avg,
              f"chat: {name}": [100, 101, 102][: len(chat)], "chat: FedAvg": chat}  # fmt: skip
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "rounds": float(value), "budget": 200, "chosen": ""}
        for arm, values in rounds.items()
        for seed, value in enumerate(values, 1)
    )


def hard(federated: int, ngram: int, central: int) -> pd.DataFrame:
    """Hits of each of 40 users of 1,000 words, a few more or fewer from one to the next."""
    hits = {hard2018.FEDERATED: federated, hard2018.NGRAM: ngram, hard2018.CENTRAL: central}
    return pd.DataFrame(
        {"arm": arm, "seed": 1, "user": user, "words": 1000, "hits_top1": n + user % 3}
        for arm, n in hits.items()
        for user in range(40)
    )


def thakkar(bits: Sequence[float], seeds: int = 3) -> pd.DataFrame:
    """Mean exposure of the settings, in the order that is expected to fall."""
    return pd.DataFrame(
        {"setting": setting, "seed": seed, "canary": canary, "kind": "planted", "users": 1,
         "repeats": 1, "holder_participations": 1, "exposure_bits": value + 0.01 * seed * place,
         "exact_bits": value, "margin_bits": value, "ceiling_bits": 13.0, "extracted": False,
         "top1": 0.1}
        for place, (setting, value) in enumerate(zip(ORDER, bits, strict=True))
        for seed in range(1, seeds + 1)
        for canary in range(3)
    )  # fmt: skip


INFINITE = math.inf
JUDGED = [
    ("reddi2021", reddi((5, 6, 7), (7, 8, 9.1)), SHOWS),
    ("reddi2021", reddi((5, 6, 7), (4, 5.1, 6)), DOES_NOT_SHOW),
    ("reddi2021", reddi((5, 6, 7), (4, 7, 8)), UNRESOLVED),
    ("andrew2021", andrew((9, 9, 9), (9, 9.1, 9), (5, 5.1, 5)), SHOWS),
    ("andrew2021", andrew((7, 7, 7), (9, 9.1, 9), (5, 5.1, 5)), DOES_NOT_SHOW),
    ("andrew2021", andrew((9, 9, 9), (9, 9.1, 9), (9, 8.9, 9)), UNRESOLVED),  # none is bad
    ("andrew2021", andrew((7, 9, 9), (9, 9.1, 9), (5, 5.1, 5)), UNRESOLVED),
    ("kairouz2021", kairouz((9, 9.1, 9.2), (9.1, 9.1, 9.2)), SHOWS),
    ("kairouz2021", kairouz((8, 8.1, 8.2), (9.1, 9.1, 9.2)), DOES_NOT_SHOW),
    ("kairouz2021", kairouz((8, 9.1, 10), (9.1, 9.1, 9.2)), UNRESOLVED),
    ("mcmahan2017", mcmahan((100, 110, 90), (20, 21, 22), (10, 10, 10)), SHOWS),
    ("mcmahan2017", mcmahan((INFINITE,) * 3, (20, 21, 22), (10, 10, 10)), SHOWS),
    ("mcmahan2017", mcmahan((20, 21, 22), (100, 110, 90), (10, 10, 10)), DOES_NOT_SHOW),
    ("mcmahan2017", mcmahan((20, 21, 22), (INFINITE,) * 3, (10, 10, 10)), DOES_NOT_SHOW),
    ("mcmahan2017", mcmahan((100, 110, 90), (20, 21, 22), (50, 150, 50)), UNRESOLVED),
    ("mcmahan2017", mcmahan((INFINITE,) * 3, (INFINITE,) * 3, (10, 10, 10)), UNRESOLVED),
    ("hard2018", hard(190, 180, 193), SHOWS),
    ("hard2018", hard(170, 180, 173), DOES_NOT_SHOW),
    ("hard2018", hard(190, 180, 215), DOES_NOT_SHOW),
    ("hard2018", hard(180, 180, 180), UNRESOLVED),
    ("thakkar2021", thakkar((12, 11, 10, 7)), SHOWS),
    ("thakkar2021", thakkar((12, 11, 11.5, 7)), DOES_NOT_SHOW),
    ("thakkar2021", thakkar((12, 11, 10.98, 7)), UNRESOLVED),
    ("thakkar2021", thakkar((12, 11, 10, 7), seeds=2), UNRESOLVED),
]


@pytest.mark.parametrize(("name", "measured", "verdict"), JUDGED)
def test_every_verdict_can_be_reached(name: str, measured: pd.DataFrame, verdict: str) -> None:
    outcome = FINDINGS[name]().judge(measured)
    assert outcome.verdict == verdict
    assert len(outcome.table) > 1
    assert all(outcome.sentences)


@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "hard2018"])
def test_one_seed_shows_nothing(name: str) -> None:
    """But Hard et al.'s, whose intervals are over people and whose rule says so."""
    for judged, measured, _ in JUDGED:
        if judged == name:
            first = measured[measured.seed == 1]
            assert FINDINGS[name]().judge(first).verdict == UNRESOLVED


def test_rounds_to_a_target_are_read_off_the_best_so_far() -> None:
    curve = pd.DataFrame({"round": [5, 10, 15, 20], "top1_recall": [0.02, 0.04, 0.03, 0.08]})
    assert mcmahan2017.rounds_to(curve, 0.03) == 7.5
    assert mcmahan2017.rounds_to(curve, 0.06) == 17.5, "a line from 0.04, the best before"
    assert mcmahan2017.rounds_to(curve, 0.01) == 5
    assert mcmahan2017.rounds_to(curve, 0.09) == INFINITE


# -- the cells ------------------------------------------------------------------------------------

VARIED = {
    "mcmahan2017": {"seed", "data.name", "client.lr", "client.epochs", "client.batch_size",
                    "server.rounds", "evaluation.every"},
    "hard2018": {"seed"},
    "reddi2021": {"seed", "client.lr", "optimizer"},
    "thakkar2021": {"seed", "evaluation.central", "evaluation.central_epochs",
                    "federation.partition", "privacy", "server.sampler", "optimizer"},
    "kairouz2021": {"seed", "privacy", "server.sampler"},
    "andrew2021": {"seed", "privacy"},
}  # fmt: skip


@pytest.mark.parametrize("name", list(FINDINGS))
def test_cells_differ_in_nothing_but_what_is_compared(name: str, chat: Path) -> None:
    opened = name not in ("mcmahan2017", "reddi2021", "hard2018")  # the federation, for its users
    small = (f"data.path={chat}", "data.min_words=10") if opened else ()
    cells = FINDINGS[name]().cells(Asked((1, 2), small))
    assert len({config.identity() for config in cells.values()}) == len(cells)
    found: set[str] = set()
    first, *others = (_flat(config) for config in cells.values())
    for other in others:
        found |= {key for key in first.keys() | other.keys() if first.get(key) != other.get(key)}
    # Whole sections where their names differ: the options of two things are not the same keys.
    assert {k if k in VARIED[name] else k.partition(".")[0] for k in found} <= VARIED[name]
    assert "seed" in found


def _flat(config: Config) -> dict[str, str]:
    tree = config.as_dict()
    return {
        f"{section}.{key}" if isinstance(values, dict) else section: json.dumps(value)
        for section, values in tree.items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("reddi2021", "optimizer=adam"),
        ("reddi2021", "optimizer.name=adam"),
        ("mcmahan2017", "client.epochs=2"),
        ("andrew2021", "privacy.clip_norm=1"),
        ("kairouz2021", "privacy.epsilon=1"),
        ("thakkar2021", "federation.partition=iid"),
        ("hard2018", "seed=3"),
    ],
)
def test_what_a_finding_varies_cannot_be_overridden(name: str, override: str) -> None:
    finding = FINDINGS[name]()
    finding.check(["client.max_grad_norm=2.0"])
    with pytest.raises(FedsimError, match="sets"):
        finding.check([override])


@pytest.mark.usefixtures("here")
def test_a_trial_that_diverges_is_left_out(tiny: str, tmp_path: Path) -> None:
    shrunk = ["server.rounds=2", "evaluation.every=2", "client.max_grad_norm=0.0"]
    cells = {f"lr {lr:g}": load(tiny, [*shrunk, f"client.lr={lr!r}"]) for lr in (0.5, 1e12)}
    told: list[str] = []
    runs = run_those_that_can(cells, tmp_path, 1, lambda name, done, of: told.append(name))
    assert list(runs) == ["lr 0.5"]
    assert "lr 1e+12: training failed, not chosen" in told
    only = {"lr 1e+12": cells["lr 1e+12"]}
    with pytest.raises(FedsimError, match="lower client"):
        run_those_that_can(only, tmp_path, 1, lambda name, done, of: None)


# -- the whole ------------------------------------------------------------------------------------


@pytest.fixture
def shrink(chat: Path) -> list[str]:
    """Overrides that make a cell of any finding take a fraction of a second."""
    return [f"data.path={chat}", "data.min_words=10", "data.vocabulary=200", "server.rounds=2",
            "server.cohort=7", "evaluation.every=1", "model.hidden=12", "model.embedding=8",
            "canaries.held_out=4"]  # fmt: skip


@pytest.mark.usefixtures("here")
def test_a_finding_from_the_command_to_its_page(
    shrink: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reddi et al. with two trials and not seventeen, on thirty people; again, from the cache."""
    finding = FINDINGS["reddi2021"]
    arms = finding.arms(finding(), Asked(SEEDS))
    short = tuple(type(arm)(arm.name, arm.keys, arm.choices[: 2 if not i else 1])
                  for i, arm in enumerate(arms))  # fmt: skip
    monkeypatch.setattr(finding, "arms", lambda self, asked: short)
    command = ["reproduce", "reddi2021", *shrink, "--seeds", "2", "--jobs", "1"]
    first = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert first.exit_code == 0, first.output
    rule, verdict = (first.stdout.index(text) for text in ("Rule:", "Verdict:"))
    assert rule < verdict
    assert first.stdout.index("25.2 %") < rule, "the paper's figures stand before the training too"
    assert len(cached_cells()) == 2 + 2 * 4
    assert len(list((tmp_path / "cells").iterdir())) == 2 + 2 * 4
    again = CliRunner().invoke(app, [*command, "--out", str(tmp_path), "--json"])
    found = json.loads(again.stdout)
    assert found["verdict"] in first.stdout[verdict:]
    assert "10/10" not in again.stderr, "nothing is trained twice"

    assert found["verdict"] == UNRESOLVED, "two seeds"
    kept = pd.read_csv(tmp_path / "reddi2021.csv")
    assert list(kept.arm.unique()) == ["FedAvg", "FedAdagrad", "FedAdam", "FedYogi"]
    assert kept.top1.between(0, 1).all()
    assert len(pd.read_csv(tmp_path / "reddi2021-curves.csv")) == 4 * 2 * 2
    page, paper = ((tmp_path / f"reddi2021.{kind}").read_text() for kind in ("html", "md"))
    for text in (page, paper):
        assert "19.5 %" in text
        assert "Adaptive Federated Optimization" in text
        assert found["verdict"] in text
    made = found["made"]
    runs = [Run.open(path) for path in cached_cells()]
    assert (made["runs"], made["trials"], made["of_other_versions"]) == (8, 2, 0)
    spent = sum(run.profile["wall_seconds"] for run in runs)
    assert made["compute_seconds"] == pytest.approx(spent, abs=0.1)
    assert made["compute_seconds"] > made["tuning_seconds"] > 0
    assert [c["digest"] for c in made["corpora"].values()] == [runs[0].corpus_digest]
    assert (made["seeds"], made["overrides"], made["jobs"]) == ([1, 2], shrink, 1)
    versions = {"fedsim": __version__} | {
        name: metadata.version(name) for name in ("torch", "flwr", "numpy", "opacus")
    }
    for text in (html.unescape(page), paper):
        for name, version in versions.items():
            assert re.search(rf'{name}\W.*"{re.escape(version)}"', text), name
        assert runs[0].corpus_digest in text
        assert made["platform"] in text
        assert json.dumps(shrink) in text
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["andrew2021", "kairouz2021"])
def test_what_a_search_costs_is_said_of_both_populations(
    name: str, shrink: list[str], tmp_path: Path
) -> None:
    asked = ["reproduce", name, *shrink, "--seeds", "1", "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert result.exit_code == 0
    rows, paper = pd.read_csv(tmp_path / f"{name}.csv"), (tmp_path / f"{name}.md").read_text()
    assert (rows.epsilon_with_search > rows.epsilon).all()
    assert (rows.own_epsilon_with_search > rows.own_epsilon).all()
    assert rows.theorem.str.startswith("composition of all trials").all()
    for text in (paper, (tmp_path / f"{name}.html").read_text(), result.stdout):
        assert "not computed" not in text
        assert "2022" in text
    for figure in (*rows.epsilon_with_search, *rows.own_epsilon_with_search):
        assert rounded_up(figure) in paper


def test_two_seeds_resolve_nothing_and_one_long_run_of_people_does() -> None:
    clear = reddi((5, 5.1), (9, 9.1))
    finding = FINDINGS["reddi2021"]()
    assert finding.judge(clear).verdict == SHOWS
    outcome = finding.judge_asked(clear, Asked((1, 2)))
    assert outcome.verdict == UNRESOLVED
    assert "Fewer than 3 seeds" in outcome.sentences[-1]
    people = hard(200, 180, 200)
    alone = FINDINGS["hard2018"]()
    assert alone.judge_asked(people, Asked((1,))).verdict == alone.judge(people).verdict == SHOWS


def test_a_page_without_curves(tmp_path: Path) -> None:
    from fedsim.studies.findings.base import Measured

    finding = kairouz2021.Kairouz2021()
    measured = Measured(kairouz((9, 9.1, 9.2), (9.1, 9.1, 9.2)), [])
    outcome = finding.judge(measured.rows)
    page = write_reproduction(tmp_path, "kairouz2021", finding, measured, outcome, "Made so.", {})
    assert "Made so." in page.read_text()
    assert not (tmp_path / "kairouz2021-curves.csv").exists()


def test_the_list_says_claim_and_rule_of_each() -> None:
    plain = CliRunner().invoke(app, ["reproduce", "list"])
    assert plain.exit_code == 0
    listed = json.loads(CliRunner().invoke(app, ["reproduce", "list", "--json"]).stdout)
    assert [entry["finding"] for entry in listed] == list(FINDINGS)
    for entry in listed:
        assert entry["finding"] in plain.stdout
        assert {"claim", "rule", "citation", "published", "cost"} <= set(entry)
        assert "hows, where" in entry["rule"]
        assert "not resolved" in entry["rule"]


def test_what_is_not_there_gets_the_nearest_name() -> None:
    result = CliRunner().invoke(app, ["reproduce", "reddi2020"])
    assert isinstance(result.exception, FedsimError)
    assert "did you mean 'reddi2021'?" in str(result.exception)
    both = CliRunner().invoke(app, ["reproduce", "all", "server.rounds=2"])
    assert "Overrides are for one finding" in str(both.exception)
