"""A model of one's own keeps the rules, or is told which one it breaks before a run begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import server.app
from clients import private_contract
from clients.private_contract import check_private
from fedsim.config import Config, Named
from fedsim.errors import FedsimError
from fedsim.federation import open_federation
from fedsim.models import MODELS, build, contract
from fedsim.models.base import (
    LanguageModel,
    ModelOptions,
    State,
    fill_uniform,
    initialise,
    shapes_only,
)
from fedsim.models.batch import Batch
from fedsim.models.contract import check_agreement
from fedsim.models.dropout import Dropout
from fedsim.seeding import torch_stream
from fedsim.simulation import simulate
from fedsim.studies.audit import audit_run

# Opacus' own hooks set this off: our models take token ids, which have no gradient.
pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing")

NAME = "gru"


class Gru(LanguageModel):
    """PyTorch's own layer, as somebody who read docs/extending.md would write it."""

    def __init__(self, options: Any, vocabulary_size: int) -> None:
        super().__init__(vocabulary_size)
        width = options.width
        with shapes_only():
            self.embedding = nn.Embedding(vocabulary_size, width)
            self.recurrence = nn.GRU(width, width, num_layers=options.layers, batch_first=True)
            self.output = nn.Linear(width, vocabulary_size)
        self.dropout: Any = Dropout(options.dropout)

    def initialise(self, generator: torch.Generator) -> None:
        """Scaled uniform, biases zero."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_() if parameter.dim() == 1 else fill_uniform(parameter, generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LanguageModel.forward`."""
        return self.output(self.dropout(self.recurrence(self.embedding(tokens))[0]))

    def hidden(self, batch: Batch) -> Tensor:
        """See `LanguageModel.hidden`."""
        rows = self.recurrence(self.embedding(batch.pad(batch.inputs)))[0]
        return self.dropout(batch.unpad(rows))

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See `LanguageModel.step`; the state is (B, layers, H)."""
        before = None if state is None else state[0].transpose(0, 1).contiguous()
        out, after = self.recurrence(self.embedding(token)[:, None], before)
        return self.output(out[:, 0]), (after.transpose(0, 1),)


class LayersFirst(Gru):
    """Its state is what PyTorch returns."""

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """As the layer gives it."""
        before = None if state is None else state[0]
        out, after = self.recurrence(self.embedding(token)[:, None], before)
        return self.output(out[:, 0]), (after,)


class Forgetful(Gru):
    """Typing ignores the words before."""

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Of the last word alone."""
        return super().step(token)


class Bare(Gru):
    """A state that is no tuple."""

    @torch.no_grad()
    def step(self, token: Tensor, state: Any = None) -> Any:
        """The tensor."""
        logits, (after,) = super().step(token, None if state is None else (state,))
        return logits, after


class InPlace(Gru):
    """Writes into the state it is given."""

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The new state in the old one's place."""
        logits, after = super().step(token, state)
        if state is None:
            return logits, after
        state[0].copy_(after[0])
        return logits, state


class WithGradient(Gru):
    """Typing is recorded for a gradient."""

    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Without `no_grad`."""
        out, after = self.recurrence(self.embedding(token)[:, None])
        return self.output(out[:, 0]), (after.transpose(0, 1),)


class Unpacked(Gru):
    """Rows sentence by sentence."""

    def hidden(self, batch: Batch) -> Tensor:
        """In another order."""
        rows = self.recurrence(self.embedding(batch.pad(batch.inputs)))[0]
        return torch.cat([rows[0, :4], rows[1, :3]])


class TorchDropout(Gru):
    """PyTorch's dropout, which draws from the global generator."""

    def __init__(self, options: Any, vocabulary_size: int) -> None:
        super().__init__(options, vocabulary_size)
        self.dropout = nn.Dropout(0.5)


class Unseeded(Gru):
    """Drawn from the global generator."""

    def initialise(self, generator: torch.Generator) -> None:
        """By the layers themselves."""
        for parameter in self.parameters():
            nn.init.normal_(parameter)


class Buffered(Gru):
    """Keeps something that no message carries."""

    def __init__(self, options: Any, vocabulary_size: int) -> None:
        super().__init__(options, vocabulary_size)
        self.register_buffer("mean", torch.zeros(3))


class Broken(Gru):
    """Raises."""

    def hidden(self, batch: Batch) -> Tensor:
        """A mistyped name."""
        return self.embeding(batch.inputs)  # type: ignore[no-any-return, operator]


class GruOptions(ModelOptions):
    """E numbers a word; made: the class that is tried."""

    made: ClassVar[type[Gru]] = Gru
    width: int = 6
    layers: int = 1
    dropout: float = 0.0

    def module(self, vocabulary_size: int) -> Gru:
        """See `ModelOptions.module`."""
        return self.made(self, vocabulary_size)


def options(made: type[Gru], **values: Any) -> ModelOptions:
    """Of one of the models above."""
    return type("Options", (GruOptions,), {"made": made, "__module__": __name__})(**values)


