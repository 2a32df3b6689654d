"""The cells of a comparison: strategies times axes, each with its overrides and search ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.overrides import parse
from fedsim.search_space import Range
from fedsim.studies.simulated import load_cell
from server.optimizers import OPTIMIZERS
from server.strategies import STRATEGIES

_VARIED = {"seed": "--seeds", "strategy": "--strategies", "strategy.name": "--strategies"}


@dataclass(frozen=True)
class Cell:
    """One strategy at one value of each axis.

    at: (axis, value) in their order. keys: the overrides of its runs, but for seeds and what is
    tuned; pinned: the config keys that they set.
    """

    strategy: str
    at: tuple[tuple[str, Any], ...]
    keys: tuple[str, ...]
    pinned: frozenset[str]

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join([self.strategy, *(f"{axis}={value}" for axis, value in self.at)])

    @property
    def columns(self) -> tuple[tuple[str, Any], ...]:
        """What names it in tables."""
        return (("strategy", self.strategy), *self.at)


@dataclass(frozen=True)
class Plan:
    """What is compared: `axes` are config keys with the texts of their values; `overrides` and
    `ranges` go to all strategies, or to one as in `fedsgd:optimizer.lr=4`."""

    strategies: tuple[str, ...]
    preset: str
    overrides: tuple[str, ...] = ()
    axes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ranges: tuple[str, ...] = ()

    def cells(self) -> list[Cell]:
        """All of them, strategy by strategy.

        An axis whose key has no effect with a strategy is left out of its configs: its cells along
        that axis are the same runs. Raises FedsimError for overrides that the axes contradict.
        """
        _check(self)
        return [self._cell(s, at) for s in self.strategies for at in product(*self._values())]

    def config(self, cell: Cell, seed: int, tuned: Mapping[str, float] | None = None) -> Config:
        """Of one of its runs."""
        values = [f"{key}={value!r}" for key, value in (tuned or {}).items()]
        keys = [*cell.keys, *values, f"seed={seed}"]
        try:
            return load_cell(self.preset, keys)
        except FedsimError as error:
            raise FedsimError(f"{self._axis_at_fault(cell, keys)}{error}") from None

    def searched(self, cell: Cell) -> dict[str, Range]:
        """What is tuned in a cell: what its strategy and server optimizer name, but for keys that
        have no effect or that overrides and axes set."""
        config = self.config(cell, 1)
        strategy = STRATEGIES[config.strategy.name]
        own = {f"optimizer.{k}": r for k, r in OPTIMIZERS[config.optimizer.name].search.items()}
        ranges = {**strategy.search, **own}
        ranges |= {key: given for key, given in self._given(cell.strategy).items() if key in ranges}
        skipped = {*strategy.without_effect, *cell.pinned}
        return {key: ranges[key] for key in sorted(ranges) if key not in skipped}

    def check_ranges(self, cells: Sequence[Cell]) -> None:
        """Raises FedsimError for a range that no cell searches."""
        known = {strategy: set[str]() for strategy in self.strategies}
        for cell in cells:
            known[cell.strategy] |= set(self.searched(cell))
        for text in self.ranges:
            whose, key = self._whose(text.partition("=")[0], "--range")
            searched = set().union(*(known[s] for s in ([whose] if whose else known)))
            if key not in searched:
                there = ", ".join(sorted(searched)) or "nothing"
                raise FedsimError(f"--range {text}: {key} is not searched; searched is {there}.")

    def _cell(self, strategy: str, at: Sequence[tuple[str, str]]) -> Cell:
        ignored = STRATEGIES[strategy].without_effect
        keys = [f"strategy={strategy}"]
        for override in self.overrides:
            whose, key = self._whose(override, "An override")
            if whose in ("", strategy):
                keys.append(key)
        keys += [f"{axis}={value}" for axis, value in at if axis not in ignored]
        pinned = frozenset(key.partition("=")[0].strip() for key in keys)
        values = tuple((axis, parse(f"{axis}={value}")[1]) for axis, value in at)
        return Cell(strategy, values, tuple(keys), pinned)

    def _axis_at_fault(self, cell: Cell, keys: Sequence[str]) -> str:
        """The axis, with its value, that `keys` are no config with and are one without."""
        for axis, value in cell.at:
            try:
                load_cell(
                    self.preset, [key for key in keys if key.partition("=")[0].strip() != axis]
                )
            except FedsimError:
                continue
            return f"--axis {axis}={value}: "
        return ""

    def _values(self) -> list[list[tuple[str, str]]]:
        return [[(axis, value) for value in values] for axis, values in self.axes]

    def _given(self, strategy: str) -> dict[str, Range]:
        """Of `ranges`; those for the one strategy go before those for all."""
        out: dict[str, Range] = {}
        for text in sorted(self.ranges, key=lambda text: bool(self._whose(text, "--range")[0])):
            whose, rest = self._whose(text, "--range")
            if whose in ("", strategy):
                key, _, ends = rest.partition("=")
                out[key.strip()] = _range(ends, text)
        return out

    def _whose(self, text: str, what: str) -> tuple[str, str]:
        """(strategy or "", the rest) of a text such as fedsgd:optimizer.lr=4."""
        strategy, colon, rest = text.partition(":")
        if not colon or "=" in strategy:
            return "", text
        if strategy not in self.strategies:
            raise FedsimError(
                f"{what} '{text}' is for strategy '{strategy}', which is not among --strategies."
            )
        return strategy, rest


def parse_axes(texts: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """From texts such as client.epochs=1,5. Raises FedsimError for what is no axis."""
    out: dict[str, tuple[str, ...]] = {}
    for text in texts:
        key, equals, rest = text.partition("=")
        key, values = key.strip(), tuple(v.strip() for v in rest.split(",") if v.strip())
        if not equals or not key or not values:
            raise FedsimError(f"--axis '{text}' has no values; write it as client.epochs=1,5.")
        if key in _VARIED:
            raise FedsimError(f"--axis {key} is what {_VARIED[key]} is for; use that.")
        if key in out:
            raise FedsimError(f"--axis {key} is given twice; put its values into one.")
        for value in values:
            if values.count(value) > 1:
                raise FedsimError(f"--axis {key} names {value} twice; leave one out.")
        out[key] = values
    return tuple(out.items())


def parse_strategies(text: str) -> tuple[str, ...]:
    """Comma-separated names."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise FedsimError("--strategies names none; give at least one, such as fedavg,fedsgd.")
    for name in names:
        STRATEGIES[name]  # raises for one that does not exist
        if names.count(name) > 1:
            raise FedsimError(f"--strategies names '{name}' twice; leave one out.")
    return names


def _check(plan: Plan) -> None:
    axes = {axis for axis, _ in plan.axes}
    for override in plan.overrides:
        key = plan._whose(override, "An override")[1].partition("=")[0].strip()
        if key in _VARIED:
            raise FedsimError(f"The comparison sets {key} itself: use {_VARIED[key]}.")
        if key in axes:
            raise FedsimError(f"{key} is an axis and cannot be set too; leave one of both out.")


def _range(ends: str, text: str) -> Range:
    """LOW,HIGH."""
    try:
        low, high = (float(end) for end in ends.split(","))
    except ValueError:
        low = high = math.nan
    if not 0 < low < high < math.inf:
        raise FedsimError(
            f"--range {text} is not accepted: write it as client.lr=0.1,10, the lower end first."
        )
    return Range(low, high)
