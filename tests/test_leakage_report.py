"""The report's leakage part: what a reader sees of findings that were made up for it."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import EVIL, Page, make_run, page_of
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.data.vocabulary import SPECIALS
from fedsim.leakage.canaries import drawn
from fedsim.leakage.measures import MEASURES
from fedsim.report import write_report
from fedsim.report.leakage_rows import Row
from fedsim.report.leakage_rules import RULES, conclusion
from fedsim.report.leakage_sentences import UNMASKED, masked
from fedsim.report.leakage_words import QUANTITIES, ends, of_whom, pairs_of, phrase, value
from fedsim.runs import Run
from fedsim.tables import LEAKAGE

NAN = math.nan
MEMBERSHIP = "score=reference"
SECRET = (
    "wednesday",
    "harbour",
    "i",
    "owe",
    "Ольга",
    "x\u2019s",
    "\N{SMILING FACE WITH OPEN MOUTH}",
)


def row(quantity: str, estimate: float, group: str = "", **more: Any) -> Row:
    blank: dict[str, Any] = {"n": 50, "low": NAN, "high": NAN, "interval": "", "control": NAN}
    return Row(quantity, group, estimate, **{**blank, "note": "", **more})


def put(run: Run, measure: str, rows: list[Row], round: int = 60, threat: str = "holds it") -> None:
    about = {"round": round, "measure": measure, "threat": threat}
    table = pd.DataFrame([{**about, **r._asdict()} for r in rows], columns=list(LEAKAGE))
    run.replace("leakage", table, ["round", "measure"])


def vocabulary(run: Run, specials: int = len(SPECIALS)) -> list[str]:
    words = [*SPECIALS[:specials], *(f"word{i}" for i in range(specials, 500))]
    (run.path / "vocabulary.txt").write_text("\n".join(words), encoding="utf-8")
    return words


def said(text: str) -> str:
    """Without the spaces that do not break."""
    return " ".join(text.split())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody has audited."""
    return make_run(tmp_path_factory.mktemp("leakage") / "bare", rounds=10, state="interrupted")


@pytest.fixture
def run(bare: Run, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(bare.path, tmp_path / "run"))


def extracted(run: Run, holders: str = "3", specials: int = len(SPECIALS)) -> list[str]:
    """Details of `memorisation`: a canary, a real sentence, and one that only canary users hold."""
    words = vocabulary(run, specials)
    ids = drawn(run.config.canaries, len(words), run.config.seed, specials)[0]
    canary = " ".join(words[i] for i in ids)
    table = pd.DataFrame(
        {
            "words": [" ".join(SECRET), canary, "nobody elses filler words"],
            "ids": ["7 8 9 10 11", " ".join(map(str, ids)), "21 22 23 24"],
            "users": [1, 4, 2],
            "repeats": [1, 40, 2],
            "holders": [holders, "900 901", "900 901"],
            "only_canary_users": [False, True, True],
            "prefix_words": [2, 2, 2],
            "predictable": [False, False, True],
        }
    )
    run.save_detail("memorisation", "extracted_sentences", table)
    rate = row("extraction_rate", 0.002, "prefix=2", low=0.001, high=0.004)
    put(run, "memorisation", [rate])
    return canary.split()


# -- masking ---------------------------------------------------------------------------------


def test_masking_leaves_first_letters_and_lengths() -> None:
    assert masked("hello are you") == "h____ a__ y__"


def test_masking_never_leaks_a_word() -> None:
    for word in (
        *SECRET,
        "a",
        "ok",
        "42",
        "$",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u65e5\u672c",
        "don't",
    ):
        hidden = masked(word)
        assert word not in hidden
        assert len(hidden) == len(word)
        assert set(hidden[1:]) <= {"_"}


@pytest.mark.parametrize("specials", [4, len(SPECIALS)])  # older runs have four special words
def test_real_text_is_masked_and_canaries_are_not(run: Run, specials: int) -> None:
    canary = extracted(run, specials=specials)
    source = write_report(run).read_text("utf-8")
    assert " ".join(canary) in source
    assert not any(word in source for word in SECRET if word not in ("i", "owe"))
    assert " owe " not in source
    assert "filler" not in source  # canary users also hold sentences that people wrote
    assert "w________ h______ _ o__" in source
    assert UNMASKED not in source


