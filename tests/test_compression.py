"""Compressed copies: against brute force and PyTorch's own quantizer, and what they give away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fedsim.compression import COPIES, Compressed, Original, distilled, int8, pruned
from fedsim.config import load
from fedsim.data.sequences import Sequences
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.leakage import ranks
from fedsim.leakage.base import Finding, Subject
from fedsim.leakage.checks import CHECKS
from fedsim.leakage.measures import compression
from fedsim.models import CifgOptions, LstmOptions, ModelOptions, TransformerOptions, build
from fedsim.models.batch import Batch
from fedsim.parameters import Parameters
from fedsim.runs import Run
from fedsim.seeding import stream, torch_stream
from fedsim.simulation import simulate

KINDS = [
    CifgOptions(hidden=12, embedding=8),
    LstmOptions(hidden=12, embedding=8),
    TransformerOptions(embedding=8, layers=1, heads=2, feedforward=16),
]
WORDS = 50


def original(options: ModelOptions = KINDS[0], seed: int = 3) -> Original:
    """A random model, and 40 random sentences to distil it with."""
    model = build(options, WORDS)
    model.initialise(torch_stream(seed, "test"))
    tokens = stream(seed, "text").integers(4, WORDS, size=240, dtype=np.int32)
    return Original(model.eval(), options, Sequences(tokens, np.arange(41) * 6), seed)


def values(copy: Compressed) -> dict[str, np.ndarray]:
    """The copy's arrays by name."""
    return dict(Parameters.from_model(copy.model).items())


# -- the copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", KINDS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 1.0])
def test_the_smallest_weights_are_pruned_and_no_bias_is(
    options: ModelOptions, sparsity: float
) -> None:
    whole = original(options)
    before, copy = dict(whole.parameters().items()), pruned.Pruned(sparsity=sparsity).make(whole)
    after = values(copy)
    weights = [(abs(float(x)), name, place) for name, array in before.items() if array.ndim == 2
               for place, x in enumerate(array.ravel())]  # fmt: skip
    gone = {
        key[1:] for key in sorted(weights, key=lambda w: w[0])[: round(sparsity * len(weights))]
    }
    for name, array in before.items():
        expected = [0.0 if (name, i) in gone else x for i, x in enumerate(array.ravel())]
        np.testing.assert_array_equal(after[name].ravel(), np.array(expected, np.float32))
    others = sum(array.size for array in before.values() if array.ndim != 2)
    kept = len(weights) - len(gone)
    dense, sparse = 4 * len(weights), 4 * kept + int(np.ceil(len(weights) / 8))
    assert copy.nbytes == 4 * others + min(dense, sparse)


@pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning")
@pytest.mark.parametrize("options", KINDS, ids=lambda o: type(o).__name__)
def test_eight_bits_are_those_of_pytorch_and_are_a_fixed_point(options: ModelOptions) -> None:
    whole = original(options)
    copy = int8.Int8().make(whole)
    again = int8.Int8().make(Original(copy.model, options, whole.public, 0))
    size = 0
    for name, array in whole.parameters().items():
        if array.ndim != 2:
            np.testing.assert_array_equal(values(copy)[name], array)
            size += 4 * array.size
            continue
        codes, scales = int8.quantized(array)
        theirs = torch.quantize_per_channel(
            torch.from_numpy(array), torch.from_numpy(scales).double(),
            torch.zeros(len(scales), dtype=torch.int64), 0, torch.qint8,
        )  # fmt: skip
        np.testing.assert_array_equal(codes, theirs.int_repr().numpy())
        np.testing.assert_array_equal(values(copy)[name], theirs.dequantize().numpy())
        assert (np.abs(codes).max(axis=1) == int8.LEVELS).all(), "the largest uses the whole range"
        size += array.size + 4 * len(array)
    assert copy.nbytes == size
    assert again.model is not copy.model
    digests = [Parameters.from_model(c.model).digest() for c in (copy, again)]
    assert digests[0] == digests[1]


