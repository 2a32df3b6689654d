"""No output of any command prints an epsilon without all that makes it a claim."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bare_epsilons import bare, bare_in_json, bare_on_page, whole
from test_comparison_report import made_up, summarised
from test_leakage_report import curves, put, row
from test_memorization_study import PRIVATE, table
from test_privacy_study import runs as budgets
from typer.testing import CliRunner

from fedsim.cli import audit as audit_cli
from fedsim.cli import compare as compare_cli
from fedsim.cli import show as show_cli
from fedsim.cli.main import app
from fedsim.config import load
from fedsim.leakage.audit import Audited
from fedsim.privacy.accounting import REPLACE, ZERO_OUT
from fedsim.privacy.claims import COLUMNS, Claim, completed, notes, rounded_down, rounded_up
from fedsim.report import write_report
from fedsim.report.comparison import checklist, findings, latex, write_comparison
from fedsim.report.frontier import write_frontier
from fedsim.report.leakage_words import value
from fedsim.report.memorization import write_memorization
from fedsim.report.reproduction import write_reproduction
from fedsim.report.summary import privacy
from fedsim.runs import Run
from fedsim.simulation import simulate
from fedsim.studies import frontier_results
from fedsim.studies.findings import FINDINGS, andrew2021
from fedsim.studies.findings.base import Measured, Outcome
from fedsim.studies.memorization import DP, ORDER
from fedsim.studies.memorization import Outcome as Memorization
from fedsim.tracking.base import Story

SHORT = ("server.rounds=2", "evaluation.every=2", "privacy.noise=seeded")
KINDS = {
    "simulated": ("privacy=dp-fedavg", "server.sampler=poisson", "privacy.epsilon=8",
                  "privacy.report_cohort=700", "privacy.report_users=5000"),
    "real": ("privacy=blt", "server.sampler=cyclic", "privacy.noise_multiplier=4"),
    "local": ("privacy=local", "privacy.noise_multiplier=8"),
    "dp-sgd": ("privacy=dp-sgd", "privacy.noise_multiplier=1", "privacy.delta=0.001"),
}  # fmt: skip
CLAIM = Claim(
    epsilon=4.6132, delta=3.33e-5, unit="user", adjacency=ZERO_OUT, sampler="poisson",
    accountant="PLD", adversary="sees every global model of the run", own_users=31,
    simulated_users=5000, own_epsilon=634.02, noise="a simulation",
)  # fmt: skip


@pytest.fixture(scope="module")
def private(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A finished run of each kind of guarantee."""
    folder = tmp_path_factory.mktemp("claims")
    return {
        kind: simulate(load(tiny, [*SHORT, *keys]), folder / kind, quiet=True)
        for kind, keys in KINDS.items()
    }


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest, private: dict[str, Run]) -> Run:
    return private[request.param]


# -- the reader that looks at all outputs ---------------------------------------------------------

OF_YESTERDAY = {
    "compare": "Privacy of fedavg: epsilon of one run 4.61 (user, delta 3.3e-05); with the 8 "
    "trials of the search, which saw the same users: at most 13.25.",
    "show": "private: Epsilon is 4.613 at delta = 3.33e-05 for each user (zero-out one user), "
    "against an adversary that sees every global model. It holds for the larger population whose "
    "noise was simulated, not for the users of this run.",
    "report": "Proven: epsilon = 2 at delta = 1e-05 for each user.",
    "study": "User-level DP is DP-FedAvg with epsilon 8 of 20,000 users whose noise is simulated.",
    "finding": "At epsilon 18, tree minus dp-fedavg: +0.10 points.",
    "table": "| mechanism | epsilon | top-1 |\n|---|---|---|\n| blt | 8 | 10.2 |\n\nEpsilon is per "
    "user, for the adjacency and the sampler in the row, against an adversary that sees every "
    "global model.",
    "heading": "| | ε = 8 | ε = 2 |\n|---|---|---|\n| blt | 10.4 | 8.6 |",
    "row": "| strategy | epsilon of one run |\n|---|---|\n| fedavg | 4.61 |",
}


