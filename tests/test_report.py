"""The report: true numbers, honest sentences, nothing from outside, the same bytes every time."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.config import from_dict, load
from fedsim.evaluation import SAVINGS, summarise
from fedsim.federation import open_federation
from fedsim.report import write_report
from fedsim.report.facts import Facts
from fedsim.report.intervals import mean, recall, recall_difference
from fedsim.report.svg import Curves, house_style, panel, spread, to_svg
from fedsim.runs import Run
from fedsim.simulation import simulate
from fedsim.suggesting import openings
from fedsim.tables import SCORES

EVIL = "<script>alert('x')</script> $x_1$ & \"y\""
SECTIONS = ("summary", "results", "learning", "users", "memorization", "cost", "meaning", "record")
ROUNDS, COHORT, MODEL_BYTES = 60, 40, 3_021_824
MODELS = {"fedavg": 0.172, "trigram": 0.163, "central": 0.181, "unigram": 0.05, "word list": 0.01}


# -- a made-up run ---------------------------------------------------------------------------


def make_run(
    path: Path,
    rounds: int = ROUNDS,
    state: str = "finished",
    models: tuple[str, ...] = tuple(MODELS),
    canaries: bool = True,
    failing: int = 0,
    reason: str = "ValueError: no text",
    **config: Any,
) -> Run:
    """A run folder with plausible rows; `rounds` of the 60 planned are done."""
    rng = np.random.default_rng(7)
    tree: dict[str, Any] = {
        "server": {"rounds": ROUNDS, "cohort": COHORT},
        "evaluation": {"every": 5},
        "canaries": {"per_cell": 1 if canaries else 0, "users": [1, 4, 16]},
        **config,
    }
    provenance = {"started": "2026-11-22T00:17:33+00:00", "command": ["train"], "fedsim": "0.1.0"}
    run = Run.create(path, from_dict(tree), provenance)
    seen = _train(run, rng, rounds, failing, reason)
    _evaluate(run, rng, rounds, canaries, seen)
    if state == "finished":
        for model in models:
            users = _test_users(np.random.default_rng(11), MODELS[model])
            scores = {k: summarise(users)[k] for k in SCORES}
            more: dict[str, Any] = {"parameters": 755_456, "model_bytes": MODEL_BYTES}
            more |= {"latency_p50_ms": 0.17, "latency_p95_ms": 0.31}
            run.append("results", [{"model": model, **scores, **more}])
            rows = users.to_dict("records")
            run.append("users", [{"model": model, **row} for row in rows])  # type: ignore[dict-item]
    run.set_status(state, rounds, digest="ab" * 32, error="the disk is full")
    return run


def _train(
    run: Run, rng: np.random.Generator, rounds: int, failing: int, reason: str
) -> dict[int, np.ndarray]:
    """Rows of rounds and clients; returns for each round how often a user has taken part."""
    times, history = np.zeros(766, int), {0: np.zeros(766, int)}
    for round in range(1, rounds + 1):
        cohort = rng.choice(766, COHORT, replace=False)  # 703 people, 63 canary users
        failed = cohort[:failing]
        done = cohort[failing:]
        times[done] += 1
        loss = 5.2 + 4 * np.exp(-round / 8) + rng.normal(0, 0.04)
        seconds = float(rng.uniform(2.0, 2.6))
        row: dict[str, Any] = {
            "users_sampled": COHORT,
            "users_completed": len(done),
            "users_failed": len(failed),
        }
        row |= {"sequences": 2600, "tokens": 31_000, "train_loss_nats_per_token": loss}
        row |= {"update_norm": 1.0, "mean_client_norm": 2.0, "seconds": seconds}
        row |= {"download_bytes": COHORT * MODEL_BYTES, "upload_bytes": len(done) * MODEL_BYTES}
        run.append("rounds", [{"round": round, **row, "tokens_per_second": 31_000 / seconds}])
        work = {"sequences": 65, "tokens": 775, "loss_nats_per_token": loss, "update_norm": 2.0}
        rows = [{"round": round, "user": int(u), "canary_user": u >= 703, **work} for u in done]
        run.append("clients", rows)
        run.append("failures", [{"round": round, "user": int(u), "reason": reason} for u in failed])
        history[round] = times.copy()
    return history


def _evaluate(
    run: Run, rng: np.random.Generator, rounds: int, canaries: bool, seen: dict[int, np.ndarray]
) -> None:
    for round in range(5, rounds + 1, 5):
        level = 0.165 * (1 - np.exp(-round / 15)) + rng.normal(0, 0.001)
        score: dict[str, Any] = {
            "users": 48,
            "words": 30_822,
            "top1_recall": level,
            "top3_recall": 1.7 * level,
        }
        score |= {"perplexity": 150.0, "top1_recall_worst_tenth": 0.1}
        score |= dict.fromkeys(SAVINGS, 0.5)
        row = {"round": round, "split": "validation", **score, "top3_recall_worst_tenth": 0.2}
        run.append("evaluations", [row])
        if canaries and round % 10 == 0:
            run.append("exposure", _exposure(rng, round, seen[round]))
    if rounds == ROUNDS:
        run.append("evaluations", [{**row, "split": "test", "users": 144}])


def _exposure(rng: np.random.Generator, round: int, times: np.ndarray) -> list[dict[str, Any]]:
    ceiling, start, rows = float(np.log2(1001)), 703, []
    grid = [(u, r) for u in (1, 4, 16) for r in (1, 10, 50)] + [(0, 0)] * 100
    for canary, (users, repeats) in enumerate(grid):
        # The first canary's only holder is never drawn, whatever the seed did.
        holder_participations = 0 if canary == 0 else int(times[start : start + users].sum())
        start += users
        chance = ceiling - np.log2(rng.integers(1, 1002))
        learned = 0.03 * holder_participations * repeats
        rows.append(
            {
                "round": round,
                "canary": canary,
                "kind": "planted" if users else "held_out",
                "users": users,
                "repeats": repeats,
                "holder_participations": holder_participations,
                "nats": 40.0,
                "exposure_bits": min(ceiling, chance + learned),
                "ceiling_bits": ceiling,
                "extracted": learned > 20,
            }
        )
    return rows


def _test_users(rng: np.random.Generator, level: float, users: int = 144) -> pd.DataFrame:
    words = rng.integers(50, 2000, users)
    personal = np.clip(level + rng.normal(0, 0.035, users), 0.01, 0.9)
    base = words * 5
    return pd.DataFrame(
        {
            "user": np.arange(users) + 800,
            "words": words,
            "tokens": words + 40,
            "nats": words * 4.9,
            "hits_top1": (words * personal).astype(int),
            "hits_top3": (words * np.minimum(1, personal * 1.7)).astype(int),
            "keystrokes_base": base,
            "keystrokes": (base * 0.47).astype(int),
            "keystrokes_top1": (base * 0.6).astype(int),
            "keystrokes_top5": (base * 0.4).astype(int),
        }
    )


class Page(HTMLParser):
    """The text of a page, its sections, and whatever a browser would load or run."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.policies: list[str] = []
        self.curves: list[dict[str, Any]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}:
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name == "data-hover":
                self.curves.append(json.loads(value or ""))
            if name == "content" and ("http-equiv", "Content-Security-Policy") in attrs:
                self.policies.append(value or "")
            assert not name.startswith("on"), "an event handler"

    def handle_data(self, data: str) -> None:
        (self.scripts if self.tags[-1:] == ["script"] else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(run: Run) -> Page:
    return Page(write_report(run).read_text("utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("report") / "full")


@pytest.fixture(scope="module")
def page(full: Run) -> Page:
    return page_of(full)


# -- a whole run -----------------------------------------------------------------------------


def test_every_section_and_plot_is_there(page: Page) -> None:
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    # two recalls, loss, users, three numbers of holders, controls, bytes, speed
    assert page.tags.count("svg") == 10


def test_nothing_is_loaded_from_outside(full: Run, page: Page) -> None:
    source = (full.path / "report.html").read_text("utf-8")
    assert not set(page.tags) & {"link", "iframe", "img", "object", "embed", "base"}
    assert page.links
    assert all(link.startswith("#") for link in page.links)
    assert all(link[1:] in page.ids for link in page.links)
    assert "@import" not in source
    assert all(url.startswith("#") for url in re.findall(r"url\(['\"]?([^)]*)", source))
    assert set(re.findall(r"https?://[^\"'\s<]*", source)) <= {
        "http://www.w3.org/2000/svg",  # names of the XML vocabulary, never fetched
        "http://www.w3.org/1999/xlink",
    }


def test_the_only_script_that_may_run_is_the_pages_own(full: Run, page: Page) -> None:
    assert page.tags.count("script") == 1
    source = (full.path / "report.html").read_text("utf-8")
    script = source.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page.policies == [
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    ]
    for asks in ("fetch", "import", "XMLHttp", "innerHTML", "eval", "document.write", "localStor"):
        assert asks not in script
    assert not re.search(r"<[^>]*\shidden\b", source), "without the script all is there to read"


def test_the_values_of_curves_are_those_of_the_tables(full: Run, page: Page) -> None:
    by_names = {tuple(name for name, _ in curve["at"][-1][2]): curve for curve in page.curves}
    top1 = next(c for c in page.curves if c["at"][0][2][0][0] == "fedavg")
    rows = full.evaluations[full.evaluations["split"] == "validation"]
    assert [[place, values] for _, place, values in top1["at"]] == [
        [f"round {row['round']}", [["fedavg", f"{100 * row.top1_recall:.2f} %"]]]
        for _, row in rows.iterrows()
    ]
    places = [x for x, _, _ in top1["at"]]
    assert places == sorted(places)
    assert 46 <= places[0] < places[-1] <= 400 - 98  # inside of the axes
    assert top1["top"] < top1["bottom"] < 240
    loss = by_names[("loss",)]["at"]
    assert len(loss) == ROUNDS
    assert loss[-1][2] == [["loss", f"{full.rounds.train_loss_nats_per_token.iloc[-1]:.3f}"]]
    shares = by_names[("fedavg", "trigram", "central")]["at"][-1]
    assert [share for _, share in shares[2]] == ["100 %"] * 3
    by_copies = [c["at"][-1] for c in page.curves if c["at"][-1][2][-1][0] == "50 copies"]
    last = full.exposure[full.exposure["round"] == ROUNDS]
    for users, (_, place, values) in zip((1, 4, 16), by_copies, strict=True):
        cells = last[(last.users == users) & (last.holder_participations > 0)]
        bits = cells.groupby("repeats").exposure_bits.mean()
        assert place == f"round {ROUNDS}"
        assert [value for _, value in values] == [f"{b:.2f} bits" for b in bits]


def test_a_long_curve_has_its_ends_and_few_places() -> None:
    with house_style("long"):
        figure, axes = panel("long", "round")
        curve = {float(x): float(x) ** 2 for x in range(1, 2000)}
        axes.plot(list(curve), list(curve.values()))
        curves = Curves(axes, {"a <b>": curve}, lambda x: f"{x:.0f}", lambda y: f"{y:.0f}")
        svg = str(to_svg(figure, "long", curves))
    at = Page(svg).curves[0]["at"]
    assert len(at) <= 201
    assert at[0][1:] == ["1", [["a <b>", "1"]]]
    assert at[-1][1:] == ["1999", [["a <b>", f"{1999**2}"]]]


def test_ids_are_unique_but_for_equal_things(full: Run) -> None:
    source = (full.path / "report.html").read_text("utf-8")
    elements = re.findall(r'<(?:path|clipPath|section)[^>]*id="([^"]*)"', source)
    assert len(elements) == len(set(elements))


def test_the_plots_follow_the_page(full: Run) -> None:
    source = (full.path / "report.html").read_text("utf-8")
    plots = " ".join(re.findall(r"<svg.*?</svg>", source, re.DOTALL))
    assert "#0101" not in plots
    assert "#0102" not in plots
    assert "var(--ink)" in plots
    assert "DejaVu" not in plots
    assert "prefers-color-scheme: dark" in source


def test_the_summary_has_the_numbers_of_the_tables(full: Run, page: Page) -> None:
    results = full.results.set_index("model")
    mine, trigram, central, unigram, words = (results.loc[m] for m in MODELS)
    assert f"in {mine.top1_recall:.2%}".replace("%", " %") in page.text
    assert f"first three in {mine.top3_recall:.2%}".replace("%", " %") in page.text
    points = 100 * (mine.top1_recall - trigram.top1_recall)
    assert points > 0
    assert f"{points:.2f} points above the trigram" in page.text
    points = 100 * (central.top1_recall - mine.top1_recall)
    assert f"{points:.2f} points below the same network trained centrally" in page.text
    saved = [f"{100 * row.keystroke_savings:.1f} %" for row in (mine, unigram, words)]
    assert (
        f"With three suggestions it saves {saved[0]} of keystrokes; the commonest words that fit "
        f"the letters save {saved[1]}, a list of words without a model {saved[2]}." in page.text
    )
    assert "running average" not in page.text
    last = full.exposure[full.exposure["round"] == ROUNDS]
    seen = last[(last.kind == "planted") & (last.holder_participations > 0)]
    assert f"highest sampled exposure is {seen.exposure_bits.max():.2f} bits" in page.text
    assert f"{seen.extracted.sum()} can be extracted word for word" in page.text
    people = full.clients[~full.clients.canary_user].user.nunique()
    assert f"{people} users and " in page.text
    assert f"{ROUNDS} rounds of {COHORT} users each" in page.text
    assert "No differential privacy was applied" in page.text
    bytes_down, seconds = full.rounds.download_bytes.sum(), full.rounds.seconds.sum()
    assert (
        f"It cost {bytes_down / 1e9:.1f} GB of downloads and {bytes_down / 1e9:.1f} GB of uploads "
        f"over all clients and rounds, {MODEL_BYTES / 1e6:.1f} MB each way for one user and round; "
        f"training took {seconds // 60:.0f} min" in page.text
    )


def test_what_is_averaged_is_said_of_both_networks(tmp_path: Path) -> None:
    server = {"rounds": ROUNDS, "cohort": COHORT, "average": 0.9}
    page = page_of(make_run(tmp_path / "run", server=server))
    assert (
        "trained centrally on the same users' pooled text, its steps averaged over as much text "
        "as the rounds" in page.text
    )
    assert (
        "the running average of the iterates of fedavg and central (server.average = 0.9 from "
        "round to round, that of the central steps over as much text)" in page.text
    )


def test_the_floors_are_in_the_final_table_alone(full: Run, page: Page) -> None:
    table, _, rest = page.text.partition("Learning curves")
    assert table.count("unigram") >= 1
    assert "word list" not in rest.partition("What each number means")[0]


def test_the_cost_is_the_sum_of_the_rounds(full: Run, page: Page) -> None:
    assert f"{full.rounds.download_bytes.sum() / 1e9:.1f} GB" in page.text
    assert f"{MODEL_BYTES / 1e6:.1f} MB each way" in page.text


def test_a_canary_that_never_took_part_counts_nowhere(full: Run, page: Page) -> None:
    facts = Facts.of(full)
    assert 0 not in set(facts.seen.canary)
    assert "1 more was never trained on, because no holder took part." in page.text
    assert re.search(r"#0 1 1 none", page.text)  # no model, so no words of canaries


def test_each_cell_of_the_canaries_says_how_many_and_what_chance_gives(
    full: Run, page: Page
) -> None:
    last = full.exposure[full.exposure["round"] == ROUNDS]
    for (users, copies), cell in last[last.kind == "planted"].groupby(["users", "repeats"]):
        if (users, copies) == (1, 1):
            continue  # never trained on
        p = stats.gamma.sf(cell.exposure_bits.sum() * np.log(2), len(cell))
        said = "< 0.1 %" if p < 1e-3 else f"{100 * p:.{0 if p >= 0.1 else 1}f} %"
        bits = f"{cell.exposure_bits.mean():.2f} bits n = {len(cell)} by chance {said} "
        assert f"{bits}{cell.extracted.sum()} of {len(cell)} extracted" in page.text


def test_the_canaries_are_sentences_and_the_keyboard_offers_words(finished: Run) -> None:
    page = page_of(finished)
    words, planted = finished.vocabulary(), open_federation(finished.config).planted
    for canary in planted.canaries:
        said = " ".join(words[i] for i in canary.words)
        assert (said in page.text) == bool(canary.users)
    table = finished.table("suggestions")
    model = finished.model()
    first, *_ = found = [(typed, s.offers) for typed, s in openings(model, words)]
    assert first[0] == ""
    # Nothing typed, each of three words, and each with a letter more: all words begin with w.
    assert [typed for typed, _ in found] == ["", *(
        f"{word} {letter}" for word, _ in first[1] for letter in ("", "w")
    )]  # fmt: skip
    for typed, offers in found:
        rows = table[table.typed.fillna("") == typed]
        assert rows.place.tolist() == [1, 2, 3]
        assert rows.word.tolist() == [word for word, _ in offers]
        assert rows.probability.tolist() == pytest.approx([share for _, share in offers])
        shown = " ".join(f"{word} {100 * share:.1f} %" for word, share in offers)
        assert " ".join(f"{typed} {shown}".split()) in page.text


def test_where_there_is_no_room_for_canaries_the_page_says_so(tmp_path: Path, tiny: str) -> None:
    for share, said in ((0.1, "2 of 4 canaries are planted"), (0.01, "0 of 4 canaries are")):
        config = load(tiny, [f"canaries.max_share={share}", "server.rounds=1"])
        page = page_of(simulate(config, tmp_path / str(share), quiet=True))
        holders = f"holders are at most {100 * share:.0f} % of the users that train"
        assert said in page.text
        assert holders in page.text
        nothing = "There was no room for a canary, so nothing here tells what it memorized."
        assert (nothing in page.text) == (share == 0.01)


def test_the_same_folder_gives_the_same_bytes(full: Run, page: Page) -> None:
    before = (full.path / "report.html").read_bytes()
    code = (
        "import sys, fedsim.report, fedsim.runs\n"
        "assert 'matplotlib' not in sys.modules and 'jinja2' not in sys.modules\n"
        f"fedsim.report.write_report(fedsim.runs.Run.open({str(full.path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (full.path / "report.html").read_bytes() == before


def test_the_command_prints_the_path(full: Run, tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["report", str(full.path), "--json"])
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == {"report": str(full.path / "report.html")}


# -- other people's text ---------------------------------------------------------------------


def test_typed_text_is_escaped(tmp_path: Path) -> None:
    data = {"path": EVIL, "user_column": EVIL}
    run = make_run(tmp_path / "evil", rounds=5, failing=2, reason=EVIL, state="failed", data=data)
    users = _test_users(np.random.default_rng(3), 0.1)
    scores = {k: summarise(users)[k] for k in SCORES}
    blank = dict.fromkeys(("parameters", "model_bytes", "latency_p50_ms", "latency_p95_ms"))
    run.append("results", [{"model": name, **scores, **blank} for name in ("fedavg", EVIL)])
    rows = users.to_dict("records")
    run.append("users", [{"model": m, **r} for m in ("fedavg", EVIL) for r in rows])  # type: ignore[dict-item]
    run.set_status("failed", 5, error=EVIL)
    page = page_of(run)
    assert page.tags.count("script") == 1  # ours
    assert page.text.count("<script>alert('x')</script>") >= 5  # shown, as text
    source = (run.path / "report.html").read_text("utf-8")
    assert html.escape("<script>") in source


# -- runs that are not whole -----------------------------------------------------------------


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", rounds=20, state="interrupted"))
    assert (
        "It was interrupted after round 20 of 60; to continue it, run `fedsim resume` "
        "with the path of the folder run." in page.text
    )
    assert "not scored on test users" in page.text
    assert "48 validation users, after round 20" in page.text
    assert "There are no results on test users" in page.text
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)


def test_a_run_without_a_round(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run", rounds=0, state="failed"))
    assert "no round is done" in page.text
    assert "It failed after round 0 of 60, with this error: the disk is full." in page.text
    assert "Canaries are planted but were not measured yet" in page.text
    assert "svg" not in page.tags


def test_without_canaries_and_baselines(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", canaries=False, models=("fedavg",))
    page = page_of(run)
    assert "No canaries were planted" in page.text
    assert "No baseline was scored" in page.text
    assert "exposure is" not in page.text


def test_failed_clients_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=10, failing=3, state="running")
    page = page_of(run)
    assert "30 of 400 client trainings failed (7.5 %)" in page.text
    assert "ValueError: no text 30" in page.text
    assert "Its process was killed after round 10 of 60; to continue it, run" in page.text
    with run.locked():
        assert "It was still running after round 10 of 60" in page_of(run).text


def test_a_diverged_run_still_has_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", models=("fedavg",))
    for name, column in (("rounds", "train_loss_nats_per_token"), ("results", "perplexity")):
        table = run.table(name)
        table[column] = np.nan if name == "rounds" else np.inf
        table.to_csv(run.path / f"{name}.csv", index=False)
    text = page_of(run).text
    assert "\N{INFINITY}" in text
    assert not re.search(r"\bnan\b", text.lower())


def test_no_users_means_no_interval(tmp_path: Path, full: Run) -> None:
    folder = shutil.copytree(full.path, tmp_path / "run")
    (folder / "users.csv").unlink()
    (folder / "checksums.json").unlink()  # a folder of an earlier version
    page = page_of(Run.open(folder))
    assert "points above the trigram" in page.text
    assert "95 % interval -" not in page.text
    assert "\N{PLUS-MINUS SIGN} 0" not in page.text


# -- intervals -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100])
def test_the_interval_covers_as_often_as_it_says(size: int) -> None:
    rng = np.random.default_rng(5)
    population = _test_users(rng, 0.2, users=20_000)
    truth = population.hits_top1.sum() / population.words.sum()
    hits = 0
    for _ in range(400):
        got = recall(population.iloc[rng.integers(len(population), size=size)], "hits_top1")
        hits += got.low <= truth <= got.high
    assert 0.91 <= hits / 400 <= 0.98


def test_a_difference_is_paired_by_user() -> None:
    users = _test_users(np.random.default_rng(1), 0.2)
    better = users.assign(hits_top1=users.hits_top1 + users.words // 50)
    shuffled = better.sample(frac=1, random_state=0)
    got = recall_difference(shuffled, users, "hits_top1")
    assert got.value == pytest.approx(0.02, abs=1e-3)
    assert got.half_width < 0.1 * recall(users, "hits_top1").half_width
    assert got.excludes_zero


@pytest.mark.parametrize("few", [1, 2, 9])
def test_few_users_have_no_interval(few: int) -> None:
    users = _test_users(np.random.default_rng(1), 0.2, users=few)
    assert np.isnan(recall(users, "hits_top1").half_width)
    assert not recall(users, "hits_top1").excludes_zero
    assert np.isnan(mean(pd.Series([], dtype=float)).value)


def test_labels_are_pushed_apart_and_stay_inside() -> None:
    assert spread([1.0, 50.0], 12, 100) == [1.0, 50.0]
    assert spread([99.0, 99.5, 100.0], 12, 100) == [76.0, 88.0, 100.0]
    assert spread([5.0, 6.0], 12, 100) == [5.0, 17.0]
