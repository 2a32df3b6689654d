"""Factorisations of the prefix sums: sensitivity by brute force, streams against dense matrices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import minimize

from fedsim.errors import FedsimError
from fedsim.privacy.factorisations import FACTORISATIONS, Factorisation, Schema, State
from fedsim.privacy.factorisations.toeplitz import Toeplitz, squared_sensitivity
from fedsim.seeding import stream

SIZE = 3


def make(name: str, schema: Schema, **options: int | bool) -> Factorisation:
    """A factorisation by its registered name."""
    kind = FACTORISATIONS[name]
    return kind(schema, kind.Options(**options))


def fresh(index: int) -> np.ndarray:
    """Independent normal vectors by number."""
    return stream(7, "noise", index).standard_normal(SIZE)


def streamed(factorisation: Factorisation) -> np.ndarray:
    """The noise of all rounds, (rounds, SIZE)."""
    state, rows = factorisation.initial_state(SIZE), []
    for round in range(1, factorisation.schema.rounds + 1):
        row, state = factorisation.noise(round, fresh, state)
        rows.append(row)
    return np.stack(rows)


def patterns(schema: Schema) -> Iterator[list[int]]:
    """All the rounds, from 0, in which one user may take part."""
    for count in range(1, schema.participations + 1):
        for rounds in itertools.combinations(range(schema.rounds), count):
            if all(j - i >= schema.min_separation for i, j in itertools.pairwise(rounds)):
                yield list(rounds)


def brute_force(strategy: np.ndarray, schema: Schema) -> float:
    """sens^2 of a matrix without negative entries: the worst contributions all point one way."""
    assert (strategy >= 0).all()
    return max(float((strategy[:, rounds].sum(axis=1) ** 2).sum()) for rounds in patterns(schema))


SCHEMAS = [Schema(*s) for s in [(1, 1, 1), (7, 2, 3), (8, 3, 1), (11, 3, 2), (13, 4, 3), (16, 2, 9),
                                (12, 9, 4), (13, 13, 1)]]  # fmt: skip


def test_all_registered_factorisations_are_among_those() -> None:
    assert sorted(FACTORISATIONS) == ["banded", "blt", "sqrt", "tree"]


# -- the tree -------------------------------------------------------------------------------------


def trees(rounds: int, restart_every: int) -> list[tuple[int, int]]:
    """[start, end) of each tree."""
    step = restart_every or rounds
    return [(start, min(start + step, rounds)) for start in range(0, rounds, step)]


def nodes(start: int, end: int, completed: bool) -> list[list[int]]:
    """The real rounds below each node of one tree, children before parents."""
    out, width = [], 1
    while width < 2 * (end - start):
        for left in range(start, end, width):
            if left + width <= end or completed:
                out.append(list(range(left, min(left + width, end))))
        width *= 2
    if not completed:
        out = [node for node in out if len(node) <= end - start]
    return out


def indicator(schema: Schema, restart_every: int, completed: bool) -> np.ndarray:
    """The strategy matrix: a row for each node, a column for each round."""
    rows = []
    for start, end in trees(schema.rounds, restart_every):
        for below in nodes(start, end, completed):
            row = np.zeros(schema.rounds)
            row[below] = 1
            rows.append(row)
    return np.stack(rows)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize("restart_every", [0, 5, 4])
@pytest.mark.parametrize("completion", [False, True])
def test_tree_sensitivity_by_brute_force(
    schema: Schema, restart_every: int, completion: bool
) -> None:
    tree = make("tree", schema, restart_every=restart_every, completion=completion)
    expected = brute_force(indicator(schema, restart_every, completion), schema)
    assert tree.squared_sensitivity == expected


def test_sensitivity_of_epochs_of_one_participation() -> None:
    """Kairouz et al. 2021: a tree of T rounds weighs floor(log2 T) + 1, a completed one ceil."""
    schema = Schema(4 * 1600, 4, 1600)
    lone = Schema(1600, 1, 1)
    assert make("tree", lone).squared_sensitivity == 11
    assert make("tree", lone, completion=True).squared_sensitivity == 12
    for completion, weight in [(False, 11), (True, 12)]:
        tree = make("tree", schema, restart_every=1600, completion=completion)
        assert tree.squared_sensitivity == 4 * weight


@pytest.mark.parametrize("separation", [308, 341])
def test_the_production_model_of_gboard(separation: int) -> None:
    """Spanish in Spain: 2,000 rounds, noise multiplier 7, rho = 0.81 (Google's note of 2022).

    Six participations come to it if they are 308 to 341 rounds apart; the note's own numbers for
    both are not known here.
    """
    tree = make("tree", Schema(2000, 6, separation))
    assert round(tree.squared_sensitivity / (2 * 7**2), 2) == 0.81


def dense_tree(schema: Schema, restart_every: int, completed: bool) -> np.ndarray:
    """The noise of each prefix as weights of nodes, by least squares instead of recursion.

    Honaker's streaming estimate of a subtree's sum is the best linear unbiased one from the noisy
    sums in that subtree, so its weights are the pseudo-inverse's.
    """
    below = indicator(schema, restart_every, completed)
    prefixes = np.zeros((schema.rounds, len(below)))
    carried = np.zeros(len(below))
    for start, end in trees(schema.rounds, restart_every):
        for round in range(start, end):
            prefix, left = carried.copy(), start
            whole = completed and round == end - 1
            while left <= round:
                width = 1 << (round + 1 - left).bit_length() - 1
                real = range(left, round + 1 if whole else left + width)
                inside = [i for i, row in enumerate(below) if set(np.flatnonzero(row)) <= set(real)]
                target = np.zeros(schema.rounds)
                target[real] = 1
                prefix[inside] += target @ np.linalg.pinv(below[inside])
                left = real.stop
            prefixes[round] = prefix
        carried = prefixes[end - 1]
    return prefixes


@pytest.mark.parametrize("rounds", [1, 2, 7, 8, 13])
@pytest.mark.parametrize("restart_every", [0, 1, 3, 5, 6])
@pytest.mark.parametrize("completion", [False, True])
def test_tree_noise_is_that_of_honakers_estimates(
    rounds: int, restart_every: int, completion: bool
) -> None:
    """The stream is linear in the nodes: its covariance is found with unit vectors as noise."""
    schema = Schema(rounds, 1, 1)
    tree = make("tree", schema, restart_every=restart_every, completion=completion)
    asked: dict[int, int] = {}

    def unit(index: int) -> np.ndarray:
        return np.eye(4 * rounds, dtype=np.float32)[asked.setdefault(index, len(asked))]

    state, prefixes, prefix = tree.initial_state(4 * rounds), [], np.zeros(4 * rounds)
    for round in range(1, rounds + 1):
        row, state = tree.noise(round, unit, state)
        prefix = prefix + row
        prefixes.append(prefix)
    ours, dense = np.stack(prefixes), dense_tree(schema, restart_every, completion)
    np.testing.assert_allclose(ours @ ours.T, dense @ dense.T, atol=1e-5)
    np.testing.assert_allclose(tree.prefix_variances(), np.diag(dense @ dense.T), rtol=1e-12)


def test_tree_variances_are_the_published_formula() -> None:
    """Bit p of t adds 1 / (2 - 2^-p)."""
    variances = make("tree", Schema(100, 1, 1)).prefix_variances()
    for t in (1, 2, 3, 64, 100):
        bits = [p for p in range(7) if t >> p & 1]
        assert variances[t - 1] == pytest.approx(sum(1 / (2 - 2.0**-p) for p in bits))


# -- Toeplitz matrices ----------------------------------------------------------------------------


def lower(coefficients: np.ndarray, rounds: int) -> np.ndarray:
    """The dense lower-triangular Toeplitz matrix."""
    out = np.zeros((rounds, rounds))
    for lag, value in enumerate(coefficients):
        out += value * np.eye(rounds, k=-lag)
    return out


def toeplitz(name: str, schema: Schema, **options: int) -> tuple[Toeplitz, np.ndarray]:
    """A Toeplitz factorisation and its dense C."""
    made = make(name, schema, **options)
    assert isinstance(made, Toeplitz)
    return made, lower(made.coefficients, schema.rounds)


def loss(strategy: np.ndarray, final: bool = False) -> float:
    """The mean (or last) variance of the prefix sums x the squared norm of the first column."""
    released = np.tri(len(strategy)) @ np.linalg.inv(strategy)
    variances = (released**2).sum(axis=1)
    return float((variances[-1] if final else variances.mean()) * (strategy[:, 0] ** 2).sum())


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize("name", ["sqrt", "banded", "blt"])
def test_toeplitz_sensitivity_by_brute_force(name: str, schema: Schema) -> None:
    made, strategy = toeplitz(name, schema)
    assert made.squared_sensitivity == pytest.approx(brute_force(strategy, schema), rel=1e-12)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
@pytest.mark.parametrize("name", ["sqrt", "banded", "blt"])
def test_toeplitz_noise_and_variances_are_those_of_the_dense_inverse(
    name: str, schema: Schema
) -> None:
    vectors = np.stack([fresh(round) for round in range(1, schema.rounds + 1)])
    made, strategy = toeplitz(name, schema)
    inverse = np.linalg.inv(strategy)
    np.testing.assert_allclose(streamed(made), inverse @ vectors, rtol=1e-4, atol=1e-5)
    released = (np.tri(schema.rounds) @ inverse) ** 2
    np.testing.assert_allclose(made.prefix_variances(), released.sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("coefficients", [[1, -0.5, 0.25], [0.2, 0.9], [1, 0, 0.5, -0.7], [-1, 2]])
@pytest.mark.parametrize("schema", [Schema(7, 3, 1), Schema(7, 3, 2), Schema(8, 2, 4)], ids=str)
def test_other_coefficients_are_bounded_from_above(
    coefficients: list[float], schema: Schema
) -> None:
    """Against users who choose their rounds and the signs of what they send."""
    strategy = lower(np.array(coefficients), schema.rounds)
    worst = max(
        float(((strategy[:, rounds] @ signs) ** 2).sum())
        for rounds in patterns(schema)
        for signs in itertools.product([1, -1], repeat=len(rounds))
    )
    bound = squared_sensitivity(np.array(coefficients), schema)
    assert bound >= worst - 1e-12
    if len(coefficients) <= schema.min_separation:
        assert bound == pytest.approx(worst)


def test_the_square_root_squared_is_the_prefix_sum() -> None:
    _, strategy = toeplitz("sqrt", Schema(40, 1, 1))
    np.testing.assert_allclose(strategy @ strategy, np.tri(40), atol=1e-12)


# -- the optimised ones ---------------------------------------------------------------------------


@pytest.mark.parametrize(("rounds", "bands"), [(5, 2), (6, 3), (8, 4), (4, 4)])
def test_bands_are_those_of_an_optimiser_that_knows_nothing(rounds: int, bands: int) -> None:
    made, strategy = toeplitz("banded", Schema(rounds, 1, bands))
    assert len(made.coefficients) == bands
    naive = minimize(
        lambda tail: loss(lower(np.concatenate([[1.0], tail]), rounds)),
        np.zeros(bands - 1),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-13, "maxfev": 20_000},
    )
    assert loss(strategy) == pytest.approx(naive.fun, rel=1e-9)
    expected = np.concatenate([[1.0], naive.x])
    np.testing.assert_allclose(
        made.coefficients, expected / np.linalg.norm(expected), rtol=0, atol=1e-5
    )


def test_bands_are_better_than_the_square_root_cut_off_and_cost_one_a_participation() -> None:
    schema = Schema(100, 4, 16)
    made, strategy = toeplitz("banded", schema)
    root = toeplitz("sqrt", schema)[0].coefficients[:16]
    assert made.squared_sensitivity == pytest.approx(4, rel=1e-12)
    assert loss(strategy) < 0.99 * loss(lower(root, 100))
    for lag in range(16):
        for step in (-0.01, 0.01):
            moved = made.coefficients.copy()
            moved[lag] += step
            assert loss(lower(moved, 100)) > loss(strategy)


def test_bands_that_let_a_users_rounds_meet_are_refused() -> None:
    assert make("banded", Schema(9, 3, 3), bands=2).squared_sensitivity == pytest.approx(3)
    with pytest.raises(FedsimError, match="lower it to 3 or less"):
        make("banded", Schema(9, 3, 3), bands=4)


def test_three_buffers_are_those_of_jax_privacy() -> None:
    """jax_privacy's optimiser at n = 512, min_sep = 100, 4 participations: a loss of 7.4394."""
    made = make("blt", Schema(512, 4, 100), buffers=3)
    error = np.sqrt(made.prefix_variances()[-1] * made.squared_sensitivity)
    assert error == pytest.approx(7.4394, abs=5e-5)
    np.testing.assert_allclose(np.sort(made.theta), [0.62204, 0.97504, 0.9999999], atol=2e-5)  # type: ignore[attr-defined]


def test_variances_of_long_runs_are_those_of_the_recursion() -> None:
    """Four poles close to 1 leave the quotient of polynomials enough digits."""
    made = make("blt", Schema(2000, 6, 330), buffers=4)
    theta, omega = made.theta, made.omega  # type: ignore[attr-defined]
    buffers, rows = np.zeros(4), []
    for round in range(2000):
        rows.append(float(round == 0) - omega @ buffers)
        buffers = theta * buffers + rows[-1]
    expected = np.cumsum(np.cumsum(rows) ** 2)
    np.testing.assert_allclose(made.prefix_variances(), expected, rtol=1e-6)


def test_more_buffers_are_no_worse_and_all_beat_the_square_root_for_users_who_return() -> None:
    schema = Schema(200, 4, 50)
    made = [make("blt", schema, buffers=n) for n in (1, 2, 3, 4)] + [make("sqrt", schema)]
    losses = [one.prefix_variances()[-1] * one.squared_sensitivity for one in made]
    assert losses[:4] == sorted(losses[:4], reverse=True)
    assert max(losses[:4]) < losses[4]


# -- what a server relies on ----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FACTORISATIONS))
def test_a_round_leaves_its_arguments_as_they_were_and_keeps_the_form_of_the_state(
    name: str,
) -> None:
    made = make(name, Schema(11, 3, 3))
    state: State = made.initial_state(SIZE)
    form = {key: (value.shape, value.dtype) for key, value in state.items()}
    kept = {index: fresh(index) for index in range(100)}
    for round in range(1, 12):
        before = {key: value.copy() for key, value in state.items()}
        row, new = made.noise(round, kept.__getitem__, state)
        again, _ = made.noise(round, kept.__getitem__, state)
        assert row.dtype == np.float64
        assert row.shape == (SIZE,)
        assert np.array_equal(row, again)
        assert {key: (value.shape, value.dtype) for key, value in new.items()} == form
        assert all(np.array_equal(state[key], before[key]) for key in form)
        assert all(np.array_equal(kept[index], fresh(index)) for index in kept)
        if name != "blt":  # a checkpoint a round ago costs one array, not a copy of the state
            assert sum(new[key] is not state[key] for key in form) <= 1
        state = new


@pytest.mark.parametrize("name", sorted(FACTORISATIONS))
def test_rounds_that_are_not_accounted_are_refused(name: str) -> None:
    made = make(name, Schema(5, 1, 1))
    for round in (0, 6):
        with pytest.raises(ValueError, match="of 5"):
            made.noise(round, fresh, made.initial_state(SIZE))


def test_a_schema_without_rounds_is_refused() -> None:
    with pytest.raises(FedsimError, match="min_separation = 0"):
        Schema(10, 1, 0)
