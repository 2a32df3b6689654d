"""Parameters and updates: one buffer, tied tensors once, digests, exact sums."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from fedsim.errors import FedsimError
from fedsim.models import MODELS, build
from fedsim.parameters import Layout, Parameters
from fedsim.updates import RESOLUTION, Aggregate, ChunkUpdate, UserResult, multiples


class Toy(nn.Module):
    """A matrix, a scalar, a tied matrix and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 2)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.out = nn.Linear(2, 3)
        self.out.weight = self.table.weight
        self.register_buffer("steps", torch.tensor(7))


def test_the_layout_is_that_of_the_distinct_parameters() -> None:
    layout = Layout.of(Toy())
    assert layout.names == ("scale", "table.weight", "out.bias")
    assert layout.shapes == ((), (3, 2), (3,))
    assert [(s.start, s.stop) for s in layout.slices] == [(0, 1), (1, 7), (7, 10)]
    assert layout.size == 10
    assert Layout((), ()).size == 0


def test_values_go_into_a_model_and_back_unchanged() -> None:
    model = Toy()
    parameters = Parameters.from_model(model)
    assert parameters.nbytes == 40
    for (name, view), (own, tensor) in zip(
        parameters.items(), model.named_parameters(), strict=True
    ):
        assert name == own
        assert np.array_equal(view, tensor.detach().numpy())
        assert view.base is not None, "a view of the one buffer, not a copy"
    other = Toy()
    parameters.load_into(other)
    assert Parameters.from_model(other).digest() == parameters.digest()
    assert other.out.weight is other.table.weight
    view = dict(parameters.items())["table.weight"]
    view[0, 0] = 99
    assert parameters.flat[1] == 99
    assert parameters.copy().flat is not parameters.flat


def test_a_model_of_another_shape_is_refused() -> None:
    parameters = Parameters.from_model(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="other names or shapes"):
        parameters.load_into(nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"layout needs \(9,\)"):
        Parameters(parameters.layout, np.zeros(8, np.float32))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_models_layout_has_all_of_its_parameters(name: str) -> None:
    model = build(MODELS[name](), 50)
    assert Layout.of(model).size == model.n_parameters


def test_the_digest_sees_values_names_and_shapes() -> None:
    base = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(1, np.float32)}
    digest = Parameters.from_arrays(base).digest()
    assert Parameters.from_arrays(base).copy().digest() == digest
    changed = [
        {**base, "a": np.nextafter(base["a"], np.float32(9))},
        {"a": base["a"].reshape(3, 2), "b": base["b"]},
        {"A": base["a"], "b": base["b"]},
        {"b": base["b"], "a": base["a"]},
        {**base, "b": np.array([-0.0], np.float32)},
    ]
    digests = {digest, *(Parameters.from_arrays(arrays).digest() for arrays in changed)}
    assert len(digests) == 6
    # The definition, so that others can check a published digest without this package.
    text = "(('a', 'b'), ((2, 3), (1,)))"
    h = hashlib.sha256(text.encode())
    h.update(np.concatenate([base["a"].ravel(), base["b"]]).astype("<f4").tobytes())
    assert digest == h.hexdigest()


def chunk_of(deltas: np.ndarray, weights: np.ndarray, first: int) -> ChunkUpdate:
    """The update of users `first`, `first` + 1, ... with these updates and weights."""
    rows = list(zip(deltas, weights.tolist(), strict=True))
    total = np.sum(
        [multiples(torch.from_numpy(d), w / RESOLUTION).numpy() for d, w in rows], axis=0
    )
    norms = np.linalg.norm(deltas.astype(np.float64), axis=1)
    results = [UserResult(first + i, w, 1, 0.0, float(norms[i])) for i, (_, w) in enumerate(rows)]
    return ChunkUpdate(total, results)


def test_an_aggregate_is_the_weighted_mean_of_all_users() -> None:
    rng = np.random.default_rng(0)
    layout = Layout(("w",), ((50,),))
    deltas = rng.normal(size=(60, 50)) * 10.0 ** rng.integers(-3, 3, size=(60, 1))
    deltas, weights = deltas.astype(np.float32), rng.integers(1, 9, size=60)
    aggregate = Aggregate(layout)
    for start in range(0, 60, 3):
        aggregate.add(chunk_of(deltas[start : start + 3], weights[start : start + 3], start))
    assert aggregate.weight == weights.sum()
    exact = np.average(deltas.astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(aggregate.mean(), exact, rtol=1e-5, atol=1e-7)
    assert aggregate.mean().dtype == np.float32


def test_the_sum_has_no_rounding_whatever_the_order_and_the_chunks() -> None:
    rng = np.random.default_rng(1)
    layout = Layout(("w",), ((200,),))
    deltas = (rng.normal(size=(40, 200)) * 10.0 ** rng.integers(-6, 3, (40, 200))).astype("f4")
    weights = rng.integers(1, 500, size=40)
    in_float = {deltas[p].sum(0).tobytes() for p in (np.arange(40), np.arange(40)[::-1])}
    assert len(in_float) == 2, "in float32 the order shows"
    means = set()
    for size in (1, 3, 8, 40):
        starts = rng.permutation(np.arange(0, 40, size))
        aggregate = Aggregate(layout)
        for start in starts.tolist():
            span = slice(start, start + size)
            aggregate.add(chunk_of(deltas[span], weights[span], start))
        means.add(aggregate.mean().tobytes())
        assert [r.user for r in aggregate.results] == list(range(40))
    assert len(means) == 1


def test_what_is_added_of_a_user_is_never_larger_than_the_update() -> None:
    rng = np.random.default_rng(2)
    delta = torch.from_numpy(rng.normal(size=1000).astype(np.float32) * 1e-4)
    for weight in (1, 3, 7, 37, 200, 4999):
        added = multiples(delta, weight / RESOLUTION).numpy() * RESOLUTION
        exact = delta.double().numpy() * weight
        assert (np.abs(added) <= np.abs(exact)).all()
        assert np.abs(added - exact).max() < RESOLUTION


def test_a_sum_that_could_overflow_is_refused() -> None:
    aggregate = Aggregate(Layout(("w",), ((1,),)))
    for user in range(1024):
        result = UserResult(user, 1, 1, 0.0, 2.0**24)
        aggregate.add(ChunkUpdate(np.zeros(1, np.int64), [result]))
    with pytest.raises(FedsimError, match=r"too large to be added; lower client\.lr"):
        aggregate.add(ChunkUpdate(np.zeros(1, np.int64), [UserResult(1024, 1, 1, 0.0, 2.0**24)]))


def test_a_user_that_failed_and_then_completed_is_no_failure() -> None:
    aggregate = Aggregate(Layout(("w",), ((2,),)))
    aggregate.add(ChunkUpdate(np.zeros(0, np.int64), [], {4: "x", 5: "y"}))
    aggregate.add(chunk_of(np.ones((1, 2), np.float32), np.array([3]), 4))
    assert aggregate.failures == {5: "y"}
    assert aggregate.mean().tolist() == [1.0, 1.0]


def test_a_chunk_in_which_everybody_failed_adds_nothing() -> None:
    layout = Layout(("w",), ((2,),))
    aggregate = Aggregate(layout)
    aggregate.add(ChunkUpdate(np.zeros(0, np.int64), [], {4: "x"}))
    assert aggregate.weight == 0
    assert aggregate.mean().tolist() == [0.0, 0.0]
    assert aggregate.failures == {4: "x"}
