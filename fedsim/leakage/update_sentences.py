"""Whole sentences from one update: a search over prefixes, each held against the update.

What the update allows at each step is `Evidence`, one class for each family of models. The prefixes
that it allows become sentences where their own gradients add up to the update: gradients of
sentences add, so that their multiplicities are the solution of a linear system.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import nnls

from fedsim.leakage import row_space
from fedsim.models.base import LanguageModel
from fedsim.models.batch import Batch
from fedsim.models.loss import training_loss
from fedsim.parameters import Parameters

Sentence = tuple[int, ...]

FULL = "not recoverable: as many states as dimensions"

# True prefixes are linearly independent, so there are no more than dimensions; coincidences may
# double them. Beyond, the row space tells too little and the search would go on without end.
PREFIXES_A_DIMENSION = 4
STRICTNESS = (1.0, 10.0, 100.0)  # the tolerance is divided by these in turn, while too many fit
SHORT = 3  # words of a sentence that may well be the beginning of another one
COORDINATES = 4096  # of the gradient that the linear system looks at: many times its unknowns
EXPLAINED = 1e-3  # of the update's length may be left where it is the sum of the sentences


@dataclass(frozen=True)
class Recovered:
    """What a search gave; `failure` says why it gave nothing, or stopped.

    sentences: with repeats, as often as the client has them.
    explained: whether their gradients add up to the update, so that the server itself can be sure.
    """

    sentences: list[Sentence]
    rank: int
    dimension: int
    explained: bool = False
    failure: str = ""


@dataclass(frozen=True)
class Frontier:
    """Prefixes of one length that the update allows, and what their continuation needs.

    words (n, t); parents (n,): positions in the frontier before.
    """

    words: np.ndarray
    parents: np.ndarray
    state: tuple[torch.Tensor, ...]


class Evidence(ABC):
    """What an update says about which prefixes are in the client's text.

    rank, dimension: of the row space; at rank = dimension there is no evidence.
    """

    # Parameters whose gradients hold it, the linear system's coordinates too.
    parts: ClassVar[tuple[str, ...]]
    rank: int
    dimension: int

    def __init__(
        self, model: LanguageModel, update: Parameters, gradient: bool, noise: float
    ) -> None:
        """gradient: whether the update is one, and not the difference of two models. noise: its
        deviation in a coordinate."""
        self.model = model
        self.named = dict(update.items())
        start = dict(model.named_parameters())
        values = [start[name].detach().cpu().numpy().ravel() for name in self.parts]
        rounding = 0.0 if gradient else row_space.rounding_of(np.concatenate(values))
        self.error = max(rounding, noise)

    @abstractmethod
    def begin(self) -> Frontier:
        """The empty prefix."""

    @abstractmethod
    def grow(self, frontier: Frontier, strictness: float) -> Frontier:
        """All prefixes one word longer that the update allows; see `RowSpace.holds`."""


def recover(evidence: Evidence, count: int, most_words: int) -> Recovered:
    """The sentences of a client that holds `count` of them, of at most `most_words` words."""
    rank, dimension = evidence.rank, evidence.dimension
    if rank >= dimension:
        failure = FULL
        return Recovered([], rank, dimension, failure=failure)
    for strictness in STRICTNESS:
        tree = allowed(evidence, most_words, strictness)
        if tree is not None:
            return _chosen(evidence, *tree, count)
    return Recovered([], rank, dimension, failure="too many prefixes fit: the search stopped")


def _chosen(
    evidence: Evidence, prefixes: list[Sentence], ends: list[Sentence], count: int
) -> Recovered:
    """Mostly only the prefixes that nothing continues are sentences. Where those do not explain the
    update, the short ones may be too ("ok" beside "ok then"), and at last any. If they do not
    either, it is not the gradient at this model."""
    short = [s for s in prefixes if len(s) <= SHORT]
    gradients: dict[Sentence, np.ndarray] = {}
    first: list[Sentence] | None = None
    for candidates in (ends, [*ends, *short], prefixes):
        found, explained = combination(evidence, list(dict.fromkeys(candidates)), count, gradients)
        if explained:
            break
        first = found if first is None else first
    else:
        found = first or []
    return Recovered(found, evidence.rank, evidence.dimension, explained)


def allowed(
    evidence: Evidence, most_words: int, strictness: float
) -> tuple[list[Sentence], list[Sentence]] | None:
    """(all prefixes that the update allows, those of them that nothing continues).

    None where there are so many that most must be coincidences.
    """
    frontier = evidence.begin()
    prefixes: list[Sentence] = []
    ends: list[Sentence] = []
    for _ in range(most_words):
        longer = evidence.grow(frontier, strictness)
        continued = set(longer.parents.tolist())
        ends += [s for i, s in enumerate(_rows(frontier)) if s and i not in continued]
        prefixes += _rows(longer)
        if len(prefixes) > PREFIXES_A_DIMENSION * evidence.dimension:
            return None
        frontier = longer
        if not len(longer.words):
            break
    return prefixes, ends + _rows(frontier)


def _rows(frontier: Frontier) -> list[Sentence]:
    return [tuple(int(w) for w in row) for row in frontier.words]


def combination(
    evidence: Evidence,
    candidates: Sequence[Sentence],
    count: int,
    gradients: dict[Sentence, np.ndarray],
) -> tuple[list[Sentence], bool]:
    """The candidates, with repeats, of which the update is the sum, and whether it is.

    gradients: those that are known already; new ones are added.

    Non-negative least squares of the update by the candidates' updates, scaled to `count` in all,
    since a client that clips, or takes a step, sends a multiple of the gradient.
    """
    if not candidates:
        return [], False
    sent = np.concatenate([evidence.named[name].ravel() for name in evidence.parts])
    step = -(-len(sent) // COORDINATES)
    target = sent[::step].astype(np.float64)
    for s in candidates:
        if s not in gradients:
            gradients[s] = gradient(evidence.model, s, evidence.parts)[::step].copy()
    weights, left = nnls(-np.stack([gradients[s] for s in candidates], axis=1), target)
    if not weights.any():
        return [], False
    times = np.round(weights / weights.sum() * count).astype(int)
    found = [s for s, m in zip(candidates, times, strict=True) for _ in range(m)]
    return found, bool(left < EXPLAINED * np.linalg.norm(target))


def gradient(model: LanguageModel, sentence: Sentence, parts: Sequence[str]) -> np.ndarray:
    """One sentence's own gradient of the named parameters, float64 (n,)."""
    tokens = np.array(sentence, np.int32)
    batch = Batch.of(tokens, np.array([0, len(tokens)]), device=model.device)
    chosen = dict(model.named_parameters())
    loss, _ = training_loss(model, batch)
    found = torch.autograd.grad(loss, [chosen[name] for name in parts])
    return torch.cat([g.flatten() for g in found]).double().cpu().numpy()
