"""Per-sample gradients of every model under Opacus' hooks against autograd example by example."""

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.validators import ModuleValidator

from fedsim.models import MODELS, Batch, LanguageModel, build, training_loss
from fedsim.models.loss import padded_sequence_losses

# Opacus' own hooks set this off: our models take token ids, which have no gradient.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

V = 23
TINY = {
    "cifg": {"hidden": 7, "embedding": 5},
    "lstm": {"hidden": 7, "embedding": 5},
    "transformer": {"embedding": 8, "heads": 2, "layers": 2, "feedforward": 12},
}


def make(name: str, **more: object) -> LanguageModel:
    model = build(MODELS[name](**TINY[name], **more), V)
    model.initialise(torch.Generator().manual_seed(3))
    return model


# As many sentences as steps: where an axis is taken for the batch by mistake, nothing fails.
@pytest.mark.parametrize("lengths", [[4, 0, 2, 1, 4], [3, 6], [2]])
@pytest.mark.parametrize("name", list(TINY))
def test_per_sample_gradients_are_those_of_each_sentence_alone(
    name: str, lengths: list[int]
) -> None:
    model = make(name, dropout=0.0)
    assert not ModuleValidator.validate(model)
    tokens = np.random.default_rng(0).integers(3, 9, sum(lengths)).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    alone = []
    for i in range(len(lengths)):
        loss, _ = training_loss(model, Batch.of(tokens, offsets, [i]))
        alone.append(torch.autograd.grad(loss, list(model.parameters())))

    batch = Batch.of(tokens, offsets)
    sampled = GradSampleModule(model, batch_first=True, loss_reduction="mean")
    logits = sampled(batch.pad(batch.inputs))
    padded_sequence_losses(logits, batch.pad(batch.targets)).mean().backward()
    for (key, parameter), *each in zip(model.named_parameters(), *alone, strict=True):
        torch.testing.assert_close(
            parameter.grad_sample,
            torch.stack(each),
            rtol=1e-5,
            atol=1e-6,
            msg=lambda m, k=key: k + m,
        )


@pytest.mark.parametrize("name", list(TINY))
def test_dropout_trains_under_hooks(name: str) -> None:
    model = make(name, dropout=0.5)
    assert not ModuleValidator.validate(model)
    sampled = GradSampleModule(model, batch_first=True, loss_reduction="mean")
    tokens = torch.tensor([[1, 5, 6], [1, 7, 0]])

    def gradients(seed: int) -> list[torch.Tensor]:
        model.dropout_generator = torch.Generator().manual_seed(seed)
        sampled.zero_grad()
        padded_sequence_losses(sampled(tokens), tokens).mean().backward()
        return [p.grad_sample.clone() for p in model.parameters()]

    assert all(map(torch.equal, gradients(1), gradients(1)))
    assert not all(map(torch.equal, gradients(1), gradients(2)))
