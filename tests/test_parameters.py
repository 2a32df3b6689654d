"""Parameters and updates: one buffer, tied tensors once, digests, float64 sums."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from fedsim.models import MODELS, build
from fedsim.parameters import Layout, Parameters
from fedsim.updates import Aggregate, ChunkUpdate, UserResult


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


def test_an_aggregate_is_the_weighted_mean_of_all_users_in_float64() -> None:
    rng = np.random.default_rng(0)
    layout = Layout(("w",), ((50,),))
    aggregate, everything, weights = Aggregate(layout), [], []
    for chunk in range(20):
        n = rng.integers(1, 9, size=3)
        deltas = rng.normal(size=(3, 50)).astype(np.float32) * 10.0 ** rng.integers(-3, 3)
        total = (n[:, None] * deltas).sum(0).astype(np.float32)
        results = [UserResult(3 * chunk + i, int(n[i]), 1, 0.0, 0.0) for i in range(3)]
        aggregate.add(ChunkUpdate(Parameters(layout, total), results, {1000 + chunk: "gone"}))
        everything += list(deltas.astype(np.float64))
        weights += n.tolist()
    assert aggregate.weight == sum(weights)
    assert len(aggregate.failures) == 20
    exact = np.average(everything, axis=0, weights=weights)
    np.testing.assert_allclose(aggregate.mean(), exact, rtol=1e-5, atol=1e-6)
    assert aggregate.mean().dtype == np.float32
    assert aggregate.total.flat.dtype == np.float64


def test_a_chunk_in_which_everybody_failed_adds_nothing() -> None:
    layout = Layout(("w",), ((2,),))
    aggregate = Aggregate(layout)
    aggregate.add(ChunkUpdate(Parameters.zeros(layout), [], {4: "x"}))
    assert aggregate.weight == 0
    assert aggregate.mean().tolist() == [0.0, 0.0]
    assert aggregate.failures == {4: "x"}
