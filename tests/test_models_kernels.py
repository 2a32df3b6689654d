"""The fused cross-entropy and the recurrences where the model tests do not reach."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from fedsim.models import MODELS, Batch, build, kernels, training_loss
from fedsim.models.kernels import fused_cross_entropy


def problem(rows: int, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    """hidden, weight, bias, targets, row weights with 13 classes."""
    g = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        scale * torch.randn(shape, generator=g, dtype=torch.float64)
        for shape in ((rows, 5), (13, 5), (13,))
    )
    targets = torch.randint(0, 13, (rows,), generator=g)
    return hidden, weight, bias, targets, torch.rand(rows, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("rows", [1, 16, 17, 50])
@pytest.mark.parametrize("with_bias", [True, False])
def test_cross_entropy_in_blocks_is_autograd_s(
    rows: int, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernels._BLOCK_BYTES, "cpu", 1)  # blocks of 16 rows, the least
    hidden, weight, bias, targets, row_weights = problem(rows)
    leaves = [hidden, weight] + [bias] * with_bias
    for leaf in leaves:
        leaf.requires_grad_()
    used_bias = bias if with_bias else None
    expected_nats = cross_entropy(linear(hidden, weight, used_bias), targets, reduction="none")
    expected = torch.autograd.grad(5 * (expected_nats @ row_weights), leaves)

    loss, nats = fused_cross_entropy(hidden, weight, used_bias, targets, row_weights)
    assert not nats.requires_grad
    torch.testing.assert_close(nats, expected_nats.detach())
    torch.testing.assert_close(loss, expected_nats @ row_weights)
    for got, want in zip(torch.autograd.grad(5 * loss, leaves), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-13)
    with torch.no_grad():
        again = fused_cross_entropy(hidden, weight, used_bias, targets, row_weights)
    torch.testing.assert_close(again[0], loss.detach())
    torch.testing.assert_close(again[1], nats)


def test_nats_beyond_the_range_of_probabilities_are_exact() -> None:
    # exp(-500) is zero in single precision; its logarithm must not be infinite.
    hidden = torch.tensor([[1.0], [-1.0], [1.0]])
    weight = torch.tensor([[0.0], [500.0], [1.0]])
    targets = torch.tensor([0, 1, 1])
    _, nats = fused_cross_entropy(hidden, weight, None, targets, torch.ones(3))
    assert nats.tolist() == pytest.approx([500.0, 500.0 + np.log1p(np.exp(-1.0)), 0.0])


def test_a_second_backward_fails_instead_of_lying() -> None:
    model = build(MODELS["cifg-small"](), 30)
    model.initialise(torch.Generator().manual_seed(0))
    batch = Batch.of(np.array([5, 6, 7]), np.array([0, 3]))
    loss, _ = training_loss(model, batch)
    loss.backward(retain_graph=True)
    with pytest.raises(TypeError):
        loss.backward()


@pytest.mark.parametrize("name", ["cifg-small", "lstm-small", "transformer-small"])
def test_gradients_are_the_same_to_the_bit_every_time(name: str) -> None:
    model = build(MODELS[name](), 2000)
    model.initialise(torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    batch = Batch.of(rng.integers(4, 2000, 200), np.arange(0, 201, 8))
    parameters = list(model.parameters())
    first = torch.autograd.grad(training_loss(model, batch)[0], parameters)
    for _ in range(3):
        other = torch.autograd.grad(training_loss(model, batch)[0], parameters)
        assert all(map(torch.equal, first, other))
