"""Epsilon of who was seen to take part: one Gaussian for each round, however cohorts are drawn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from federations import Here
from lower_bounds import gaussian_epsilon
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.config import load
from fedsim.privacy.accounting import guarantee
from fedsim.privacy.known_names import most_draws
from fedsim.privacy.plan import Plan
from fedsim.runs import Run
from fedsim.simulation import simulate

PLAN = Plan("gaussian", 4.0, 1e-5, 1_000, 20, 300, "poisson")


@pytest.mark.parametrize("sampler", ["poisson", "truncated", "fixed"])
def test_it_is_the_gaussian_of_the_rounds_that_one_was_drawn_in(sampler: str) -> None:
    stated = guarantee(Plan("gaussian", 4.0, 1e-5, 1_000, 20, 300, sampler))
    moved = 2 if sampler == "fixed" else 1  # clip norms: replaced, or zeroed out
    assert stated.draws is not None
    assert stated.epsilon_names_known == pytest.approx(
        gaussian_epsilon(moved * math.sqrt(stated.draws) / 4, 1e-5), rel=1e-6
    )
    assert stated.epsilon_names_known > 2 * stated.epsilon


def test_nobody_is_drawn_more_often_than_is_said() -> None:
    """Of 1,000 users, each in 300 rounds with chance 1 / 50: 6 in the mean."""
    draws = most_draws(guarantee(PLAN).events, PLAN.users)
    rng = np.random.default_rng(3)
    assert 18 <= rng.binomial(300, 0.02, (200, 1_000)).max() <= draws <= 40
    assert guarantee(Plan("gaussian", 4.0, 1e-5, 1_000, 1_000, 7, "poisson")).draws == 7


def test_cyclic_cohorts_hide_nobody_to_begin_with() -> None:
    stated = guarantee(Plan("gaussian", 4.0, 1e-5, 1_000, 20, 300, "cyclic"))
    assert stated.epsilon_names_known is None
    assert stated.draws is None


def test_groups_count_the_turns_of_a_group(tiny: str) -> None:
    plan = Plan("banded", 4.0, 1e-5, 1_000, 20, 300, "groups", min_separation=10,
                options={"bands": 4})  # fmt: skip
    stated = guarantee(plan)
    assert stated.draws is not None
    assert 6 < stated.draws <= 30, "a group has thirty turns"
    (event,) = stated.events
    assert stated.epsilon_names_known == pytest.approx(
        gaussian_epsilon(math.sqrt(stated.draws) / event.noise_multiplier, 1e-5), rel=1e-6
    )


def test_the_statement_of_a_run_counts_who_was_really_drawn(tiny: str, tmp_path: Path) -> None:
    config = load(
        tiny,
        [
            "privacy=dp-fedavg",
            "privacy.noise_multiplier=2",
            "server.rounds=6",
            "server.sampler=poisson",
        ],
    )
    run = simulate(config, tmp_path / "run", quiet=True)
    told = (run.privacy or {})["guarantee"]
    drawn = int(run.clients.user.value_counts().max())
    assert told["draws"] == drawn <= 6
    assert told["epsilon_names_known"] == pytest.approx(
        gaussian_epsilon(math.sqrt(drawn) / 2, told["delta"]), rel=1e-6
    )
    text = (run.path / "privacy.txt").read_text()
    said = " ".join(text.split())
    assert "names known for who knows who took part when, epsilon is" in said
    assert f"drawn in {drawn} round" in said
    assert "(nobody was drawn more often)" in said


def test_who_failed_was_drawn_too(tiny: str, tmp_path: Path) -> None:
    from server.privacy import _most_drawn

    config = load(tiny, ["privacy=dp-fedavg", "privacy.noise_multiplier=2", "server.rounds=3"])
    run = simulate(config, tmp_path / "run", quiet=True)
    rows = run.clients
    user = int(rows.user.iloc[0])
    free = [r for r in range(1, 9) if r not in set(rows[rows.user == user]["round"])]
    often = int(rows.user.value_counts().max())
    run.append("failures", [{"round": r, "user": user, "reason": "lost"} for r in free])
    assert _most_drawn(Run.open(run.path)) == 8 > often


def test_a_plan_says_both(here: Here) -> None:
    asked = (
        "privacy epsilon --users 1000 --cohort 20 --rounds 300 --noise-multiplier 4 --delta 1e-5"
    )
    out = CliRunner().invoke(app, asked.split()).stdout
    stated = guarantee(PLAN)
    assert f"drawn in {stated.draws} rounds (nobody is drawn more often" in out
    out = CliRunner().invoke(app, [*asked.split(), "--sampler", "cyclic"]).stdout
    assert "amplified   no" in out