def test_unmasking_is_warned_of(run: Run) -> None:
    extracted(run)
    printed = CliRunner().invoke(app, ["report", str(run.path), "--unmask"])
    assert printed.exit_code == 0
    text = Page((run.path / "report.html").read_text("utf-8")).text
    assert " ".join(SECRET) in text
    assert text.index(UNMASKED) < text.index(" ".join(SECRET))
    CliRunner().invoke(app, ["report", str(run.path)])
    assert SECRET[0] not in (run.path / "report.html").read_text("utf-8")


def test_without_the_vocabulary_everything_is_masked(run: Run) -> None:
    canary = extracted(run)
    (run.path / "vocabulary.txt").unlink()
    assert canary[0] not in (write_report(run)).read_text("utf-8")


def test_what_a_server_read_is_masked(run: Run) -> None:
    table = pd.DataFrame(
        {"group": "g", "user": [1, 1, 2], "text": ["see you soon", "see you soon", "not this"],
         "exact": [True, True, False]}
    )  # fmt: skip
    run.save_detail("updates", "sentences", table)
    put(run, "updates", [row("sentences_exact", 1.0, "attack=span")])
    text = page_of(run).text
    assert "1 sentence of 1 user that the server read word for word" in text
    assert "s__ y__ s___" in text
    assert "see you soon" not in text


def test_a_list_ends(run: Run) -> None:
    table = pd.DataFrame(
        {"group": "g", "user": 1, "text": [f"w{'o' * i}rd" for i in range(80)], "exact": True}
    )
    run.save_detail("updates", "sentences", table)
    put(run, "updates", [row("sentences_exact", 1.0, "attack=span")])
    source = write_report(run).read_text("utf-8")
    assert "80 sentences of 1 user" in source
    assert len(re.findall(r"<code>w_+</code>", source)) == 30


# -- conclusions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.53, 0.59, "AUC 0.560 (0.530 to 0.590): better than guessing."),
        (0.49, 0.59, "AUC 0.560 (0.490 to 0.590): cannot be told from guessing."),
        (NAN, NAN, "AUC 0.560: too few people for an interval, so nothing is shown."),
        (0.56, 0.56, "too few people for an interval"),
    ],
)
def test_membership_is_no_surer_than_its_interval(low: float, high: float, words: str) -> None:
    text = conclusion("membership", [row("auc", 0.56, MEMBERSHIP, low=low, high=high)]).text
    assert words in said(text)


def test_a_blind_attacker_takes_the_finding_away() -> None:
    rows = [
        row("auc", 0.60, MEMBERSHIP, low=0.55, high=0.65),
        row("auc", 0.58, "blind=words", low=0.54, high=0.62),
    ]
    text = conclusion("membership", rows).text
    assert "an attacker who cannot know has AUC 0.580" in text
    assert "shows no leakage" in text


def test_worse_than_guessing_is_no_success() -> None:
    text = conclusion("membership", [row("auc", 0.4, MEMBERSHIP, low=0.35, high=0.45)]).text
    assert "worse than guessing" in text


def test_the_rule_does_not_pick_the_best_score() -> None:
    rows = [
        row("auc", 0.9, "score=loss", low=0.8, high=0.95),
        row("auc", 0.5, MEMBERSHIP, low=0.4, high=0.6),
    ]
    assert "0.500" in conclusion("membership", rows).text


@pytest.mark.parametrize(
    ("low", "trigram", "words"),
    [
        (0.001, 0.002, "more than language explains"),
        (-0.001, 0.002, "cannot be told from what is predictable anyway"),
        (0.001, -0.002, "language may explain it"),
    ],
)
def test_extraction_is_held_against_strangers_and_a_trigram(
    low: float, trigram: float, words: str
) -> None:
    rows = [
        row("extraction_rate", 0.02, "prefix=3", low=0.01, high=0.03),
        row("extraction_rate", 0.01, "prefix=2", low=0.008, high=0.012),
        row("beyond_predictable", 0.005, "prefix=2", low=low, high=0.01),
        row("beyond_predictable", 0.005, "prefix=2 by=trigram", low=trigram, high=0.01),
    ]
    text = said(conclusion("memorisation", rows).text)
    assert text.startswith("From their first 2 words the model completes 1.0 % (0.80 to 1.2 %)")
    assert words in text


