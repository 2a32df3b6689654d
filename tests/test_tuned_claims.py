"""`compare --tune` with each mechanism: what is proven of one run, of its search and of all seeds,
and by which theorem, in everything that it writes."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from bare_epsilons import bare, bare_in_json, bare_on_page, whole
from federations import Here
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.privacy.claims import rounded_up
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.selection import COMPOSITION, PRIVATE_SELECTION
from fedsim.runs import Run

SHORT = ("server.rounds=2", "evaluation.every=2", "canaries.per_cell=0")
# What a mechanism needs beside its noise multiplier of 4.
MORE = {
    "adaptive": ["privacy.bit_noise=5"],
    "dp-sgd": ["privacy.delta=1e-3", "privacy.steps=2"],
}
# What a search composes by where it is no private selection, or so few trials that this costs less.
DRAWN, GAUSSIAN = "Zhu, Dong & Wang 2022); PLD", "Dong, Roth & Su 2022); exact Gaussian"
PRIVATE = [name for name in MECHANISMS if name not in ("none", "secagg")]


def compared(tiny: str, folder: Path, name: str, tune: int, seeds: int, *more: str) -> Any:
    """What `compare --json` prints of FedAvg under a mechanism; the rest is in the folder."""
    samplers = MECHANISMS[name].samplers
    drawn = [f"server.sampler={samplers[0]}"] if samplers else []
    keys = [*SHORT, f"privacy={name}", *MORE.get(name, []), *drawn, *more]
    asked = ["compare", "--preset", tiny, "--strategies", "fedavg", "--seeds", str(seeds),
             "--tune", str(tune), "--jobs", "1", "--out", str(folder), "--json", *keys]  # fmt: skip
    result = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def texts_of(folder: Path) -> dict[str, str]:
    """What a study of this name wrote for people, as they read it, by file."""
    page = (folder / "comparison.html").read_text()
    page = re.sub(r"<style.*?</style>", "", page, flags=re.S)
    plain = html.unescape(re.sub(r"<[^>]+>", " ", page))
    latex = (folder / "comparison.tex").read_text().replace(r"\&", "&").replace(r"\_", "_")
    files = {name: (folder / name).read_text() for name in ("comparison.md", "checklist.md")}
    out = {**files, "comparison.html": plain, "comparison.tex": latex}
    return {name: re.sub(r"\s+", " ", text) for name, text in out.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRIVATE)
def test_everything_says_what_was_proven_and_by_which_theorem(
    name: str, here: Here, tiny: str, tmp_path: Path
) -> None:
    told = compared(tiny, tmp_path, name, 2, 2, "privacy.noise_multiplier=4")
    (row,) = told["privacy"]
    run = Run.open(tmp_path / told["runs"][0]["run"])
    assert row["epsilon"] == pytest.approx((run.privacy or {})["guarantee"]["epsilon"])
    # Not more than one run where no trial was drawn.
    assert row["epsilon"] <= row["epsilon_with_search"] * (1 + 1e-9) < row["epsilon_of_all"]
    composed = DRAWN if row["sampler"] == "poisson" or name == "dp-sgd" else GAUSSIAN
    if row["trials"]:  # a Poisson number of them may be none
        assert row["theorem"].startswith(f"{COMPOSITION} (")
        assert composed in row["theorem"]
    assert not row["private"], "so few trials cost less by composition, which tells how many"
    assert bare_in_json(told) == []
    for file, text in texts_of(tmp_path).items():
        for figure in ("epsilon", "epsilon_with_search", "epsilon_of_all"):
            assert rounded_up(row[figure]) in text, f"{figure} in {file}"
        assert row["theorem"] in text, file
        assert row["theorem_of_all"] in text, file
        assert f"one {row['unit']}" in text or f"each {row['unit']}" in text, file
        for part in ("adjacency", "sampler", "adversary"):
            assert row[part] in text, f"{part} in {file}"
        assert rounded_up(row["delta"], 3) in text, file
        assert whole(text), file
    for file in ("comparison.md", "checklist.md", "comparison.tex"):
        assert bare((tmp_path / file).read_text()) == [], file
    assert bare_on_page((tmp_path / "comparison.html").read_text()) == []


@pytest.mark.slow
def test_many_trials_are_a_private_selection_and_the_theorem_is_named(
    here: Here, tiny: str, tmp_path: Path
) -> None:
    told = compared(tiny, tmp_path, "sqrt", 8, 1, "privacy.noise_multiplier=4",
                    "privacy.delta=1e-4")  # fmt: skip
    (row,) = told["privacy"]
    assert row["theorem"] == row["theorem_of_all"] == PRIVATE_SELECTION
    assert row["epsilon"] < row["epsilon_with_search"] == row["epsilon_of_all"] < math.inf
    for file, text in texts_of(tmp_path).items():
        assert "Papernot & Steinke 2022" in text, file
        assert "8 in the mean" in text, file


@pytest.mark.slow
@pytest.mark.parametrize("name", ["secagg", "dp-fedavg"])
def test_without_noise_it_says_that_nothing_is_guaranteed(
    name: str, here: Here, tiny: str, tmp_path: Path
) -> None:
    told = compared(tiny, tmp_path, name, 2, 1)
    (row,) = told["privacy"]
    assert row["epsilon"] is None
    assert bare_in_json(told) == []
    for file, text in texts_of(tmp_path).items():
        assert "no guarantee" in text, file
        assert "theorem)" not in text
