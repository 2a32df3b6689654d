"""A model as one run of parameters and one of gradients, and the steps of SGD on it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fedsim.errors import FedsimError
from fedsim.models.base import LanguageModel, ModelOptions
from fedsim.models.batch import N_SPECIALS, Batch
from fedsim.models.loss import training_loss
from fedsim.models.native.build import Unavailable
from fedsim.models.native.library import Trainer, add_scaled, functions, l2_norm
from fedsim.noise import PrivateStep
from fedsim.parameters import Layout
from fedsim.updates import multiples


class FlatModel:
    """A model whose parameters and gradients are views of one buffer each, trained by PyTorch.

    Reset, update, norm and sum are then single passes over contiguous memory.
    """

    threads_each = 2  # torch threads that a gradient of a large batch is worth
    parts = 1  # that such a batch is cut into, each on a thread of its own

    def __init__(self, model: LanguageModel, device: torch.device) -> None:
        self.model = model.to(device)
        self.device = device
        self.layout = Layout.of(model)
        self.values = _zeros(self.layout.size, device)
        self.gradients = _zeros(self.layout.size, device)
        for parameter, part, shape in zip(
            model.parameters(), self.layout.slices, self.layout.shapes, strict=True
        ):
            parameter.data = self.values[part].view(shape)
            parameter.grad = self.gradients[part].view(shape)

    def add_gradient(self, batch: Batch, weight: float = 1.0) -> float:
        """Add `weight` times the batch's mean gradient; returns the batch's summed nats."""
        loss, nats = training_loss(self.model, batch)
        (loss if weight == 1.0 else loss * weight).backward()
        return float(nats.sum(dtype=torch.float64))

    def add_gradients(self, parts: Sequence[Batch]) -> float:
        """`add_gradient` of one batch that was cut into parts; their summed nats."""
        return sum(
            self.add_gradient(part, share)
            for part, share in zip(parts, _shares(parts), strict=True)
        )

    def sgd_step(
        self, batch: Batch, lr: float, max_grad_norm: float, proximal_mu: float, start: Tensor
    ) -> float:
        """values -= lr (gradient + proximal_mu (values - start)); the batch's summed nats.

        The gradient is scaled down to an l2 norm of at most `max_grad_norm`; 0 is no bound.
        """
        self.gradients.zero_()
        nats = self.add_gradient(batch)
        if max_grad_norm:
            norm = torch.linalg.vector_norm(self.gradients)
            self.gradients.mul_((max_grad_norm / norm).clamp(max=1.0))
        if proximal_mu:
            self.gradients.add_(self.values - start, alpha=proximal_mu)
        self.values.add_(self.gradients, alpha=-lr)
        return nats

    def norm(self, update: Tensor) -> float:
        """The l2 norm, in float64."""
        return float(torch.linalg.vector_norm(update, dtype=torch.float64))

    def add_multiples(self, total: Tensor, update: Tensor, scale: float) -> None:
        """Add `updates.multiples` of the update to `total`."""
        total.add_(multiples(update, scale))


class NativeModel(FlatModel):
    """The same steps in C, equal up to rounding. Raises `Unavailable` where there is none."""

    threads_each = 1
    parts = 2

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model, torch.device("cpu"))
        shape = model.native_shape()
        if shape is None:
            raise Unavailable(_NO_SHAPE)
        self._shape = shape
        self._trainer = Trainer(*shape)
        self._others: list[tuple[Trainer, Tensor]] = []  # with a gradient each, see add_gradients
        assert self._trainer.size == self.layout.size, "the kernel has another model in mind"

    def add_gradient(self, batch: Batch, weight: float = 1.0) -> float:
        """See `FlatModel.add_gradient`."""
        return self._trainer.gradient(
            self.values, batch, self._masks(batch), weight, self.gradients
        )

    def add_gradients(self, parts: Sequence[Batch]) -> float:
        """See `FlatModel.add_gradients`; C holds no lock, so each part has a core of its own.

        Gradients are added in the order of the parts, whichever was ready first.
        """
        while len(self._others) < len(parts) - 1:
            gradients = _zeros(self.layout.size, self.device)
            self._others.append((Trainer(*self._shape), gradients))
        masks = [self._masks(part) for part in parts]  # in their order, from one generator
        for _, gradients in self._others:
            gradients.zero_()
        workers = [(self._trainer, self.gradients), *self._others]

        def work(place: int) -> float:
            trainer, gradients = workers[place]
            share = _shares(parts)[place]
            return trainer.gradient(self.values, parts[place], masks[place], share, gradients)

        with ThreadPoolExecutor(len(parts)) as pool:
            nats = sum(pool.map(work, range(len(parts))))
        for _, gradients in self._others[: len(parts) - 1]:
            self.gradients.add_(gradients)
        return nats

    def sgd_step(
        self, batch: Batch, lr: float, max_grad_norm: float, proximal_mu: float, start: Tensor
    ) -> float:
        """See `FlatModel.sgd_step`; leaves `gradients` alone."""
        return self._trainer.step(
            self.values, batch, self._masks(batch), lr, max_grad_norm, proximal_mu, start
        )

    def private_step(self, batch: Batch, how: PrivateStep) -> tuple[float, Tensor]:
        """As `clients.private.OpacusModel.private_step`, from ghost norms."""
        return self._trainer.private_step(self.values, batch, self._masks(batch), how)

    def norm(self, update: Tensor) -> float:
        """See `FlatModel.norm`."""
        return l2_norm(update)

    def add_multiples(self, total: Tensor, update: Tensor, scale: float) -> None:
        """See `FlatModel.add_multiples`."""
        add_scaled(total, update, scale)

    def _masks(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Dropout of the embeddings and of the recurrence's output, drawn as `hidden` draws it."""
        dropout = self.model.dropout
        if not self.model.training or dropout.p == 0.0:
            return None
        first, second = (dropout(torch.ones(len(batch), w)) for w in self._trainer.mask_widths)
        return first, second


def _shares(parts: Sequence[Batch]) -> list[float]:
    """Of the parts' sequences, those of each."""
    whole = sum(part.n_sequences for part in parts)
    return [part.n_sequences / whole for part in parts]


def _zeros(size: int, device: torch.device) -> Tensor:
    """On the CPU NumPy's, which asks for large pages where there are some."""
    return torch.from_numpy(np.zeros(size, np.float32)).to(device)


_NO_SHAPE = "it has no such model"


def resolve_kernel(name: str, options: ModelOptions, device: torch.device) -> tuple[str, str]:
    """("native" or "torch", why not native): 'auto' is native wherever that works.

    Raises FedsimError where 'native' is asked for and cannot be had.
    """
    if name == "torch":
        return "torch", "engine.kernel = 'torch'"
    reason = ""
    if device.type != "cpu":
        reason = f"it does not run on {device.type}"
    elif options.module(N_SPECIALS + 1).native_shape() is None:
        reason = _NO_SHAPE
    else:
        try:
            functions()
        except Unavailable as error:
            reason = str(error)
    if reason and name == "native":
        raise FedsimError(
            f"engine.kernel = 'native' cannot be used here ({reason}); mend that, or begin a run "
            "with engine.kernel=torch."
        )
    return ("torch" if reason else "native"), reason


def flat_model(model: LanguageModel, device: torch.device, kernel: str) -> FlatModel:
    """The model for a kernel that `resolve_kernel` named."""
    return NativeModel(model) if kernel == "native" else FlatModel(model, device)
