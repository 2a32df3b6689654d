"""A small causal transformer, pre-LN (Xiong et al. 2020, arXiv:2002.04745), tied output."""

from __future__ import annotations

import math
from typing import cast

import torch
from pydantic import model_validator
from torch import Tensor, nn

from fedsim.models.base import (
    MODELS,
    LanguageModel,
    ModelOptions,
    Positive,
    Probability,
    State,
    fill_uniform,
    shapes_only,
)
from fedsim.models.batch import Batch
from fedsim.models.dropout import Dropout


@MODELS.register("transformer")
class TransformerOptions(ModelOptions):
    """Four layers of 128; a word beyond `max_length` has the last position's embedding."""

    embedding: Positive = 128
    layers: Positive = 4
    heads: Positive = 4
    feedforward: Positive = 512
    max_length: Positive = 64
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> TransformerOptions:
        if self.embedding % self.heads:
            raise ValueError(f"embedding={self.embedding} is no multiple of heads={self.heads}")
        return self

    def module(self, vocabulary_size: int) -> Transformer:
        """See `ModelOptions.module`."""
        return Transformer(self, vocabulary_size)


@MODELS.register("transformer-small")
class TransformerSmallOptions(TransformerOptions):
    """For quick runs."""

    embedding: Positive = 64
    layers: Positive = 2
    feedforward: Positive = 256


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x), with GELU; on rows of any leading shape."""

    def __init__(self, options: TransformerOptions) -> None:
        super().__init__()
        width = options.embedding
        self.heads = options.heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        # A key bias would add the same to all of a query's scores and never get a gradient.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, options.feedforward)
        self.contract = nn.Linear(options.feedforward, width)
        self.dropout = Dropout(options.dropout)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, heads, T, E / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, batch: Batch | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E); with a batch, its packed rows (N, E) -> (N, E).

        All but the attention is done row by row, so packed rows save the padding's share.
        """
        y = self.attention_norm(x)
        projected = self.query(y), self.key(y), self.value(y)
        q, k, v = (self.split(p if batch is None else batch.pad(p)) for p in projected)
        # Pads are at the end, so a causal mask keeps them from every real position.
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        attended = attended.transpose(1, 2).flatten(2)
        x = x + self.dropout(self.mix(attended if batch is None else batch.unpad(attended)))
        inner = nn.functional.gelu(self.expand(self.mlp_norm(x)))
        return x + self.dropout(self.contract(inner))

    def step(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, E) and the keys and values of earlier positions -> (B, E) and all up to now."""
        y = self.attention_norm(x)[:, None]
        q, k, v = (self.split(linear(y)) for linear in (self.query, self.key, self.value))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.mix(attended.transpose(1, 2).flatten(1))
        return x + self.contract(nn.functional.gelu(self.expand(self.mlp_norm(x)))), k, v


class Transformer(LanguageModel):
    """Learned positions, L pre-LN blocks of width E and inner width F, a last LN, tied output.

    Parameters: E (V + max_length + 2) + L (4 E E + 2 E F + F + 8 E).
    """

    def __init__(self, options: TransformerOptions, vocabulary_size: int) -> None:
        super().__init__(vocabulary_size)
        width = options.embedding
        with shapes_only():
            self.embedding = nn.Embedding(vocabulary_size, width)
            self.position = nn.Embedding(options.max_length, width)
            self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
            self.norm = nn.LayerNorm(width)
            self.output = nn.Linear(width, vocabulary_size, bias=False)
        self.dropout = Dropout(options.dropout)
        self.tie_weights()

    def tie_weights(self) -> None:
        """The output layer is the embedding."""
        self.output.weight = self.embedding.weight

    def initialise(self, generator: torch.Generator) -> None:
        """Scaled uniform; what is added to the residual stream is scaled by 1 / sqrt(2 L)."""
        fill_uniform(self.embedding.weight, generator)
        fill_uniform(self.position.weight, generator, gain=0.2)
        residual = 1.0 / math.sqrt(2 * len(self.blocks))
        with torch.no_grad():
            for name, module in self.named_modules():
                if isinstance(module, nn.LayerNorm):
                    module.weight.fill_(1.0)
                    module.bias.zero_()
                elif isinstance(module, nn.Linear) and module is not self.output:
                    last = name.endswith(("mix", "contract"))
                    fill_uniform(module.weight, generator, gain=residual if last else 1.0)
                    if module.bias is not None:
                        module.bias.zero_()

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        known = positions.clamp(max=self.position.num_embeddings - 1)
        return self.dropout(self.embedding(tokens) + self.position(known))

    def forward(self, tokens: Tensor) -> Tensor:
        """See `LanguageModel.forward`."""
        # Opacus takes the first axis for the batch and wants contiguous ids: privacy.md, 1.1.
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self._embed(tokens, positions.expand(tokens.shape).contiguous())
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))

    def hidden(self, batch: Batch) -> Tensor:
        """See `LanguageModel.hidden`."""
        x = self._embed(batch.inputs, batch.position)
        for block in self.blocks:
            x = block(x, batch)
        return self.norm(x)

    @torch.no_grad()
    def step(self, token: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See `LanguageModel.step`; the state is the keys and the values of the words so far.

        Both are (B, layers, heads, t, E / heads) after t steps.
        """
        n_past = 0 if state is None else state[0].shape[3]
        x = self._embed_one(token, n_past)
        keys, values = [], []
        for layer, block in enumerate(self._blocks()):
            past = None if state is None else (state[0][:, layer], state[1][:, layer])
            x, k, v = block.step(x, past)
            keys.append(k)
            values.append(v)
        return self.output(self.norm(x)), (torch.stack(keys, 1), torch.stack(values, 1))

    def _embed_one(self, token: Tensor, position: int) -> Tensor:
        last = self.position.num_embeddings - 1
        return self.embedding(token) + self.position.weight[min(position, last)]

    def _blocks(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))
