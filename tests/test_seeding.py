"""Random streams: functions of (seed, purpose, round, user), independent of each other."""

from __future__ import annotations

import itertools
import random

import numpy as np
import torch
from scipy import stats

from fedsim.seeding import stream, torch_stream

KEYS = [
    (seed, purpose, round, user)
    for seed in (0, 1, 11)
    for purpose in ("cohort", "batches", "dropout")
    for round in (0, 1, 11)
    for user in (0, 1, 11)
]


def test_a_stream_is_a_function_of_its_key_alone() -> None:
    first = {key: stream(*key).random(4) for key in KEYS}
    torch.manual_seed(3)
    random.seed(3)
    for key in reversed(KEYS):
        assert np.array_equal(stream(*key).random(4), first[key])
        ours = torch.rand(4, generator=torch_stream(*key))
        torch.rand(7)
        assert torch.equal(torch.rand(4, generator=torch_stream(*key)), ours)


def test_streams_of_different_keys_differ() -> None:
    # (1, 11) and (11, 1) must not meet, whichever two numbers of a key are swapped.
    draws = {key: stream(*key).integers(2**63) for key in KEYS}
    assert len(set(draws.values())) == len(KEYS)
    tensors = {key: tuple(torch.rand(2, generator=torch_stream(*key)).tolist()) for key in KEYS}
    assert len(set(tensors.values())) == len(KEYS)


def test_first_draws_over_users_and_rounds_are_uniform_and_uncorrelated() -> None:
    draws = np.array([[stream(1, "x", r, u).random() for u in range(40)] for r in range(40)])
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 0.001
    for a, b in itertools.pairwise(range(5)):
        assert stats.pearsonr(draws[a], draws[b]).pvalue > 0.001
        assert stats.pearsonr(draws[:, a], draws[:, b]).pvalue > 0.001


def test_values_that_results_of_others_depend_on() -> None:
    """The streams are part of a run's identity: if these change, so does every published number."""
    import hashlib

    key = int.from_bytes(hashlib.sha256(b"1/cohort/2/3").digest()[:16], "little")
    expected = np.random.Generator(np.random.PCG64(key)).random(3)
    assert np.array_equal(stream(1, "cohort", 2, 3).random(3), expected)


def test_drawing_leaves_the_global_generators_alone() -> None:
    random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), torch.get_rng_state()
    stream(1, "x").random(10)
    torch.rand(10, generator=torch_stream(1, "x"))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