@pytest.mark.parametrize(
    ("contradicted", "note"),
    [
        (0.0, "does not contradict the 4 that is proven"),
        (0.0, "is too weak to contradict what is proven"),
        (1.0, "contradicts the 1 that is proven: it shows 1.2 (one-run, 99.9 % confidence)"),
    ],
)
def test_what_epsilon_says_is_the_verdict_of_the_measure(contradicted: float, note: str) -> None:
    """The report compares nothing itself: its rows are at another level of confidence."""
    rows = [
        row("epsilon_proven", 1.0),
        row("epsilon_lower_bound", 1.5, "method=one-run", low=1.5),
        row("epsilon_lower_bound", 9.0, "method=GDP", low=9.0),
        row("epsilon_contradicted", contradicted, note=note),
    ]
    text = conclusion("epsilon", rows).text
    assert text == f"One attack shows that epsilon is at least 1.5 (one-sided 95 %). It {note}."
    assert conclusion("epsilon", rows[:3]).text.endswith("(one-sided 95 %).")


def test_canaries_are_held_against_unseen_ones() -> None:
    rows = [
        row("exact_exposure_bits", 19.0, "all planted", n=9, low=17.0, high=21.0, control=1.4),
        row("exposure_bits", 9.0, "all planted", n=9, low=7.0, high=11.0, control=1.4),
        row("extraction_rate", 4 / 9, "all planted method=greedy", n=9, low=0.1, high=0.8),
    ]
    assert said(conclusion("canaries", rows).text) == (
        "The 9 planted canaries that were trained on have a mean sampled exposure of 9.00 bits "
        "(7.00 to 11.00 bits), more than the 1.40 bits of unseen ones; 4 of 9 come out when their "
        "beginning is typed."
    )


def test_an_update_is_held_against_chance() -> None:
    where = "attack=embedding-rows model=run strategy=fedsgd sequences=8"
    rows = [
        row("token_recall", 0.97, f"{where} words=up-to-7 defence=none", low=0.94, high=0.99,
            control=0.003),
        row("token_recall", 0.0, f"{where} defence=noise z=1 cohort=1", low=0.0, high=0.0,
            control=0.003),
    ]  # fmt: skip
    text = said(conclusion("updates", rows).text)
    assert "names 97.0 % (94.0 to 99.0 %) of the typed words, more than 0.30 % by chance" in text
    assert "it names 0 % of the words, where chance alone names 0.30 %" in text


@pytest.mark.parametrize("name", [*MEASURES, "unheard_of"])
def test_every_measure_says_something_of_any_rows(name: str) -> None:
    rows = [row("some_figure", 0.3, "kind=new", low=0.2, high=0.4, control=0.1)]
    text = conclusion(name, rows).text
    assert text == "Some figure (kind = new): 0.3 (0.2 to 0.4), more than 0.1 without leakage."
    assert conclusion(name, [row("auc", NAN, note="too few")]).text == (
        "Nothing could be resolved: too few."
    )
    assert conclusion(name, []).text == "Nothing could be resolved."


def test_every_measure_of_this_build_has_a_rule() -> None:
    assert set(MEASURES) <= set(RULES)


# -- words -----------------------------------------------------------------------------------


def test_groups_are_put_in_words() -> None:
    assert of_whom("prefix=2 users<=1") == "first 2 words typed, at most 1 user"
    assert of_whom("users=4 repeats=1") == "4 users, 1 copy"
    assert of_whom("score=window equal text") == "by window, looked up in equal text of both"
    assert of_whom("defence=noise z=1 cohort=10") == "defence: noise, z = 1, cohort of 10"
    assert pairs_of("all planted method=beam") == [("", "", "all planted"), ("method", "=", "beam")]
    assert of_whom("") == ""
    assert of_whom("braces={0} {1}") == "braces = {0} {1}"


def test_numbers_have_units() -> None:
    assert said(value("token_f1", 0.97)) == "97.0 %"
    assert said(value("beyond_predictable", -0.002)) == "\N{MINUS SIGN}0.20 points"
    assert said(ends("beyond_predictable", 0.00003, 0.01)) == "+0.003 to +1.0 points"
    assert value("auc", NAN) == "\N{EN DASH}"
    assert said(ends("exposure_bits", 8.0, NAN)) == "at least 8.00 bits"
    assert ends("rouge1", -0.2, 1.3).startswith("0 to 100")
    assert phrase("never_heard") == "never heard"
    assert all(text and unit for text, unit in QUANTITIES.values())


# -- the page --------------------------------------------------------------------------------


def test_a_run_without_an_audit_is_told_how(bare: Run) -> None:
    page = page_of(bare)
    assert "leakage" not in page.ids
    assert "fedsim audit RUN" in page.text


