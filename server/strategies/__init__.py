"""Strategies by name. Adding one is a file here and a line below."""

from fedsim.registry import Registry
from server.strategies.fedavg import FedAvg
from server.strategies.fedsgd import FedSGD
from server.strategy import FederatedStrategy

STRATEGIES: Registry[type[FederatedStrategy]] = Registry("strategy")
STRATEGIES.register("fedavg")(FedAvg)
STRATEGIES.register("fedsgd")(FedSGD)