def test_rows_of_any_size_are_a_fixed_point() -> None:
    """Without the spare bits of a scale one row in about ten would move."""
    rng = stream(0, "rows")
    rows = rng.normal(size=(2000, 9)) * 10.0 ** rng.integers(-20, 20, size=(2000, 1))
    rows[7] = 0.0
    once = int8.dequantized(*int8.quantized(rows.astype(np.float32)))
    np.testing.assert_array_equal(int8.dequantized(*int8.quantized(once)), once)
    assert not once[7].any()


def test_a_student_comes_nearer_to_its_teacher_and_is_the_same_every_time() -> None:
    whole = original()
    batch = Batch.of(whole.public.tokens, whole.public.offsets)
    floor = distilled.distance(whole.model, whole.model, batch).item()
    students = [
        distilled.Distilled(steps=steps, batch_size=8).make(whole).model for steps in (1, 150)
    ]
    gaps = [distilled.distance(s, whole.model, batch).item() - floor for s in students]
    assert 0 < gaps[1] < gaps[0] / 4
    settings = distilled.Distilled(steps=3, batch_size=4, width=0.5)
    copies = [settings.make(whole) for _ in range(2)]
    assert Parameters.from_model(copies[0].model).digest() == (
        Parameters.from_model(copies[1].model).digest()
    )
    assert copies[0].model.embedding.weight.shape == (WORDS, 4)
    assert copies[0].nbytes == 4 * copies[0].model.n_parameters < whole.parameters().nbytes
    assert distilled.narrower(KINDS[2], 0.3).module(WORDS), "a multiple of the heads"


def test_no_member_teaches_a_student(finished: Run) -> None:
    corpus = open_federation(finished.config).corpus
    public = distilled.public_text(corpus)
    users = corpus.split("validation")
    theirs = [s.tolist() for u in users for s in corpus.sequences(u, "all")]
    assert [s.tolist() for s in public] == theirs
    nobody = Sequences(np.empty(0, np.int32), np.zeros(1, np.int64))
    whole = original()
    with pytest.raises(FedsimError, match="no text of validation users"):
        distilled.Distilled().make(Original(whole.model, whole.options, nobody, 0))


@pytest.mark.parametrize("name", list(COPIES))
def test_a_copy_leaves_the_original_as_it_is(name: str) -> None:
    whole = original()
    before = whole.parameters().digest()
    copy = COPIES[name]().make(whole) if name != "distilled" else COPIES[name](steps=2).make(whole)
    assert whole.parameters().digest() == before
    assert not copy.model.training
    whole.model.embedding.weight.data[0, 0] = float("nan")
    if name != "distilled":
        with pytest.raises(FedsimError, match="not finite"):
            COPIES[name]().make(whole)


# -- the measure ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject(finished: Run) -> Subject:
    """The tiny run's model."""
    federation = open_federation(finished.config)
    participations = np.bincount(finished.clients.user, minlength=federation.users)
    return Subject(finished.model(), finished.config, federation, participations, seed=4)


@pytest.fixture(scope="module")
def found(subject: Subject) -> dict[tuple[str, str], Finding]:
    """Its findings by group and quantity."""
    measure = compression.Compression(sparsities=(0.0, 1.0), steps=5)
    rows = measure.measure(subject).rows
    out = {(row.group, row.quantity): row for row in rows}
    assert len(out) == len(rows)
    return out


def test_every_copy_has_every_figure(found: dict[tuple[str, str], Finding]) -> None:
    groups = ["copy=none", "copy=pruned sparsity=0", "copy=pruned sparsity=1", "copy=int8",
              "copy=distilled width=1"]  # fmt: skip
    assert list(dict.fromkeys(group for group, _ in found)) == groups
    for group in groups:
        quantities = {q for g, q in found if g == group}
        assert quantities - {"exposure_change_bits"} == {
            "top1_recall", "top3_recall", "perplexity", "exposure_bits", "extracted", "model_bytes",
        }  # fmt: skip
        for name in ("top1_recall", "top3_recall", "perplexity"):
            row = found[group, name]
            assert row.low <= row.estimate <= row.high


