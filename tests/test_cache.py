"""`cache`: what is kept, how large it is, and clearing what nothing asks for any more."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from federations import Here, cached_cells
from typer.testing import CliRunner

from fedsim.cli.main import app
from fedsim.config import load
from fedsim.errors import FedsimError
from fedsim.studies import cache_contents, cell_store
from fedsim.studies.grid import Crew, run_all


def quiet(name: str, done: int, of: int) -> None:
    """Nobody watches."""


def told(*words: object) -> Any:
    """What a command prints as JSON."""
    result = CliRunner().invoke(app, ["cache", *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def three(here: Here, tiny: str) -> Callable[[], list[str]]:
    """Three cells that were trained, one of which failed; the names of those that are left."""
    asked = {f"seed {seed}": load(tiny, ["server.rounds=1", f"seed={seed}"]) for seed in (1, 2)}
    run_all(asked, None, 1, quiet)
    with Crew(None, 1) as crew:
        crew.work({"wild": load(tiny, ["server.rounds=2", "client.lr=1e12"])}, quiet)
    return lambda: [path.name for path in cached_cells()]


def test_the_cells_are_listed_with_what_they_are_and_their_size(
    three: Callable[[], list[str]],
) -> None:
    rows = told("cells")
    assert sorted(row["name"] for row in rows) == three()
    assert sorted((row["seed"], row["state"]) for row in rows) == [
        (1, "failed"), (1, "finished"), (2, "finished"),
    ]  # fmt: skip
    assert all(row["usable"] and row["strategy"] == "fedavg" for row in rows)
    for row in rows:
        files = [f for f in Path(row["folder"]).rglob("*") if f.is_file()]
        record = Path(row["folder"]).with_suffix(".json")
        assert row["bytes"] == sum(f.stat().st_size for f in [*files, record])
    shown = CliRunner().invoke(app, ["cache", "cells"]).stdout
    assert all(name in shown for name in three())


def test_the_kinds_are_sized_together(three: Callable[[], list[str]], chat: Path) -> None:
    found = told()
    kinds = {row["kind"]: row for row in found["kinds"]}
    assert kinds["cells"]["entries"] == 3
    assert kinds["corpora"]["entries"] >= 1
    assert kinds["corpora"]["bytes"] > 0
    assert found["folder"] == os.environ["FEDSIM_CACHE"]
    assert "all of which can be made again" in CliRunner().invoke(app, ["cache"]).stdout


def test_pruning_removes_what_failed_and_what_other_code_made(
    three: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, here: Here, tiny: str
) -> None:
    before = three()
    would = told("prune", "--dry-run")
    assert [row["state"] for row in would["removed"]] == ["failed"]
    assert three() == before
    gone = told("prune")
    assert gone["removed"] == would["removed"]
    assert len(three()) == 2
    monkeypatch.setattr(cell_store, "code_digest", lambda: "of tomorrow")
    assert not any(row["usable"] for row in told("cells"))
    assert "by other code" in CliRunner().invoke(app, ["cache", "cells"]).stdout
    assert len(told("prune")["removed"]) == 2
    assert three() == []
    assert not list(cell_store.cells_folder().iterdir()), "nor records, nor locks"


def test_pruning_by_age_and_by_size_goes_by_the_last_use(
    three: Callable[[], list[str]], here: Here, tiny: str
) -> None:
    told("prune")
    old = time.time() - 40 * cache_contents.DAY_S
    for name in three():
        os.utime(cell_store.cells_folder() / name, (old, old))
    run_all({"one": load(tiny, ["server.rounds=1", "seed=2"])}, None, 1, quiet)  # used again
    sizes = {row["seed"]: row["bytes"] for row in told("cells")}
    assert told("prune", "--max-size", "1GB")["removed"] == []
    would = told("prune", "--max-size", f"{sizes[2] / 1e6:.6f}MB", "--dry-run")
    assert [row["seed"] for row in would["removed"]] == [1]
    assert [row["seed"] for row in told("prune", "--older-than", "30")["removed"]] == [1]
    assert len(told("prune", "--all")["removed"]) == 1


def test_a_cell_that_is_being_trained_is_not_removed(three: Callable[[], list[str]]) -> None:
    path = cached_cells()[0]
    with cell_store.alone(path):
        found = told("prune", "--all")
    assert found["in_use"] == 1
    assert three() == [path.name]


def test_other_kinds_are_cleared_by_name(
    three: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FEDSIM_CACHE", str(tmp_path))
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "a.json").write_text("{}")
    assert told("prune", "--kind", "baselines")["removed"] == [], "nothing of it is stale"
    assert len(told("prune", "--kind", "baselines", "--all")["removed"]) == 1
    assert not list((tmp_path / "baselines").iterdir())
    assert len(three()) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prune", "--max-size", "much"], "write 500MB or 2GB"),
        (["prune", "--kind", "cell"], "no kind"),
    ],
)
def test_what_is_mistaken_is_one_sentence(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["cache", *words])
    assert isinstance(result.exception, FedsimError)
    assert said in str(result.exception)
