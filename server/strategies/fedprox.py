"""FedProx (Li et al. 2020): FedAvg whose local objective pulls towards the global model."""

from collections.abc import Mapping
from typing import Any, ClassVar

from fedsim.config import Config
from fedsim.errors import FedsimError
from fedsim.search_space import Range
from server.strategy import WITHOUT_DP_SGD, FederatedStrategy


class FedProx(FederatedStrategy):
    """Local steps on f(w) + mu/2 |w - w_t|^2, equation 2; mu is `client.proximal_mu`.

    Whole local epochs: the paper's stragglers with partial work are not simulated.
    """

    implies: ClassVar[Mapping[str, Any]] = {"client.proximal_mu": 0.01}
    mechanisms = WITHOUT_DP_SGD
    mechanisms_because = "adds a term to local steps that DP-SGD does not have"
    search: ClassVar[Mapping[str, Range]] = {
        **FederatedStrategy.search,
        "client.proximal_mu": Range(0.001, 1.0),
    }

    @classmethod
    def check(cls, config: Config) -> None:
        """Without the term it would be FedAvg."""
        if not config.client.proximal_mu:
            raise FedsimError(
                "strategy = 'fedprox' with client.proximal_mu = 0 is FedAvg; set "
                "client.proximal_mu=0.01, or strategy=fedavg."
            )
