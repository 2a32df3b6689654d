"""The networks as a researcher writes them in PyTorch, with fedsim's parameters put into them.

Padded batches, `nn.LSTM` where there is one, a loop over time where there is not,
`scaled_dot_product_attention`. Parameters have fedsim's names, but for the LSTM's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from speed.work_order import PAD, WorkOrder

# fedsim has the gates output, input, forget, candidate; nn.LSTM input, forget, candidate, output.
_TO_TORCH, _FROM_TORCH = [1, 2, 3, 0], [3, 0, 1, 2]
_GATED = {
    "input.weight": "lstm.weight_ih_l0",
    "input.bias": "lstm.bias_ih_l0",
    "recurrent.weight": "lstm.weight_hh_l0",
}
_SECOND_BIAS = "lstm.bias_hh_l0"


def without_padding(tokens: Tensor) -> Tensor:
    """(B, T) -> (B, longest of the batch)."""
    return tokens[:, : int((tokens != PAD).any(0).sum())]


class Lstm(nn.Module):
    """Embedding, LSTM, dense to the embedding's width, untied output."""

    def __init__(self, vocabulary: int, hidden: int, embedding: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.dense = nn.Linear(hidden, embedding)
        self.output = nn.Linear(embedding, vocabulary)
        # fedsim has one bias a gate. A second one that learns would double its learning rate.
        nn.init.zeros_(self.lstm.bias_hh_l0)
        self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, longest, V) logits."""
        h, _ = self.lstm(self.embedding(without_padding(tokens)))
        return self.output(self.dense(h))


class Cifg(nn.Module):
    """Embedding, LSTM with coupled gates and a recurrent projection, tied output."""

    def __init__(self, vocabulary: int, hidden: int, embedding: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.input = nn.Linear(embedding, 3 * hidden)
        self.recurrent = nn.Linear(embedding, 3 * hidden, bias=False)
        self.projection = nn.Linear(hidden, embedding, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, longest, V) logits."""
        gates = self.input(self.embedding(without_padding(tokens)))  # one product for all steps
        cell = gates.new_zeros(len(tokens), self.projection.in_features)
        r = gates.new_zeros(len(tokens), self.projection.out_features)
        outputs = []
        for gate in gates.unbind(1):
            o, f, z = (gate + self.recurrent(r)).chunk(3, 1)
            keep = torch.sigmoid(f)
            cell = keep * cell + (1 - keep) * torch.tanh(z)
            r = self.projection(torch.sigmoid(o) * torch.tanh(cell))
            outputs.append(r)
        return functional.linear(torch.stack(outputs, 1), self.embedding.weight)


class Block(nn.Module):
    """Pre-LN attention and MLP."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        y = self.attention_norm(x)
        q, k, v = (
            linear(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(attended.transpose(1, 2).flatten(2))
        return x + self.contract(functional.gelu(self.expand(self.mlp_norm(x))))


class Transformer(nn.Module):
    """Learned positions, pre-LN blocks, tied output."""

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        layers: int,
        heads: int,
        feedforward: int,
        max_length: int,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.position = nn.Embedding(max_length, embedding)
        self.blocks = nn.ModuleList(Block(embedding, heads, feedforward) for _ in range(layers))
        self.norm = nn.LayerNorm(embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, longest, V) logits; no sentence is longer than `max_length`."""
        tokens = without_padding(tokens)
        x = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x), self.embedding.weight)


_FAMILIES = {"lstm": Lstm, "cifg": Cifg, "transformer": Transformer}


def build(work: WorkOrder) -> nn.Module:
    """The work order's network with its initial parameters."""
    model = _FAMILIES[work.about.family](work.about.vocabulary, **work.about.sizes)
    arrays = {}
    for name, array in work.parameters.items():
        if isinstance(model, Lstm) and name in _GATED:
            arrays[_GATED[name]] = _gates(array, _TO_TORCH)
        else:
            arrays[name] = array
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if own.keys() != arrays.keys():
        raise ValueError(f"other parameters: {sorted(own.keys() ^ arrays.keys())}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(torch.from_numpy(arrays[name]))
    return model


def named_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """The parameters under fedsim's names and in its layout."""
    return fedsim_arrays({name: p.detach().numpy() for name, p in model.named_parameters()})


def fedsim_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of one of these networks, as in its state, under fedsim's names."""
    ours = {theirs: name for name, theirs in _GATED.items()}
    return {
        ours.get(name, name): _gates(array, _FROM_TORCH) if name in ours else array.copy()
        for name, array in arrays.items()
        if name != _SECOND_BIAS
    }


def _gates(array: np.ndarray, order: list[int]) -> np.ndarray:
    """The four blocks of rows in another order."""
    return np.concatenate([np.split(array, 4)[gate] for gate in order])


def sentence_loss(logits: Tensor, targets: Tensor, nominal_tokens: float) -> Tensor:
    """fedsim's objective: summed nats of a sentence over a constant, mean over the batch."""
    targets = targets[:, : logits.shape[1]]
    nats = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum"
    )
    return nats / (nominal_tokens * len(targets))