@pytest.fixture
def gru(config: Config) -> Iterator[Config]:
    """The tiny config with the GRU, which is registered meanwhile."""
    MODELS.register(NAME)(GruOptions)
    yield replace(config, model=Named(NAME, GruOptions()))
    del MODELS._things[NAME]


@pytest.mark.parametrize("values", [{}, {"layers": 2}, {"dropout": 0.3}])
def test_a_model_that_keeps_the_rules_may_run(values: dict[str, Any]) -> None:
    check_agreement(NAME, options(Gru, **values))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_models_that_ship_keep_the_rules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "SHIPPED", ())
    check_agreement(name, MODELS[name]())


BREAKS: list[tuple[type[Gru], dict[str, Any], str]] = [
    (LayersFirst, {}, "the sentences in its first dimension"),
    (LayersFirst, {"layers": 2}, "the sentences in its first dimension"),  # as many as sentences
    (Forgetful, {}, "`step` gives other scores than `forward`"),
    (Bare, {}, "no tuple of tensors"),
    (InPlace, {}, "changes the state that it is given"),
    (WithGradient, {}, "no_grad"),
    (Unpacked, {}, "`hidden` gives other scores than `forward`"),
    (TorchDropout, {}, "fedsim.models.dropout.Dropout"),
    (Unseeded, {}, "another source than the generator"),
    (Buffered, {}, "buffer 'mean'"),
    (Broken, {}, "its `hidden` fails on two short sentences with AttributeError"),
]


@pytest.mark.parametrize(
    ("made", "values", "said"), BREAKS, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_rule_that_is_broken_is_named(made: type[Gru], values: dict[str, Any], said: str) -> None:
    with pytest.raises(FedsimError) as caught:
        check_agreement(NAME, options(made, **values))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"The model '{NAME}' cannot be used: ")
    assert "\n" not in str(caught.value)
    assert "docs/extending.md" in str(caught.value)


class Linear(Gru):
    """The last word alone, of layers that Opacus knows."""

    def __init__(self, options: Any, vocabulary_size: int) -> None:
        super().__init__(options, vocabulary_size)
        with shapes_only():
            self.recurrence = nn.Linear(options.width, options.width)  # type: ignore[assignment]

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LanguageModel.forward`."""
        return self.output(self.recurrence(self.embedding(tokens)))


class Positioned(Linear):
    """Learned positions without an axis for the sequences, which Opacus takes for the batch."""

    def __init__(self, options: Any, vocabulary_size: int) -> None:
        super().__init__(options, vocabulary_size)
        with shapes_only():
            self.position = nn.Embedding(8, options.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """One row of positions, added to every sequence."""
        places = self.position(torch.arange(tokens.shape[1]))
        return self.output(self.recurrence(self.embedding(tokens) + places))


def test_dp_sgd_takes_a_model_whose_sequences_have_their_own_gradients() -> None:
    check_private(NAME, options(Linear))


@pytest.mark.parametrize("made", [Gru, Positioned])
def test_dp_sgd_refuses_what_it_could_not_bound(made: type[Gru]) -> None:
    with pytest.raises(FedsimError, match="'dp-sgd' cannot train the model 'gru'"):
        check_private(NAME, options(made))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_dp_sgd_takes_the_models_that_ship(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_contract, "SHIPPED", ())
    check_private(name, MODELS[name]())


def test_a_run_begins_with_the_trial_and_leaves_nothing_where_it_fails(
    gru: Config, tmp_path: Path
) -> None:
    wrong = replace(gru, model=Named(NAME, options(LayersFirst)))
    with pytest.raises(FedsimError, match="first dimension"):
        simulate(wrong, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_pytorchs_own_gru_trains_and_is_audited(gru: Config, tmp_path: Path) -> None:
    run = simulate(gru, tmp_path / "run", quiet=True)
    assert run.rounds.train_loss_nats_per_token.iloc[-1] > 0
    (done,) = audit_run(run, ["canaries"])
    assert len(done.table)


def test_every_device_begins_with_the_model_that_the_cpu_draws(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = server.app.initial_state(config, open_federation(config)).parameters
    # No device of another kind is needed: PyTorch's "meta" has shapes only and draws nothing.
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": _cpu_only(device))
    elsewhere = replace(config, engine=config.engine.model_copy(update={"device": "meta"}))
    there = server.app.initial_state(elsewhere, open_federation(elsewhere)).parameters
    assert there.digest() == here.digest()


def test_a_model_that_lives_elsewhere_is_drawn_on_the_cpu(config: Config) -> None:
    model = build(config.model.options, 20, "meta")
    drawn: list[torch.device] = []

    class Watched(type(model)):  # type: ignore[misc]
        def initialise(self, generator: torch.Generator) -> None:
            drawn.extend([self.device, generator.device])

    class WatchedOptions(type(config.model.options)):  # type: ignore[misc]
        def module(self, vocabulary_size: int) -> Any:
            return Watched(self, vocabulary_size)

    initialise(model, WatchedOptions(**config.model.options.model_dump()), torch_stream(1, "init"))
    assert drawn == [torch.device("cpu")] * 2


def _cpu_only(device: Any) -> torch.Generator:
    assert torch.device(device).type == "cpu", "other devices draw other numbers"
    return torch._C.Generator(device)