@pytest.mark.parametrize("name", OF_YESTERDAY)
def test_what_was_printed_before_is_found(name: str) -> None:
    assert bare(OF_YESTERDAY[name])
    page = OF_YESTERDAY[name].replace("\n\n", "</table><p>")
    if "|" not in page:
        assert bare_on_page(f"<section><h2>In short</h2><p>{page}</p></section>")


@pytest.mark.parametrize("word", ["epsilon 3.2", "ε = 3.2", "Epsilon of 3.2", "epsilon: ∞"])
def test_a_bare_figure_beside_a_claim_is_found(word: str) -> None:
    claim = CLAIM.sentence()
    assert bare(claim) == []
    assert bare(f"{claim} At {word} it is better.")
    assert bare(f"{claim}\n\nAt {word} it is better.")
    page = f"<section><h2>In short</h2><p>{claim}</p><p>At {{}}</p></section>"
    assert bare_on_page(page.format("epsilon 4.62")) == [], "the figure that is claimed"
    assert bare_on_page(page.format(word))
    assert bare_on_page(f"{page}<section><h2>More</h2><p>{word}</p></section>".format(""))


@pytest.mark.parametrize("lost", COLUMNS[1:8])
def test_an_object_of_json_needs_every_key(lost: str) -> None:
    columns = CLAIM.columns()
    assert bare_in_json({"privacy": columns}) == []
    assert bare_in_json({"privacy": {k: v for k, v in columns.items() if k != lost}})
    assert bare_in_json({"findings": ["Good.", "At epsilon 8 it is better."]})


# -- the claim ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(4.6131, 4, "4.614"), (8.0, 4, "8"), (7.9996, 4, "8"), (1e-5, 3, "1e-05"), (0.0, 4, "0"),
     (3.3333e-5, 3, "3.34e-05"), (12345.6, 4, "12,346"), (math.inf, 4, "∞ (no guarantee)"),
     (1.5000001e30, 4, "1.501e+30"), (2.0**90, 4, "1.238e+27"),
     (123456789012345.0, 4, "123,456,789,012,345"), (1.7976931348623157e308, 4, "1.798e+308")],
)  # fmt: skip
def test_figures_are_never_below_what_was_proven(value: float, digits: int, shown: str) -> None:
    assert rounded_up(value, digits) == shown


def test_what_an_attack_shows_is_never_above_what_it_showed() -> None:
    assert rounded_down(4.6191) == "4.61"
    assert rounded_down(4.6199e40) == "4.61e+40"
    assert (rounded_down(0.0), rounded_down(math.inf)) == ("0", "∞")
    assert value("epsilon_lower_bound", 4.6191) == "4.61"
    assert value("epsilon_proven", 4.6131) == "4.614"


@pytest.mark.parametrize(
    "claim",
    [
        CLAIM,
        dataclasses.replace(CLAIM, own_epsilon=None),
        dataclasses.replace(CLAIM, simulated_users=None, own_epsilon=None),
    ],
)
def test_a_table_keeps_a_claim(claim: Claim, tmp_path: Path) -> None:
    rows = pd.DataFrame([{"arm": "a", **claim.columns()}, {"arm": "b"}])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    kept, without = pd.read_csv(tmp_path / "rows.csv").to_dict("records")
    assert Claim.of_row(kept) == claim
    assert Claim.of_row(without) is None
    assert bare_in_json(json.loads(rows.head(1).to_json(orient="records"))) == []


def test_it_is_the_simulated_populations_and_says_what_the_own_users_have() -> None:
    whose = "for 5,000 simulated users; of the run's own 31 users: 634.1"
    assert CLAIM.short == f"4.614 {whose}"
    assert CLAIM.sentence().endswith(f". It holds {whose}.")
    nothing = dataclasses.replace(CLAIM, own_epsilon=None)
    assert nothing.short.endswith("of the run's own 31 users: none that means anything")
    assert nothing.own is None
    assert CLAIM.own is not None
    assert CLAIM.own.short == "634.1 for the 31 users of this run"
    together = CLAIM.together(13.25)
    assert together.short == (
        "13.25 for 5,000 simulated users; of the run's own 31 users: more than of one run, not "
        "computed"
    )


