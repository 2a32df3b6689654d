"""The fine-tuning study: both arms on the same sentences, means over seeds, a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from federations import write_chat

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.leakage.forgetting import PREFIXES
from fedsim.report.finetuning import write_finetuning
from fedsim.runs import Run
from fedsim.simulation import simulate
from fedsim.studies import finetuning as study


@pytest.fixture(scope="module")
def rows(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two seeds of a tiny study, in this process."""
    folder = tmp_path_factory.mktemp("study")
    chat = write_chat(folder / "first.csv", people=14, seed=8)

    def here(cells: Mapping[str, Config], folder: Path, *_: object) -> dict[str, Run]:
        return {name: simulate(c, folder / name, quiet=True) for name, c in cells.items()}

    keys = (f"pretrain.path={chat}", "pretrain.min_words=10", "pretrain.epochs=6",
            "pretrain.batch_size=8", "pretrain.lr=0.02", "pretrain.canaries=2",
            "server.rounds=2")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "run_all", here)
        return study.run_study(study.Study((1, 2), tiny, keys), folder, 1, lambda *_: None)


def test_both_arms_are_there_with_every_figure(rows: pd.DataFrame) -> None:
    points = study.curve(rows)
    for arm in (study.PRETRAINED, study.CONTROL):
        for text in ("trained", "held_out", study.MEMORY):
            for prefix in PREFIXES:
                line = study.pick(points, arm, text, "extractable", prefix)
                assert line["round"].tolist() == [0, 2]
                assert (line.seeds == 2).all()
    nats = [study.pick(points, arm, "trained", "nats_per_word")["mean"].iloc[0]
            for arm in (study.PRETRAINED, study.CONTROL)]  # fmt: skip
    assert nats[0] < nats[1] - 0.3, "who was pretrained knows the first corpus better"


def test_means_and_memory_by_hand(rows: pd.DataFrame) -> None:
    mine = rows[(rows.arm == "pretrained") & (rows.quantity == "nats_per_word")
                & (rows["round"] == 2)].set_index(["seed", "text"]).estimate  # fmt: skip
    distances = [mine[seed, "trained"] - mine[seed, "held_out"] for seed in (1, 2)]
    assert [mine[seed, study.MEMORY] for seed in (1, 2)] == pytest.approx(distances)
    point = study.pick(study.curve(rows), "pretrained", study.MEMORY, "nats_per_word").iloc[-1]
    assert point["mean"] == pytest.approx(np.mean(distances))
    half = 12.7062 * np.std(distances, ddof=1) / np.sqrt(2)  # t, one degree of freedom
    assert point["high"] - point["mean"] == pytest.approx(half, rel=1e-4)


def test_the_page_shows_the_curve(rows: pd.DataFrame, tmp_path: Path) -> None:
    points = study.curve(rows)
    said = study.findings(points, PREFIXES)
    assert any("canaries" in sentence for sentence in said)
    page = write_finetuning(tmp_path, rows, points, said).read_text()
    assert page.count("<svg") == 6
    assert "control model" in page
    written = pd.read_csv(tmp_path / "finetuning.csv")
    assert len(written) == len(points)
    assert (tmp_path / "finetuning.md").read_text().startswith("| round |")


def test_what_makes_no_study_is_refused(tiny: str, tmp_path: Path) -> None:
    for keys, said in (((), "needs a first corpus"), (("seed=3",), "--seeds")):
        with pytest.raises(FedsimError, match=said):
            study.run_study(study.Study((1,), tiny, keys), tmp_path, 1, lambda *_: None)