def grid(share: float = 1.0) -> list[Row]:
    """Rows of canaries."""
    cells = [
        row("exact_exposure_bits", 1.4 + share * 2 * u * r / 10, f"users={u} repeats={r}", n=1)
        for u in (1, 4)
        for r in (1, 10)
    ]
    all_of_them = row("exact_exposure_bits", 4.0 * share, "all planted", low=3.0 * share, high=5.0)
    return [*cells, all_of_them]


def curves(*names: str) -> pd.DataFrame:
    rate = np.geomspace(0.001, 1, 20)
    return pd.concat([pd.DataFrame({"score": n, "fpr": rate, "tpr": rate**0.8}) for n in names])


def audited(run: Run) -> Run:
    """Every kind of plot."""
    for round, share in ((30, 0.5), (60, 1.0)):
        put(run, "canaries", grid(share), round)
    attacks = [f"text={t} score=reference statistic=mean" for t in ("train", "heldout")]
    put(run, "user_membership", [row("auc", 0.6, a, low=0.55, high=0.65) for a in attacks])
    run.save_detail("user_membership", "roc", curves(*attacks))
    where = "attack=embedding-rows model=run strategy=fedsgd sequences=8 defence"
    put(run, "updates", [row("token_precision", p, f"{where}={d}", low=p / 2, high=p, control=0.01)
                         for p, d in ((0.9, "none"), (0.02, "noise z=1 cohort=10"))])  # fmt: skip
    put(run, "compression", [row("exposure_bits", b, f"copy={c}") for b, c in
                             ((5.0, "none"), (4.0, "int8"))])  # fmt: skip
    put(run, "epsilon", [row("epsilon_proven", 4.0),
                         row("epsilon_lower_bound", 1.0, "method=one-run", low=1.0)])  # fmt: skip
    return run


def test_everything_that_was_measured_has_a_card_and_plots(run: Run) -> None:
    before = page_of(run).tags.count("svg")
    page = page_of(audited(run))
    assert "What this model gave away" in page.text
    cards = [i for i in page.ids if i.startswith("leakage-")]
    assert len(cards) == 5
    # 2 heat maps and a curve; 2 ROCs; defences; copies; epsilons
    assert page.tags.count("svg") - before == 3 + 2 + 1 + 1 + 1
    assert "Audited, on an audit run: One attack shows that epsilon is at least 1" in page.text
    assert MEASURES["membership"].title in page.text  # among what was not measured
    assert "membership" in page.text.split("--measures ")[1].split()[0].split(",")
    assert all(link[1:] in page.ids for link in page.links)
    source = (run.path / "report.html").read_text("utf-8")
    assert not set(page.tags) & {"link", "iframe", "img", "object", "embed", "base"}
    assert page.links.index("#leakage-1") > page.links.index("#leakage"), "the contents name cards"
    assert not re.search(r"\bnan\b", page.text)
    assert "#0102" not in " ".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))


def test_the_same_folder_gives_the_same_bytes_and_is_not_changed(run: Run) -> None:
    audited(run)
    extracted(run)
    first = write_report(run).read_bytes()
    files = {p: p.stat().st_mtime_ns for p in run.path.rglob("*") if p.name != "report.html"}
    assert write_report(Run.open(run.path)).read_bytes() == first
    assert files == {p: p.stat().st_mtime_ns for p in files}


def test_the_ceiling_is_drawn_where_users_have_a_guarantee(run: Run) -> None:
    audited(run)
    guarantee: dict[str, Any] = {
        "epsilon": 2.0, "delta": 1e-5, "unit": "user", "adjacency": "x", "adversary": "y",
        "noise_multiplier": 1.0, "accountant": "PLD", "epsilon_rdp": None, "rho": None,
        "participations": 0, "min_separation": 0, "warnings": [], "amplified": False,
    }  # fmt: skip
    statement = {"mechanism": "dp-fedavg", "options": {"clip_norm": 1.0}, "guarantee": guarantee,
                 "users": 800, "cohort": 40, "rounds": 60, "sampler": "fixed",
                 "not_covered": [], "empirical": None}  # fmt: skip
    run.save_statement(statement, "x")
    text = page_of(run).text
    assert "most that epsilon = 2 allows" in text
    claim = (
        "is 2 at delta = 1e-05 for each user (adjacency: x; sampler: not recorded; accountant: "
        "PLD; noise: a simulation, since who knows config and text can subtract it), against an "
        "adversary that y. It holds for the 800 users of this run."
    )
    assert f"Proven: epsilon {claim}" in text
    assert f"the most that epsilon allows any attack: epsilon {claim}" in text, "below the plots"
    run.save_statement({**statement, "guarantee": {**guarantee, "unit": "sequence"}}, "x")
    assert "most that epsilon" not in page_of(run).text


