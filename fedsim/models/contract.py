"""Whether a model keeps what `LanguageModel` promises: its three forms agree on two sentences.

Training reads `hidden`, Opacus reads `forward`, the keyboard and the audit read `step`. The tests
hold these together for the models that ship; others are tried when a run begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedsim.errors import FedsimError
from fedsim.models.base import LanguageModel, ModelOptions, State, build
from fedsim.models.batch import Batch
from fedsim.seeding import torch_stream

SHIPPED = ("fedsim.models.cifg", "fedsim.models.lstm", "fedsim.models.transformer")
WORDS = 11  # in the vocabulary of the trial, specials included
_SENTENCES = (np.array([4, 7, 7, 9, 10], np.int32), np.array([0, 3, 5]))  # of 3 and of 2 words
_RTOL, _ATOL = 1e-3, 1e-4  # of single precision: the forms agree up to rounding


def check_agreement(name: str, options: ModelOptions) -> None:
    """Raises FedsimError with the rule that a model which does not ship breaks."""
    if type(options).__module__ not in SHIPPED:
        _Trial(name, options).run()


class _Trial:
    """One model with few words, drawn twice."""

    def __init__(self, name: str, options: ModelOptions) -> None:
        self.name, self.options = name, options
        self.batch = Batch.of(*_SENTENCES)
        self.tokens = self.batch.pad(self.batch.inputs)  # (2, 4), BOS first, PAD at the end

    def run(self) -> None:
        """All rules, those first that others rest on."""
        model, again = self._drawn(), self._drawn()
        if any(not torch.equal(a, b) for a, b in _pairs(model, again)):
            self._fail(
                "initialise", "draws from another source than the generator that it is given"
            )
        model.eval()
        logits = self._try("forward", lambda: model(self.tokens))
        self._shaped("forward", logits, (*self.tokens.shape, WORDS), "(B, T, V) logits")
        self._hidden(model, self.batch.unpad(logits.detach()))
        self._training(model.train())
        self._steps(model.eval(), logits.detach())

    def _drawn(self) -> LanguageModel:
        model = self._try("module", lambda: build(self.options, WORDS))
        if kept := [name for name, _ in model.named_buffers()]:
            self._fail("module", f"keeps the buffer '{kept[0]}', which no message carries: make it "
                       "a parameter, or make it where it is used")  # fmt: skip
        self._try("initialise", lambda: model.initialise(torch_stream(0, "a model's trial")))
        return model

    def _hidden(self, model: LanguageModel, wanted: Tensor) -> None:
        weight, bias = self._try("output", lambda: (model.output_weight, model.output_bias))
        hidden = self._try("hidden", lambda: model.hidden(self.batch))
        due = (len(self.batch), weight.shape[1])
        self._shaped("hidden", hidden, due, "(N, E) rows, the input of the output layer")
        given = nn.functional.linear(hidden, weight, bias)
        if not torch.allclose(given, wanted, _RTOL, _ATOL):
            self._fail("hidden", "gives other scores than `forward`: its rows are packed, first "
                       "the first word of every sentence, see `Batch`")  # fmt: skip

    def _training(self, model: LanguageModel) -> None:
        """In training mode, where dropout draws."""
        before, outputs = torch.get_rng_state(), []
        for _ in range(2):
            model.dropout_generator = torch_stream(0, "a model's trial of dropout")
            outputs.append(self._try("hidden", lambda: model.hidden(self.batch)))
        drawn = torch.equal(before, torch.get_rng_state())
        if not drawn or not torch.equal(outputs[0], outputs[1]):
            self._fail("hidden", "draws from PyTorch's global generator while it trains, so no run "
                       "could be repeated: use `fedsim.models.dropout.Dropout`")  # fmt: skip

    def _steps(self, model: LanguageModel, wanted: Tensor) -> None:
        """Word by word, once as it is typed and once with the sentences' places exchanged, as the
        search for the likeliest sentences does it."""
        for exchanged in (False, True):
            state: State | None = None
            order = torch.tensor([0, 1])
            for place in range(3):  # as long as both have words
                kept = None if state is None else tuple(part.clone() for part in state)
                token = self.tokens[order, place]
                logits, after = self._stepped(model, token, state)
                if kept and not all(map(torch.equal, kept, state or ())):
                    self._fail("step", "changes the state that it is given: make a new one, since "
                               "one state is continued with many words")  # fmt: skip
                if not torch.allclose(logits, wanted[order, place], _RTOL, _ATOL):
                    self._fail("step", _ON_STATES if exchanged else "gives other scores than "
                               "`forward` does for the same words")  # fmt: skip
                state = after
                if exchanged:
                    order = order.flip(0)
                    state = tuple(part[[1, 0]] for part in state)

    def _stepped(
        self, model: LanguageModel, token: Tensor, state: State | None
    ) -> tuple[Tensor, State]:
        found = self._try("step", lambda: model.step(token, state))
        if not isinstance(found, tuple) or len(found) != 2:
            self._fail("step", "returns no pair of logits and state")
        logits, after = found
        self._shaped("step", logits, (len(token), WORDS), "(B, V) logits")
        if logits.requires_grad:
            self._fail("step", "keeps a gradient: put `@torch.no_grad()` above it")
        if not isinstance(after, tuple) or not all(isinstance(part, Tensor) for part in after):
            self._fail("step", "returns a state that is no tuple of tensors")
        if any(part.dim() == 0 or part.shape[0] != len(token) for part in after):
            self._fail("step", _ON_STATES)
        return logits, after

    def _try(self, form: str, does: Callable[[], Any]) -> Any:
        """What somebody else's code returns; what it raises becomes a sentence."""
        try:
            return does()
        except FedsimError:
            raise
        except Exception as error:
            said = str(error).strip().split("\n")[0]
            raise FedsimError(
                f"The model '{self.name}' cannot be used: its `{form}` fails on two short "
                f"sentences with {type(error).__name__} ({said}); see docs/extending.md."
            ) from error

    def _shaped(self, form: str, found: Any, shape: tuple[int, ...], meaning: str) -> None:
        if not isinstance(found, Tensor) or tuple(found.shape) != shape:
            have = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            self._fail(form, f"returns {have} where {meaning}, here {shape}, are due")

    def _fail(self, form: str, rule: str) -> None:
        raise FedsimError(
            f"The model '{self.name}' cannot be used: its `{form}` {rule} (docs/extending.md)."
        )


_ON_STATES = (
    "breaks the rule on states: every tensor of a state has the sentences in its first dimension, "
    "by which they are chosen and reordered; torch's recurrent layers have the layers first, so "
    "transpose(0, 1) on the way out and in"
)


def _pairs(a: nn.Module, b: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return list(zip(a.parameters(), b.parameters(), strict=True))