def test_the_model_as_it_is_has_the_scores_and_exposure_of_its_run(
    found: dict[tuple[str, str], Finding], finished: Run
) -> None:
    result = finished.results.iloc[0]
    assert found["copy=none", "top1_recall"].estimate == pytest.approx(result.top1_recall)
    assert found["copy=none", "perplexity"].estimate == pytest.approx(result.perplexity, rel=1e-5)
    last = finished.exposure[finished.exposure["round"] == 4]
    trained = last[last.holder_participations > 0]
    row = found["copy=none", "exposure_bits"]
    assert (row.n, row.estimate) == (len(trained), pytest.approx(trained.exposure_bits.mean()))
    control = last[last.kind == "held_out"].exposure_bits.mean()
    assert row.control == pytest.approx(control)
    assert found["copy=none", "model_bytes"].estimate == result.model_bytes


def test_pruning_nothing_changes_nothing_and_pruning_all_leaves_nothing(
    found: dict[tuple[str, str], Finding],
) -> None:
    for quantity in ("top1_recall", "perplexity", "exposure_bits", "extracted", "model_bytes"):
        whole, same = (found[f"copy={g}", quantity] for g in ("none", "pruned sparsity=0"))
        assert (whole.estimate, whole.low, whole.control) == pytest.approx(
            (same.estimate, same.low, same.control), nan_ok=True
        )
    assert found["copy=pruned sparsity=0", "exposure_change_bits"].estimate == 0
    empty = found["copy=pruned sparsity=1", "exposure_bits"]
    assert (empty.estimate, empty.control) == (0, 0)
    change = found["copy=pruned sparsity=1", "exposure_change_bits"].estimate
    assert change == pytest.approx(-found["copy=none", "exposure_bits"].estimate)


def test_untrained_canaries_are_not_called_measured() -> None:
    table = pd.DataFrame({"kind": ["planted"], "holder_participations": [0]})
    (row,) = compression.leakage("copy=none", table, table)
    assert np.isnan(row.estimate)
    assert "no canary was trained on" in row.note


def test_a_run_without_canaries_has_the_accuracy_of_its_copies(tiny: str, tmp_path: Path) -> None:
    run = simulate(load(tiny, ["canaries=none", "server.rounds=1"]), tmp_path / "run", quiet=True)
    federation = open_federation(run.config)
    participations = np.bincount(run.clients.user, minlength=federation.users)
    bare = Subject(run.model(), run.config, federation, participations, seed=4)
    found = compression.Compression(copies=("int8",)).measure(bare)
    assert set(found.details) == {"users"}
    rows = {(row.group, row.quantity): row for row in found.rows}
    for group in ("copy=none", "copy=int8"):
        assert rows[group, "top1_recall"].low <= rows[group, "top1_recall"].estimate
        assert rows[group, "perplexity"].estimate > 1
        assert rows[group, "model_bytes"].estimate > 0
        assert np.isnan(rows[group, "exposure_bits"].estimate)
        assert "canaries=none" in rows[group, "exposure_bits"].note
    assert len(rows) == len(found.rows) == 10


# -- the self-check -------------------------------------------------------------------------------


def test_the_checks_hold() -> None:
    assert all(check.passed for check in CHECKS["compression"]())


def _original_instead(self: Any, whole: Original) -> Compressed:
    return Compressed(whole.model, whole.parameters().nbytes)


def _ties_for_the_attacker(canary: np.ndarray, references: np.ndarray) -> np.ndarray:
    rank = 1 + np.searchsorted(np.sort(references), canary, side="left")
    return np.log2(len(references) + 1) - np.log2(rank)


def _rough(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scales = (np.abs(matrix).max(axis=1) / 7).astype(np.float32)
    return np.rint(matrix / scales[:, None]).astype(np.int8), scales


@pytest.mark.parametrize(
    ("owner", "name", "sabotage"),
    [
        (pruned.Pruned, "make", _original_instead),
        (pruned, "matrices", lambda layout: np.ones(layout.size, bool)),
        (pruned, "stored_bytes", lambda weights, removed, others: 4 * weights),
        (int8, "quantized", _rough),
        (int8, "LEVELS", 100),
        (ranks, "exposure_bits", _ties_for_the_attacker),
        (distilled, "cross_entropy", lambda logits, wanted: (logits * wanted).sum(1).mean()),
    ],
)
def test_a_sabotaged_copy_is_noticed(
    owner: object, name: str, sabotage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, sabotage)
    assert not all(check.passed for check in CHECKS["compression"]())