@pytest.mark.parametrize("damage", ["columns", "kind", "gone"])
def test_details_of_other_versions_leave_their_part_out(run: Run, damage: str) -> None:
    extracted(run)
    audited(run)
    names = (("user_membership", "roc"), ("memorisation", "extracted_sentences"))
    whole = page_of(run)
    for measure, name in names:
        path = run.path / "audit" / f"{measure}.{name}.parquet"
        if damage == "columns":
            run.save_detail(measure, name, pd.DataFrame({"score": ["a"], "words": ["b"]}))
        elif damage == "kind":
            table = run.detail(measure, name)
            assert table is not None
            run.save_detail(measure, name, table.assign(fpr="x", users="y"))
        else:
            path.unlink()
    page = page_of(run)
    assert "came out, of which" in whole.text
    assert "came out, of which" not in page.text
    assert whole.tags.count("svg") - page.tags.count("svg") == 2
    assert page.tags.count("article") == whole.tags.count("article")


def test_other_peoples_text_is_escaped(run: Run) -> None:
    put(run, EVIL, [row(EVIL, 1.0, EVIL, note=EVIL, interval=EVIL)], threat=EVIL)
    table = pd.DataFrame({"group": EVIL, "user": [1], "text": [EVIL], "exact": [True]})
    run.save_detail("updates", "sentences", table)
    put(run, "updates", [row("sentences_exact", 1.0, "attack=span")])
    run.save_detail("membership", "roc", curves(EVIL))
    put(run, "membership", [row("auc", 0.5, MEMBERSHIP)])
    page = Page(write_report(run, unmask=True).read_text("utf-8"))
    assert page.tags.count("script") == 1  # ours
    assert page.text.count("<script>alert('x')</script>") >= 5


def test_long_tables_are_folded_with_the_most_telling_rows_first(run: Run) -> None:
    dull = [row("auc", 0.5, f"score=dull{i}", low=0.4, high=0.6) for i in range(20)]
    telling = row("auc", 0.6, "score=telling", low=0.55, high=0.65)
    missing = row("auc", NAN, "score=missing", note="not resolvable")
    named = row("auc", 0.51, MEMBERSHIP, low=0.45, high=0.55)
    few = row("auc", 0.9, "score=few", n=2, low=0.8, high=0.95)
    put(run, "membership", [missing, few, *dull, telling, named])
    text = page_of(run).text
    names = ("loss against a reference", "telling", "few", "dull0", "missing")
    places = [text.index(f"by {name} ") for name in names]
    assert places == sorted(places)
    assert "16 more figures of this measure" in text


def test_show_tells_what_was_measured(run: Run, bare: Run) -> None:
    audited(run)
    printed = CliRunner().invoke(app, ["show", str(run.path)]).stdout
    assert "leakage measured: canaries, user_membership, updates, compression, epsilon" in printed
    assert "--measures" in printed
    assert "leakage measured" not in CliRunner().invoke(app, ["show", str(bare.path)]).stdout


def test_no_figure_is_minus_zero_and_an_interval_of_no_width_is_none() -> None:
    assert value("exposure_change_bits", -0.001).replace("\N{NO-BREAK SPACE}", " ") == "0.00 bits"
    assert value("exposure_change_bits", -0.2).startswith("\N{MINUS SIGN}0.20")
    assert value("beyond_predictable", -0.0004).startswith("\N{MINUS SIGN}0.04")
    alike = row("token_recall", 0.0, n=5, low=0.0, high=0.0)
    assert alike.said.replace("\N{NO-BREAK SPACE}", " ") == "0 %"


def test_findings_on_copies_are_a_list_on_the_page(run: Run) -> None:
    put(run, "compression", [
        row("exposure_change_bits", -1.0, "copy=pruned sparsity=0.9", low=-1.6, high=-0.4),
        row("exposure_change_bits", 0.0, "copy=int8", low=-0.1, high=0.1),
    ])  # fmt: skip
    page = (write_report(run)).read_text("utf-8")
    assert page.count("<li>") == 2
    assert "<li>pruned, 0.9 of the weights cut: exposure changes by" in page
