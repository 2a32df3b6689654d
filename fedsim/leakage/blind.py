"""Attackers that cannot know who was trained on: what they find is a flaw of the comparison.

Members and non-members should differ by training alone. An untrained model, and a classifier that
sees the words and no model at all, must come out at an AUC of one half (Meeus et al. 2024; Das et
al. 2024 beat published attacks so).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit

from fedsim.data.sequences import Sequences
from fedsim.leakage.base import Subject
from fedsim.models.base import LanguageModel, build, initialise
from fedsim.seeding import torch_stream

FOLDS = 5
RIDGE = 1.0


def untrained(subject: Subject) -> LanguageModel:
    """A model of the subject's architecture as it is before round 1, of another draw."""
    options = subject.config.model.options
    model = build(options, subject.model.vocabulary_size, subject.model.device)
    initialise(model, options, torch_stream(subject.seed, "untrained model"))
    return model.eval()


def bag_of_words(text: Sequences, vocabulary_size: int, rows: np.ndarray) -> csr_array:
    """Word counts scaled to length 1, (n, V); rows (sentences,): to which row a sentence adds."""
    shape = (int(rows.max(initial=-1)) + 1, vocabulary_size)
    ones = np.ones(len(text.tokens))
    counts = csr_array((ones, (np.repeat(rows, text.lengths), text.tokens)), shape=shape)
    counts.sum_duplicates()
    length = np.sqrt(counts.multiply(counts).sum(axis=1))
    counts.data /= np.repeat(np.maximum(length, 1e-12), np.diff(counts.indptr))
    return counts


def out_of_fold(
    features: csr_array, member: np.ndarray, users: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Log odds of membership of each row from a logistic model that never saw its user.

    features (n, V); member bool (n,); users (n,). Every fold has its share of both groups' users,
    and both groups weigh the same, or a fold's own lack of members would speak of it.
    """
    fold = folds_by_user(member, users, rng)
    out = np.zeros(len(member))
    for i in range(FOLDS):
        held = fold == i
        coefficients, intercept = logistic(features[~held], member[~held])
        out[held] = features[held] @ coefficients + intercept
    return out


def folds_by_user(member: np.ndarray, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fold of each row, int64 (n,): that of its user; each group's users are dealt in turn."""
    fold = np.empty(len(users), np.int64)
    for group in (member, ~member):
        names, place = np.unique(users[group], return_inverse=True)
        fold[group] = (rng.permutation(len(names)) % FOLDS)[place]
    return fold


def logistic(
    features: csr_array, positive: np.ndarray, ridge: float = RIDGE
) -> tuple[np.ndarray, float]:
    """(coefficients (V,), intercept) that minimise the weighted logistic loss + ridge/2 |c|^2.

    Both classes weigh half of the rows; the intercept is not shrunk.
    """
    n, signs = len(positive), np.where(positive, 1.0, -1.0)
    sizes = np.where(positive, positive.sum(), (~positive).sum())
    weights = n / (2.0 * np.maximum(sizes, 1))
    transposed = features.T.tocsr()

    def objective(at: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (features @ at[:-1] + at[-1])
        slopes = -weights * signs * expit(-margins)
        value = weights @ np.logaddexp(0.0, -margins) + ridge / 2 * at[:-1] @ at[:-1]
        return float(value), np.append(transposed @ slopes + ridge * at[:-1], slopes.sum())

    start = np.zeros(features.shape[1] + 1)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return found.x[:-1], float(found.x[-1])
