"""Server optimizers on the aggregated update (Reddi et al. 2021, Adaptive Federated Optimization).

Each is pure over explicit state: `step(parameters, mean_update, state)` returns the new
parameters and state, so that a checkpoint holds everything. The mean update plays the role of the
negative gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from fedsim.options import Options as BaseOptions
from fedsim.registry import Registry
from fedsim.search_space import Range

State = dict[str, np.ndarray]
OPTIMIZERS: Registry[type[ServerOptimizer]] = Registry("optimizer")


class ServerOptimizer:
    """Base: options in, pure steps out."""

    Options: ClassVar[type[BaseOptions]]
    search: ClassVar[Mapping[str, Range]] = {"lr": Range(0.1, 3.0)}  # of its options, for tuning

    def __init__(self, options: BaseOptions) -> None:
        self.options = options

    def initial_state(self, size: int) -> State:
        """State before round 1, for `size` parameters."""
        return {}

    def step(
        self, parameters: np.ndarray, update: np.ndarray, state: State
    ) -> tuple[np.ndarray, State]:
        """New float32 parameters and the new state; arguments are left as they were."""
        raise NotImplementedError


class SgdOptions(BaseOptions):
    """Plain step: lr = 1 is FedAvg's own averaging."""

    lr: float = Field(1.0, gt=0)


@OPTIMIZERS.register("sgd")
class Sgd(ServerOptimizer):
    """w + lr * update."""

    Options = SgdOptions
    options: SgdOptions

    def step(
        self, parameters: np.ndarray, update: np.ndarray, state: State
    ) -> tuple[np.ndarray, State]:
        """One step."""
        out = np.float32(self.options.lr) * update
        return np.add(parameters, out, out=out), state


class MomentumOptions(BaseOptions):
    """FedAvgM (Hsu et al. 2019)."""

    lr: float = Field(1.0, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False


@OPTIMIZERS.register("momentum")
class Momentum(ServerOptimizer):
    """v = momentum * v + update; w + lr * v, or with Nesterov's look-ahead."""

    Options = MomentumOptions
    options: MomentumOptions

    def initial_state(self, size: int) -> State:
        """Zero velocity."""
        return {"velocity": np.zeros(size, np.float32)}

    def step(
        self, parameters: np.ndarray, update: np.ndarray, state: State
    ) -> tuple[np.ndarray, State]:
        """One step."""
        momentum, lr = np.float32(self.options.momentum), np.float32(self.options.lr)
        velocity = momentum * state["velocity"] + update
        direction = update + momentum * velocity if self.options.nesterov else velocity
        return parameters + lr * direction, {"velocity": velocity}


class AdaptiveOptions(BaseOptions):
    """Reddi et al. 2021, algorithm 2; `tau` is the degree of adaptivity, no bias correction."""

    lr: float = Field(0.01, gt=0)
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.99, ge=0, lt=1)
    tau: float = Field(1e-3, gt=0)


class _Adaptive(ServerOptimizer):
    Options = AdaptiveOptions
    options: AdaptiveOptions
    search: ClassVar[Mapping[str, Range]] = {"lr": Range(0.001, 0.1)}

    def initial_state(self, size: int) -> State:
        """m = 0 and v = tau^2, as the paper asks for v >= tau^2."""
        tau2 = np.float32(self.options.tau**2)
        return {"m": np.zeros(size, np.float32), "v": np.full(size, tau2, np.float32)}

    def second_moment(self, v: np.ndarray, update: np.ndarray) -> np.ndarray:
        """The next v."""
        raise NotImplementedError

    def step(
        self, parameters: np.ndarray, update: np.ndarray, state: State
    ) -> tuple[np.ndarray, State]:
        """w + lr * m / (sqrt(v) + tau)."""
        beta_1 = np.float32(self.options.beta_1)
        m = beta_1 * state["m"] + (1 - beta_1) * update
        v = self.second_moment(state["v"], update)
        scaled = m / (np.sqrt(v) + np.float32(self.options.tau))
        return parameters + np.float32(self.options.lr) * scaled, {"m": m, "v": v}


@OPTIMIZERS.register("adam")
class Adam(_Adaptive):
    """FedAdam."""

    def second_moment(self, v: np.ndarray, update: np.ndarray) -> np.ndarray:
        """beta_2 v + (1 - beta_2) update^2."""
        beta_2 = np.float32(self.options.beta_2)
        return beta_2 * v + (1 - beta_2) * update**2


@OPTIMIZERS.register("yogi")
class Yogi(_Adaptive):
    """FedYogi."""

    def second_moment(self, v: np.ndarray, update: np.ndarray) -> np.ndarray:
        """v - (1 - beta_2) update^2 sign(v - update^2)."""
        squared = update**2
        return v - (1 - np.float32(self.options.beta_2)) * squared * np.sign(v - squared)


class AdagradOptions(BaseOptions):
    """FedAdagrad; the paper uses beta_1 = 0."""

    lr: float = Field(0.01, gt=0)
    beta_1: float = Field(0.0, ge=0, lt=1)
    tau: float = Field(1e-3, gt=0)


@OPTIMIZERS.register("adagrad")
class Adagrad(_Adaptive):
    """v + update^2."""

    Options = AdagradOptions  # type: ignore[assignment]

    def second_moment(self, v: np.ndarray, update: np.ndarray) -> np.ndarray:
        """The sum of all squares."""
        return v + update**2