def test_rows_that_depend_on_the_same_are_told_once() -> None:
    fixed = dataclasses.replace(CLAIM, sampler="fixed", adjacency=REPLACE)
    assert len(notes([("a", CLAIM), ("b", CLAIM.at_most(8))])) == 1
    first, second = notes([("a", CLAIM), ("b", fixed), ("c", CLAIM)])
    assert first.startswith("Epsilon of a, c is at delta = 3.33e-05 for each user (adjacency: zero")
    assert second.startswith("Epsilon of b is at delta")
    assert first.endswith("it holds for 5,000 simulated users, not for the run's own 31 users.")


def test_statements_of_earlier_versions_say_what_is_proven(private: dict[str, Run]) -> None:
    """They said of Poisson sampling that it protects who is added or removed."""
    said: Any = private["simulated"].privacy
    kept = {key: value for key, value in said["guarantee"].items() if key in (
        "epsilon", "delta", "unit", "sampler", "accountant", "adversary", "warnings")}  # fmt: skip
    old = {**said, "guarantee": {**kept, "adjacency": "add or remove one user"},
           "own": {"reported_users": 5000, "epsilon": None}}  # fmt: skip
    read = completed(old)
    assert read["guarantee"]["adjacency"] == ZERO_OUT == read["own"]["adjacency"]
    assert bare_in_json(read) == []
    assert read["own"]["epsilon"] is None
    new = completed({**old, "guarantee": {**old["guarantee"], "events": []}})
    assert new["guarantee"]["adjacency"] == "add or remove one user", "what is proven since"


# -- one run --------------------------------------------------------------------------------------


HEADINGS = {
    "simulated": "Private for simulated users only.",
    "real": "Private in simulation only.",
    "local": "Private in simulation only.",
    "dp-sgd": "Private in simulation only.",
}


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_counts_for_who_does_not_know_the_names(
    kind: str, private: dict[str, Run]
) -> None:
    told = private[kind].privacy or {}
    claim, guarantee = Claim.of(told), told["guarantee"]
    assert claim is not None
    of_users = guarantee["amplified"] and kind != "dp-sgd"
    assert claim.amplified is of_users
    assert ("for who does not know who was drawn" in claim.sentence()) is of_users
    assert ("sampler: poisson batches, rate" in claim.sentence()) is (kind == "dp-sgd")
    assert ("for who does not know the batches" in claim.sentence()) is (kind == "dp-sgd")


@pytest.mark.parametrize("kind", KINDS)
def test_the_heading_says_no_more_than_holds(kind: str, private: dict[str, Run]) -> None:
    told = private[kind].privacy or {}
    assert privacy(told)[0] == HEADINGS[kind]
    fresh = {**told, "noise": {**told["noise"], "kind": "fresh"}}
    small = Claim.of(told).epsilon <= 20  # type: ignore[union-attr]
    if kind != "simulated":
        assert privacy(fresh)[0] == ("Private." if small else "Hardly private.")


