"""FedAvg with a server optimizer that has a name of its own in the literature.

FedAvgM is Hsu et al. 2019, the three adaptive ones are Reddi et al. 2021, algorithm 2. Their
formulas are in `server.optimizers`; `strategy=fedadam` is `strategy=fedavg optimizer=adam`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from fedsim.config import Config
from fedsim.errors import FedsimError
from server.strategy import FederatedStrategy


class OfOptimizer(FederatedStrategy):
    """The base with the server optimizer that `implies` names, and no other."""

    @classmethod
    def check(cls, config: Config) -> None:
        """The optimizer is what the name says."""
        chosen, own = config.optimizer.name, cls.implies["optimizer"]
        if chosen != own:
            raise FedsimError(
                f"strategy = '{config.strategy.name}' is FedAvg with optimizer '{own}', not "
                f"'{chosen}'; set optimizer={own}, or strategy=fedavg optimizer={chosen}."
            )


class FedAvgM(OfOptimizer):
    """Server momentum."""

    implies: ClassVar[Mapping[str, Any]] = {"optimizer": "momentum"}


class FedAdam(OfOptimizer):
    """Adaptive, with an exponential mean of squares."""

    implies: ClassVar[Mapping[str, Any]] = {"optimizer": "adam"}


class FedYogi(OfOptimizer):
    """Adaptive, with squares that are added and taken away."""

    implies: ClassVar[Mapping[str, Any]] = {"optimizer": "yogi"}


class FedAdagrad(OfOptimizer):
    """Adaptive, with the sum of squares."""

    implies: ClassVar[Mapping[str, Any]] = {"optimizer": "adagrad"}
