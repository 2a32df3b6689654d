"""Runs that go wrong in their figures say so: worse than guessing, or updates that jump."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clients.training
from fedsim.cli.show import summary
from fedsim.config import Config, load
from fedsim.divergence import JUMP, Norms, diverged, ratio
from fedsim.progress import Reporter
from fedsim.report.page import render
from fedsim.runs import Run
from fedsim.simulation import simulate


@pytest.fixture(scope="module")
def wild(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose steps are far too large."""
    client = config.client.model_copy(update={"lr": 1000.0})
    path = tmp_path_factory.mktemp("wild") / "run"
    return simulate(replace(config, client=client), path, quiet=True)


def test_a_run_that_diverged_says_so_and_why(wild: Run) -> None:
    said = diverged(wild)
    assert said.startswith("The run has diverged: the model is worse than guessing (perplexity ")
    assert "guessing among all 126 words has 126" in said
    assert "above that of guessing since round" in said
    assert "Lower client.lr (1000)" in said
    assert said in " ".join((wild.path / "run.log").read_text().split())
    assert summary(wild)["diverged"] == said
    assert "The run has diverged" in render(wild)


def test_a_run_that_learns_or_only_begins_has_not_diverged(finished: Run) -> None:
    assert diverged(finished) == ""
    assert summary(finished)["diverged"] is None


def test_a_round_of_nobody_shows_no_loss(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(1, 0)
    reporter.round(1, 0, 0.0, math.nan)
    said = capsys.readouterr().err
    assert "loss \N{EN DASH}" in said
    assert "0.000" not in said


def test_a_poisson_round_of_nobody_has_no_loss_in_the_progress(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(tiny, ["server.sampler=poisson", "server.cohort=1", "seed=3", "server.rounds=8"])
    run = simulate(config, tmp_path / "run")
    assert (run.rounds.users_sampled == 0).any()
    assert "loss 0.000" not in capsys.readouterr().err
    empty = run.rounds[run.rounds.users_sampled == 0]
    assert empty.train_loss_nats_per_token.isna().all()
    assert empty.largest_client_norm.isna().all()


def inflated(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """From the 15th training on, one client's update in seven is `factor` times what it was."""
    real, calls = clients.training.local_sgd, [0]

    def train(*arguments: Any) -> tuple[torch.Tensor, float]:
        delta, nats = real(*arguments)
        calls[0] += 1
        return (delta * factor if calls[0] > 28 and calls[0] % 7 == 0 else delta), nats

    monkeypatch.setattr(clients.training, "local_sgd", train)


@pytest.mark.parametrize(("factor", "warned"), [(-30.0, True), (-1.0, False)])
def test_an_inflated_update_is_remarked_on(
    factor: float, warned: bool, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated(monkeypatch, factor)
    run = simulate(load(tiny, ["server.rounds=6"]), tmp_path / "run", quiet=True)
    told = [line for line in (run.path / "run.log").read_text().splitlines() if "as large" in line]
    assert bool(told) == warned
    norms = run.clients.groupby("round").update_norm.max()
    assert np.allclose(run.rounds.set_index("round").largest_client_norm, norms)
    if warned:
        rows = run.clients[run.clients["round"] >= 5]
        who = rows.loc[rows.update_norm.idxmax()]
        assert any(f"the update of user {int(who.user)} is" in line for line in told)
        assert not any(f"round {r}:" in line for line in told for r in (1, 2, 3, 4))


def test_what_is_usual() -> None:
    assert ratio(30.0, [1.0, 2.0, 3.0]) == 15.0
    assert ratio(30.0, [1.0, 2.0]) == 0.0, "too few to compare with"
    assert ratio(30.0, [1.0, 1.0, math.nan, 0.0]) == 0.0
    watch = Norms()
    assert watch.warning(1, [1.0, 1.0, 1.0, 1.0 + JUMP], [4, 5, 6, 7]).startswith(
        "round 1: the update of user 7 is 9 times as large"
    )
    assert watch.warning(2, [], []) == ""
    resumed = Norms([1.0, 1.0, 1.0])
    assert "user 4 and 1 more is 20 times" in resumed.warning(4, [20.0, 20.0, 1.0], [4, 5, 6])


def test_it_is_json(wild: Run) -> None:
    json.dumps(summary(wild))