def test_show_says_it_whole(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    show_cli.print_run(run, as_json=False)
    out = capsys.readouterr().out
    assert whole(out)
    assert bare(out) == []
    show_cli.print_run(run, as_json=True)
    assert bare_in_json(json.loads(capsys.readouterr().out)) == []


def test_the_statement_says_it_whole(run: Run) -> None:
    for flag, read in (((), bare), (("--json",), lambda text: bare_in_json(json.loads(text)))):
        result = CliRunner().invoke(app, ["privacy", "statement", str(run.path), *flag])
        assert result.exit_code == 0
        assert "epsilon" in result.output
        assert read(result.output) == []
    assert bare((run.path / "privacy.txt").read_text()) == []


def test_the_report_says_it_whole(run: Run) -> None:
    page = write_report(run).read_text("utf-8")
    assert "Epsilon is" in page
    assert bare_on_page(page) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_says_it_whole(kind: str, tiny: str) -> None:
    asked = ["train", "--preset", tiny, "--dry-run", *SHORT, *KINDS[kind]]
    out = CliRunner().invoke(app, asked).stdout
    assert whole(out)
    assert bare(out) == []
    printed = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert bare_in_json(printed) == []


def test_a_tracker_is_told_it_whole(run: Run) -> None:
    told = Story.of(run.path, run.config, "", Claim.of(run.privacy)).parameters
    assert whole(str(told["privacy.claim"]))
    assert bare(str(told["privacy.claim"])) == []


def test_what_a_plan_costs_is_said_whole() -> None:
    for command in (
        "epsilon --noise-multiplier 4 --sampler poisson",
        "epsilon --noise-multiplier 4 --mechanism blt",
        "calibrate --epsilon 2 --sampler cyclic",
    ):
        asked = f"privacy {command} --users 5000 --cohort 50 --rounds 20".split()
        assert bare(CliRunner().invoke(app, asked).stdout) == []
        said = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
        assert bare_in_json(said) == []


@pytest.mark.parametrize("other", ["simulated", "real"])
def test_what_runs_cost_together_is_said_whole(
    other: str, private: dict[str, Run], tiny: str, tmp_path: Path
) -> None:
    """Of two runs that simulate the noise of one population, and of one that does not."""
    first, second = private["simulated"], private[other]
    if other == "simulated":
        keys = (*SHORT, *KINDS["simulated"], "seed=2")
        second = simulate(load(tiny, list(keys)), tmp_path / "second", quiet=True)
    asked = ["privacy", "compose", str(first.path), str(second.path)]
    out = CliRunner().invoke(app, asked).stdout
    assert out.count("all models together") == (2 if other == "simulated" else 1)
    assert bare(out) == []
    assert bare_in_json(json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)) == []


def test_a_refused_budget_is_said_whole(tiny: str) -> None:
    keys = ("privacy.noise_multiplier=0.3", "privacy=dp-fedavg", "privacy.epsilon=1",
            "server.sampler=poisson", "--dry-run")  # fmt: skip
    error = str(CliRunner().invoke(app, ["train", "--preset", tiny, *keys]).exception)
    assert "With it epsilon is" in error
    assert bare(error) == []


# -- an audit -------------------------------------------------------------------------------------


def audited(run: Run) -> list[Any]:
    """Rows as the measure makes them."""
    claim = Claim.of(run.privacy)
    assert claim is not None
    proven = dataclasses.replace(claim, simulated_users=None, own_epsilon=None, epsilon=4.0)
    note = f"of the audit run (4 rounds): {proven.sentence('epsilon')}".rstrip(".")
    judged = "does not contradict the 4 that is proven for the audit run at delta = 3.33e-05"
    return [
        row("epsilon_proven", 4.0, note=note),
        row("epsilon_lower_bound", 1.0, "method=one-run", low=1.0),
        row("epsilon_estimate", 1.5, "method=one-shot deviation=fitted"),
        row("epsilon_bound_most", 5.0, "method=one-run"),
        row("epsilon_contradicted", 0.0, note=judged),
    ]


