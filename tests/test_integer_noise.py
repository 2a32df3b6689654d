"""Noise on the grid: its law to the last integer, and the attack that floating point is open to."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from mpmath import mp
from scipy.stats import chisquare, kstest, norm

from fedsim.models.base import build
from fedsim.models.cifg import CifgSmallOptions
from fedsim.models.flat import FlatModel
from fedsim.parameters import Layout
from fedsim.privacy import integer_noise
from fedsim.privacy.base import Setting
from fedsim.privacy.contributions import Clipped, grid_of
from fedsim.privacy.integer_noise import decided, rounded, rounded_gaussian
from fedsim.privacy.key_stream import KEY_BYTES, KeyStream
from fedsim.privacy.mechanisms import MECHANISMS
from fedsim.privacy.mechanisms.user_level import UserLevel
from fedsim.updates import Aggregate

KEY = bytes(range(KEY_BYTES))


class Given(KeyStream):
    """A stream whose next bits are known."""

    def __init__(self, *words: int) -> None:
        self.left = list(words)

    def bits(self, count: int) -> int:
        assert count == 64
        return self.left.pop(0)


# -- the law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("deviation", [1, 2, 7])
def test_each_integer_has_the_chance_of_the_interval_that_rounds_to_it(deviation: int) -> None:
    count = 300_000
    found = rounded_gaussian(KeyStream(KEY, "law"), count, deviation)
    most = math.ceil(3.5 * deviation)
    edges = np.array([-np.inf, *(np.arange(-most, most) + 0.5), np.inf])
    expected = count * np.diff(norm.cdf(edges / deviation))
    counts = np.bincount(np.clip(found, -most, most) + most, minlength=2 * most + 1)
    assert chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("deviation", [2**27 + 12345, 2**40, 2**48])
def test_a_large_deviation_is_gaussian(deviation: int) -> None:
    found = rounded_gaussian(KeyStream(KEY, "large"), 200_000, deviation)
    assert kstest(found / deviation, "norm").pvalue > 1e-3


def test_all_remainders_come_alike() -> None:
    """No number of the grid is left out: the low bits of the noise are uniform."""
    found = rounded_gaussian(KeyStream(KEY, "low bits"), 256_000, 2**28)
    assert chisquare(np.bincount(found & 255, minlength=256)).pvalue > 1e-3


def test_other_names_have_independent_noise_and_the_same_name_the_same() -> None:
    names = [("noise", 1, 0), ("noise", 2, 0), ("noise", 1, 1), ("count", 1, 0)]
    draws = [rounded_gaussian(KeyStream(KEY, *name), 50_000, 2**28) for name in names]
    assert np.array_equal(draws[0], rounded_gaussian(KeyStream(KEY, *names[0]), 50_000, 2**28))
    correlations = np.corrcoef(draws) - np.eye(len(names))
    assert np.abs(correlations).max() < 5 / np.sqrt(50_000)


@pytest.mark.parametrize("deviation", [0, 2**48 + 1])
def test_a_deviation_that_cannot_be_exact_is_refused(deviation: int) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        rounded_gaussian(KeyStream(KEY, "x"), 3, deviation)


# -- exactness ------------------------------------------------------------------------------------


def test_what_floats_decide_is_what_exact_arithmetic_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = rounded_gaussian(KeyStream(KEY, "fast"), 2_000, 2**28 + 1)
    monkeypatch.setattr(integer_noise, "_DOUBT", 2.0)  # everything is looked at again
    monkeypatch.setattr(integer_noise, "_undecided", lambda x, deviation: np.ones(len(x), bool))
    assert np.array_equal(rounded_gaussian(KeyStream(KEY, "fast"), 2_000, 2**28 + 1), fast)


@pytest.mark.parametrize("k", [0, 1, 3, 9, 14])
def test_the_chances_to_keep_make_the_gaussian(k: int) -> None:
    """Proposals of k times the chance at x are exp(-(k + x)^2 / 2), but for one factor."""
    mp.dps = 50
    factors = []
    for x in (mp.mpf(0), mp.mpf("0.25"), mp.mpf("0.999")):
        chance = mp.exp(mp.mpf(str(integer_noise._LOGS[k])) - x * (2 * k + x) / 2)
        assert chance <= 1
        factors.append(integer_noise._COUNTS[k] * chance / mp.exp(-((k + x) ** 2) / 2))
    common = integer_noise._COUNTS[0] * mp.exp(mp.mpf(str(integer_noise._LOGS[0])))
    assert all(abs(factor / common - 1) < mp.mpf(10) ** -40 for factor in factors)
    assert sum(integer_noise._COUNTS) <= 2**63


def test_more_bits_are_drawn_where_64_do_not_decide() -> None:
    mp.dps = 60
    x = 0x0123456789ABCDEF
    # u begins with the very bits of the chance at x, k = 0, so that the next ones decide.
    chance = mp.exp(mp.mpf(str(integer_noise._LOGS[0])) - (mp.mpf(x) / 2**64) ** 2 / 2)
    u = int(mp.floor(chance * 2**64))
    kept, (longer, bits) = decided(0, x, u, Given(0, 0))
    assert (kept, longer, bits) == (True, x << 64, 128)
    kept, (longer, bits) = decided(0, x, u, Given(2**64 - 1, 2**64 - 1))
    assert (kept, bits) == (False, 128)
    assert decided(integer_noise._WHOLE, 0, 0, Given()) == (False, (0, 64))


def test_rounding_waits_for_the_bits_that_decide_it() -> None:
    """3 x = 1 / 2 lies between two numbers of 64 bits."""
    low = math.floor(Fraction(1, 6) * 2**64)
    assert rounded(0, low, 64, 3, Given(0)) == 0
    assert rounded(0, low, 64, 3, Given(2**64 - 1)) == 1
    assert rounded(0, low + 1, 64, 3, Given()) == 1


def test_products_are_exact() -> None:
    rng = np.random.default_rng(3)
    for deviation in (1, 3, 2**31, 2**32 - 1, 2**32, 2**40 + 7, 2**48):
        x = rng.integers(0, 2**64, 200, dtype=np.uint64)
        whole, rest = integer_noise._times(x, deviation)
        assert [int(w) * 2**64 + int(r) for w, r in zip(whole, rest, strict=True)] == [
            deviation * int(v) for v in x
        ]


# -- the attack -----------------------------------------------------------------------------------

SIZE, COHORT, CLIP, NOISE = 1_000_000, 20, 0.5, 1.0


def released(mechanism: UserLevel, total: np.ndarray) -> np.ndarray:
    """What the mechanism makes of a sum, float32."""
    aggregate = Aggregate(Layout(("all",), ((SIZE,),)), Clipped(CLIP))
    aggregate.total[:] = total
    mean = mechanism.release(aggregate, 1, mechanism.initial_state(SIZE)).mean
    assert mean is not None
    return mean


def impossible(mean: np.ndarray, possible: Callable[[np.ndarray], np.ndarray]) -> int:
    """Coordinates that the mechanism cannot have released: none of the candidates gives them.

    possible: from the mean to candidates of it, (any number, SIZE).
    """
    return int((possible(mean) != mean).all(0).sum())


@pytest.mark.parametrize("name", ["dp-fedavg", "tree"])
def test_no_coordinate_is_impossible_without_a_user(name: str) -> None:
    """What is released lies on the grid, on which every sum is possible with and without a user.

    float32 holds a sum to the step where it is small, which are some fifty thousand coordinates.
    Floating-point noise is the control: some thousand coordinates betray who took part.
    """
    grid = grid_of(CLIP)
    rng = np.random.default_rng(1)
    others = rng.integers(-(2**20), 2**20, SIZE)
    user = (rng.standard_normal(SIZE) * CLIP / 1000 / grid).astype(np.int64)
    setting = Setting(
        KEY, 10**6, COHORT, 4, "poisson" if name == "dp-fedavg" else "cyclic", 0, 0, 0, 0,
        lambda: SIZE, lambda: 1, lambda rounds: 1,
    )  # fmt: skip
    kind = MECHANISMS[name]
    options = kind.Options(clip_norm=CLIP, noise_multiplier=NOISE, delta=1e-7)
    mean = released(kind(options, setting), others + user)  # type: ignore[arg-type]
    lying_on = np.rint(mean.astype(np.float64) * COHORT / grid)

    def integers(seen: np.ndarray) -> np.ndarray:
        return np.array([((lying_on + k) * (grid / COHORT)).astype(np.float32) for k in (0, 1, -1)])

    assert impossible(mean, integers) == 0
    drawn = rng.standard_normal(SIZE, np.float32) * (NOISE * CLIP)
    before = (((others + user) * grid + drawn) / COHORT).astype(np.float32)

    def floats(seen: np.ndarray) -> np.ndarray:
        noise = (seen.astype(np.float64) * COHORT - others * grid) / (NOISE * CLIP)
        low = np.nextafter(noise.astype(np.float32), np.float32(-np.inf))
        tried = [low]
        for _ in range(2):
            tried.append(np.nextafter(tried[-1], np.float32(np.inf)))
        return np.array(
            [((others * grid + n * (NOISE * CLIP)) / COHORT).astype(np.float32) for n in tried]
        )

    assert impossible(before, floats) > 1000
    without = ((others * grid + drawn) / COHORT).astype(np.float32)
    assert impossible(without, floats) == 0, "the control itself accuses nobody falsely"


def test_a_sum_that_float32_holds_lies_on_the_grid_to_the_last_bit() -> None:
    cohort, noise = 16, 2.0**-8  # so that no sum needs more than 24 bits
    setting = Setting(
        KEY, 10**6, cohort, 4, "poisson", 0, 0, 0, 0, lambda: SIZE, lambda: 1, lambda rounds: 1
    )
    made = MECHANISMS["dp-fedavg"]
    options = made.Options(clip_norm=CLIP, noise_multiplier=noise, delta=1e-7)
    mean = released(made(options, setting), np.zeros(SIZE, np.int64))  # type: ignore[arg-type]
    steps = mean.astype(np.float64) * cohort / grid_of(CLIP)
    assert np.array_equal(steps, np.rint(steps))
    assert len(np.unique(steps % 64)) == 64


def test_a_clipped_update_is_never_above_the_clip_norm_on_the_grid() -> None:
    """Exactly, in whole numbers: what is accounted has no tolerance."""
    flat = FlatModel(build(CifgSmallOptions(hidden=32, embedding=16), 400), torch.device("cpu"))
    size = flat.values.numel()
    for seed, clip_norm in enumerate((1e-4, 0.3, 0.5, 1.0, 3e5)):
        update = torch.from_numpy(np.random.default_rng(seed).standard_normal(size, np.float32))
        for scale in (1.0, 1e-3, 1e3 * clip_norm, clip_norm / float(update.double().norm())):
            sent, total = update * scale, torch.zeros(size, dtype=torch.int64)
            Clipped(clip_norm).add(flat, total, sent, flat.norm(sent), 1, 0)
            squares = sum(int(v) ** 2 for v in total.tolist())
            assert Fraction(squares) <= Fraction(clip_norm / grid_of(clip_norm)) ** 2
            if scale == 1e3 * clip_norm:
                assert math.sqrt(squares) * grid_of(clip_norm) > clip_norm * (1 - 1e-5)
