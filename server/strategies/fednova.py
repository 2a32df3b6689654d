"""FedNova (Wang et al. 2020): updates are normalised by how many local steps made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fedsim.updates import Aggregate, UserResult
from server.individual import Reweighed
from server.strategy import FederatedStrategy


class FedNova(FederatedStrategy):
    """x + tau_eff sum_i p_i delta_i / |a_i|_1 with p_i = n_i / n and tau_eff = sum_i p_i |a_i|_1.

    Equation 6 with the tau_eff of section 4, which keeps the server's step as long as FedAvg's.
    |a_i|_1 is the number of local steps, epochs x ceil(n_i / batch size); with
    `client.proximal_mu` later steps count for more, and it is their sum (section 3, FedProx).
    """

    one_reply_per_user = True
    mechanisms = ("none",)
    mechanisms_because = "weighs each user's update by its number of steps"
    implies: ClassVar[Mapping[str, Any]] = {"optimizer": "sgd"}

    def aggregate(self) -> Aggregate:
        """The normalised sum: its integers hold n_i delta_i / |a_i|_1."""
        layout, contribution = self.state.parameters.layout, self._contribution()
        return Reweighed(layout, contribution, lambda r: 1 / self._effort(r), self._divisor)

    def _divisor(self, results: list[UserResult]) -> float:
        """n / tau_eff."""
        n = sum(r.sequences for r in results)
        return n**2 / sum(r.sequences * self._effort(r) for r in results)

    def _effort(self, result: UserResult) -> float:
        """|a_i|_1 of a user in the round that is under way; at least 1."""
        client, server = self.config.client, self.config.server
        steps = client.steps(result.sequences)
        shrink = abs(1 - client.lr_in(self.state.round + 1, server.rounds) * client.proximal_mu)
        return float(sum(shrink**k for k in range(steps))) if client.proximal_mu else float(steps)