def test_an_audited_run_says_it_whole(
    private: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(shutil.copytree(private["real"].path, tmp_path / "run"))
    rows = audited(run)
    put(run, "epsilon", rows, 2, threat="who sees every update")
    put(run, "user_membership", [row("auc", 0.6, "text=train score=loss", low=0.5, high=0.7)], 2)
    run.save_detail("user_membership", "roc", curves("text=train score=loss"))
    page = write_report(run).read_text("utf-8")
    assert "most that epsilon = " in page, "the line in the plot"
    assert bare_on_page(page) == []
    table = run.table("leakage")
    table = table[table["measure"] == "epsilon"].fillna({"group": "", "note": "", "interval": ""})
    audit_cli._print(Audited("epsilon", table, {}, "", 1.0, 0), len(table))
    out = capsys.readouterr().out
    assert "One attack shows that epsilon is at least 1" in out
    assert bare(out) == []
    assert bare_in_json(table.astype(object).where(table.notna(), None).to_dict("records")) == []


# -- studies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [{}, {"privacy.epsilon": [2.0, 8.0]}])
def test_a_comparison_says_it_whole(
    axes: dict[str, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The simulated population's epsilon was printed as that of the run."""
    fixed = dataclasses.replace(CLAIM, sampler="fixed", adjacency=REPLACE, own_epsilon=None)
    rows = [
        {"strategy": name, **dict(zip(axes, values, strict=True)), "mechanism": "dp-fedavg",
         **claim.columns(), "trials": 8, "epsilon_with_search": 13.25, "epsilon_of_all": 17.5,
         "own_epsilon_with_search": 2000.5, "own_epsilon_of_all": 3000.25, "theorem": "PLD",
         "theorem_of_all": "PLD", "private": False, "note": ""}
        for name, claim in (("fedavg", CLAIM), ("fedsgd", fixed))
        for values in ([(2.0,), (8.0,)] if axes else [()])
    ]  # fmt: skip
    comparison = dataclasses.replace(
        made_up(2, axes=axes, tuned=True, rounds=12), privacy=pd.DataFrame(rows)
    )
    means = summarised(comparison)
    page = write_comparison(tmp_path, comparison, means)
    assert "4.614 for 5,000 simulated users; of the run&#39;s own 31 users: 634.1" in (
        page.read_text()
    )
    assert bare_on_page(page.read_text()) == []
    told = findings(comparison, means)
    for text in (
        (tmp_path / "comparison.md").read_text(),
        checklist(comparison),
        latex(comparison, means),
        "\n".join(told),
    ):
        assert whole(text)
        assert bare(text) == []
    compare_cli._show(dataclasses.replace(comparison, made=made(comparison)), means, told)
    assert bare(capsys.readouterr().out) == []
    assert bare_in_json(compare_cli._as_json(comparison, means, told, tmp_path)) == []


def made(comparison: Any) -> dict[str, Any]:
    return {**comparison.made, "tuning": {"trials": 8}}


@pytest.mark.parametrize("simulated", [True, False])
def test_a_privacy_study_says_it_whole(simulated: bool, tmp_path: Path) -> None:
    rows = budgets(dp_fedavg=(100.0, 101.0, 102.0), blt=(110.0, 111.0, 112.0))
    free = rows.assign(epsilon=math.inf, epsilon_with_search=math.inf, epsilon_of_all=math.inf,
                       theorem="", theorem_of_all="", adversary=None,
                       noise_multiplier=0.0)  # fmt: skip
    other = pd.Series({"adjacency": ZERO_OUT, "sampler": "poisson", "accountant": "PLD"})
    rows.loc[rows.mechanism == "dp-fedavg", other.index] = other.to_numpy()
    rows = pd.concat([rows, free], ignore_index=True)
    if not simulated:
        rows = rows.assign(simulated_users=None, own_epsilon=None)
    points = frontier_results.summary(rows)
    told = frontier_results.findings(points, rows, simulated)
    needed = frontier_results.users_needed(points, frontier_results.noises_needed(rows))
    page = write_frontier(tmp_path, rows, points, needed, told)
    assert bare_on_page(page.read_text()) == []
    paper = (tmp_path / "frontier.md").read_text()
    assert bare(paper) == []
    assert bare("\n".join(told)) == []
    for name in ("runs", "frontier"):
        kept = pd.read_csv(tmp_path / f"{name}.csv")
        finite = kept[kept.epsilon < math.inf].to_dict("records")
        assert finite
        assert bare_in_json(finite) == []
    found = json.loads(points.to_json(orient="records"))
    assert bare_in_json({"findings": told, "points": found}) == []


def test_the_memorization_study_says_it_whole(tmp_path: Path) -> None:
    claims = {DP: CLAIM.at_most(8.0).columns()}
    runs = pd.DataFrame(
        {"setting": setting, "seed": seed, "passes": 3.0, "validation_top1": 0.1,
         "validation_perplexity": 100.0, "test_top1": 0.1, **claims.get(setting, {})}
        for setting in ORDER for seed in (1, 2, 3)
    )  # fmt: skip
    found = Memorization.of(table(dict.fromkeys(ORDER, 5.0)), runs)
    page = write_memorization(tmp_path, found, PRIVATE).read_text()
    assert "Epsilon of user-level DP is 8 at delta" in page
    assert bare_on_page(page) == []
    assert bare((tmp_path / "memorization.md").read_text()) == []


def arms(**more: Any) -> pd.DataFrame:
    """Rows of the three findings with privacy, by their arms."""
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "top1": 0.1 + 0.001 * seed, "chosen": "", **more}
        for arm in more.pop("arm")
        for seed in (1, 2, 3)
    )


def andrew() -> pd.DataFrame:
    names = (andrew2021.ADAPTIVE, "fixed, 0.3", "fixed, 5")
    more = {"epsilon_with_search": 13.5, "own_epsilon_with_search": 900.5, "theorem": "a theorem"}
    return arms(arm=names, **CLAIM.at_most(8.0).columns(), **more)


def kairouz() -> pd.DataFrame:
    extra = {"epsilon_with_search": 20.0, "own_epsilon_with_search": 700.5, "theorem": "a theorem",
             "noise_deviation": 0.1, "server_lr": 1.0}  # fmt: skip
    own = {"tree": dataclasses.replace(CLAIM, sampler="cyclic", accountant="exact Gaussian")}
    return pd.concat(
        arms(arm=(name,), **extra, **own.get(name, CLAIM).at_most(budget).columns())
        for budget in (8.0, 18.0)
        for name in ("dp-fedavg", "tree")
    )


def thakkar() -> pd.DataFrame:
    claims = {DP: CLAIM.at_most(8.0).columns()}
    return pd.DataFrame(
        {"setting": setting, "arm": setting, "seed": seed, "canary": canary, "kind": "planted",
         "users": 1, "repeats": 1, "holder_participations": 1, "exposure_bits": 9.0 - place,
         "exact_bits": 9.0, "margin_bits": 9.0, "ceiling_bits": 13.0, "extracted": False,
         "top1": 0.1, **claims.get(setting, {})}
        for place, setting in enumerate(ORDER) for seed in (1, 2, 3) for canary in (0, 1)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rows"),
    [("andrew2021", andrew), ("kairouz2021", kairouz), ("thakkar2021", thakkar)],
)
def test_a_finding_says_it_whole(
    name: str, rows: Callable[[], pd.DataFrame], tmp_path: Path
) -> None:
    finding = FINDINGS[name]()
    frame = rows()
    outcome: Outcome = finding.judge(frame)
    page = write_reproduction(
        tmp_path, name, finding, Measured(frame, []), outcome, "Seeds 1 to 3.", {}
    )

    def read(text: str) -> str:
        return text.replace(finding.rule, "")  # was written before anything was trained

    text = read((tmp_path / f"{name}.md").read_text())
    assert whole(text)
    assert bare(text) == []
    source = page.read_text()
    assert bare_on_page(read(source)) == []
    assert bare("\n".join(outcome.sentences)) == []
    if "theorem" in frame:
        assert "by a theorem." in text
        assert "not computed" not in text
        assert (
            f"of the run's own 31 users: {rounded_up(frame.own_epsilon_with_search.max())}" in text
        )
    kept = frame[frame.get("epsilon", frame.top1).notna()]
    assert bare_in_json(json.loads(kept.to_json(orient="records"))) == []
