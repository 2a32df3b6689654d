"""Whether Opacus' gradients of single sequences are those of a model that does not ship.

DP-SGD clips each sequence's own gradient: of layers that Opacus does not know, or that mix the
sequences of a batch, it would bound something else, and the claim would be untrue.
"""

from __future__ import annotations

import numpy as np
import torch
from opacus.validators import ModuleValidator

from clients.private import OpacusModel
from fedsim.errors import FedsimError
from fedsim.models import build
from fedsim.models.base import LanguageModel, ModelOptions
from fedsim.models.batch import Batch
from fedsim.models.contract import SHIPPED, WORDS
from fedsim.models.loss import padded_sequence_losses
from fedsim.noise import PrivateStep
from fedsim.seeding import torch_stream

# Two sentences, and as many as the longest has steps: axes that are mistaken for each other.
_CLIP = 0.01  # small enough to bound every gradient, large enough for single precision
_TRIALS = ([[4, 7, 7], [9, 10]], [[4, 7, 7], [9, 10], [8], [5, 6, 10]])


def check_private(name: str, options: ModelOptions) -> None:
    """Raises FedsimError for a model that `privacy=dp-sgd` cannot train."""
    if type(options).__module__ in SHIPPED:
        return
    model = build(options, WORDS)
    if said := ModuleValidator.validate(model, strict=False):
        raise _refused(name, str(said[0]).split(". ")[0].rstrip("."))
    try:
        right = all(_agree(build(options, WORDS), sentences) for sentences in _TRIALS)
    except Exception as error:
        raise _refused(name, str(error).strip().split("\n")[0].rstrip(".")) from error
    if not right:
        raise _refused(name, "they are not those of the sequences taken one by one")


def _agree(model: LanguageModel, sentences: list[list[int]]) -> bool:
    """Whether a step without noise moves by the clipped gradients of the sequences one by one."""
    model.initialise(torch_stream(0, "a model's trial"))
    wanted = torch.zeros(model.n_parameters)
    for sentence in sentences:
        gradient = _gradient(model, _batch([sentence]))
        wanted -= gradient * (_CLIP / gradient.norm()).clamp(max=1.0)
    start = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    flat = OpacusModel(model, torch.device("cpu"))
    flat.values.copy_(start)
    flat.private_step(_batch(sentences), PrivateStep(_CLIP, 1.0, 0.0, (0, 0), 0))
    return torch.allclose(flat.values - start, wanted, rtol=1e-2, atol=1e-3 * _CLIP)


def _gradient(model: LanguageModel, batch: Batch) -> torch.Tensor:
    losses = padded_sequence_losses(model(batch.pad(batch.inputs)), batch.pad(batch.targets))
    parts = torch.autograd.grad(losses.sum(), list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def _batch(sentences: list[list[int]]) -> Batch:
    tokens = np.array([word for sentence in sentences for word in sentence], np.int32)
    return Batch.of(tokens, np.cumsum([0, *map(len, sentences)]))


def _refused(name: str, reason: str) -> FedsimError:
    return FedsimError(
        f"privacy 'dp-sgd' cannot train the model '{name}': Opacus gives no gradients of single "
        f"sequences for it ({reason}); make it of nn.Linear, nn.Embedding and nn.LayerNorm, or "
        "choose a mechanism for users."
    )
